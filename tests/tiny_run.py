"""train.py with one more network, small enough to train in a test: `python tests/tiny_run.py --model_name=tiny ...`."""

import os
import pathlib
import runpy
import sys

ROOT = pathlib.Path(__file__).parent.parent
BLOCKS = ("r1_k3_a1_p1_s22_e1_i8_o8", "r2_k3.5_a1.1_p1.1_s11_e3_i8_o8_se0.5_sw")


def register():
    """Adds the network "tiny" to the released ones."""
    from mixnet_tf.networks.block_strings import GlobalParams
    from mixnet_tf.networks.variants import VARIANTS

    VARIANTS["tiny"] = (BLOCKS, GlobalParams(stem_size=8, feature_size=16))


def interrupt_at(monkeypatch, step, signal_number):
    """Has a run send itself a signal after it has reported `step`."""
    from mixnet_tf.training.metrics import MetricsLog

    report = MetricsLog.train

    def report_and_signal(self, reported, *others):
        report(self, reported, *others)
        if reported == step:
            os.kill(os.getpid(), signal_number)

    monkeypatch.setattr(MetricsLog, "train", report_and_signal)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    import mixnet_launch

    mixnet_launch.keep_quiet()  # before TensorFlow is imported, as the script itself would
    register()
    script = sys.argv.pop(1)
    runpy.run_path(str(ROOT / script), run_name="__main__")
