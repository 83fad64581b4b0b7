"""The programs of a TPU core, as TensorFlow hands them to XLA, and as the compiler of `make tpu` takes them."""

import os
import re
import subprocess
import sys

import pytest
import tensorflow as tf
from scripts import ROOT, run
from tiny import DETECTOR_NETWORK

from mixnet_tf.files import json_text, read_json
from mixnet_tf.networks import TPU_FORMS, Forms

sys.path.append(str(ROOT / "benchmarks" / "tpu"))
import estimates
import hlo
import programs
import scheduled

# Ops of the network "tiny"; a change that adds some on purpose changes these numbers.
_OPS = {programs.TRAINING: 4401, programs.EVALUATION: 452, programs.INFERENCE: 298}
# Lines of a compiled program, shortened.
_COMPILED = """HloModule a, is_scheduled=true

%fused_computation (param_0: bf16[8]) -> bf16[8] {
  ROOT %negate.1 = bf16[8]{0} negate(%param_0), backend_config={"window_config":{"estimated_cycles":"7"}}
}

ENTRY %main.0 (XLA_Args.0: f32[8]) -> f32[8] {
  %XLA_Args.0 = f32[8]{0:T(128)} parameter(0)
  %copy-start = (bf16[8]{0}, bf16[8]{0}, u32[]{:S(2)}) copy-start(%XLA_Args.0), backend_config={"flag_configs":[]}
  %fusion.5 = (f32[8]{0:T(128)}, bf16[8,16]{1,0}) fusion(%XLA_Args.0), kind=kOutput, calls=%fused_computation, metadata={op_name="gradient_tape/tiny_1/block_0_mixconv_1/depthwise_1/DepthwiseConv2dNativeBackpropInput" source_line=7}, backend_config={"window_config":{"estimated_cycles":"300"}}
  %Sub.1 = f32[8]{0} fusion(%fusion.5), calls=%fused_computation, metadata={op_name="Sub_98"}, backend_config={"window_config":{"estimated_cycles":"60"}}
  %mul.4 = f32[8]{0} fusion(%Sub.1), calls=%fused_computation, metadata={op_name="gradient_tape/tiny_1/block_0_expand_bn_1/mul"}, backend_config={"window_config":{"estimated_cycles":"50"}}
  %block_0 = f32[8]{0} fusion(%Sub.1), calls=%fused_computation, metadata={op_name="tiny_1/block_0_mixconv_1/depthwise"}, backend_config={"window_config":{"estimated_cycles":"200"}}
  ROOT %copy.3 = f32[8]{0} copy(%Sub.1), backend_config={"window_config":{"estimated_cycles":"40"}}
}

%after (param_0: bf16[8]) -> bf16[8] {
  ROOT %negate.2 = bf16[8]{0} negate(%param_0), backend_config={"window_config":{"estimated_cycles":"7"}}
}
"""  # noqa: E501
on_tpu = pytest.mark.skipif(not estimates.ENVIRONMENT.exists(), reason="needs the TPU's compiler: make tpu")


def _program(step, **fields):
    return programs.Program("tiny", step, "bfloat16", image_size=32, images=8)._replace(**fields)


def _section(title):
    """The text of a section of PERFORMANCE.md."""
    guide = (ROOT / "docs" / "PERFORMANCE.md").read_text()
    return guide.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.fixture(scope="module")
def emitted(tiny_network):
    """The text of each step's program."""
    return {step: programs.emit(_program(step))[1] for step in programs.STEPS}


@pytest.mark.parametrize("step", programs.STEPS)
def test_a_program_has_nothing_that_a_tpu_refuses_and_does_not_grow_unseen(step, emitted):
    assert hlo.refused(emitted[step]) == []
    assert sum(hlo.ops(emitted[step]).values()) == pytest.approx(_OPS[step], rel=0.03)


def test_the_training_step_has_the_gradients_and_the_averages(emitted):
    ops = hlo.ops(emitted[programs.TRAINING])
    normalizations = 10
    assert ops["batch-norm-training"] == ops["batch-norm-grad"] == normalizations
    assert hlo.ops(emitted[programs.EVALUATION])["batch-norm-inference"] == normalizations
    assert ops["convolution"] > 2.5 * hlo.ops(emitted[programs.INFERENCE])["convolution"]


@pytest.mark.parametrize(
    "forms, name, convolutions, fused",
    [
        (Forms(), "", 8, 3),
        (Forms("dense"), "-dense_pointwise", 6, 3),
        (TPU_FORMS, "-dense_pointwise-dense_depthwise-one_pass_batch_norm", 6, 0),
    ],
)
def test_blocks_alone_have_the_convolutions_and_normalizations_of_their_forms(
    forms, name, convolutions, fused, tiny_network
):
    program = _program(programs.TRAINING, **forms._asdict(), blocks="1")
    assert str(program) == f"tiny-blocks1-training-bfloat16-8x32{name}"
    text = programs.emit(program)[1]
    ops = hlo.ops(text)
    assert hlo.refused(text) == []
    assert ops["convolution"] == 3 * convolutions  # forward, gradients of input and kernel
    assert ops.get("batch-norm-training", 0) == ops.get("batch-norm-grad", 0) == fused


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda x: tf.cast(x, tf.float64) * 2.0, "float64: "),
        (lambda x: tf.boolean_mask(x, x > 0.0), "a shape that is known only when it runs: "),
        (lambda x: tf.linalg.eigh(x[tf.newaxis] * x[:, tf.newaxis])[0], "a call to the host or to a library"),
    ],
)
def test_what_a_tpu_refuses_is_found(function, what):
    text = tf.function(function, jit_compile=True).experimental_get_compiler_ir(tf.ones(4))(stage="hlo_no_metadata")
    assert [line for line in hlo.refused(text) if line.startswith(what)]


def test_the_host_cannot_be_called_and_strings_cannot_be_emitted():
    for function in (lambda x: tf.numpy_function(abs, [x], tf.float32), tf.strings.as_string):
        with pytest.raises((tf.errors.OpError, ValueError, TypeError)):
            tf.function(function, jit_compile=True).experimental_get_compiler_ir(tf.ones(4))(stage="hlo")


def test_the_digest_is_the_programs(tiny_network, emitted):
    text = emitted[programs.INFERENCE]
    again = programs.emit(_program(programs.INFERENCE))[1]
    assert again != text and hlo.digest(again) == hlo.digest(text)  # other numbers in the names
    assert re.fullmatch("[0-9a-f]{12}", hlo.digest(text))
    assert hlo.digest(text.replace("logistic(", "tanh(", 1)) != hlo.digest(text)


def test_the_schedule_has_the_cycles_of_the_entry_by_layer_and_kind():
    ops = scheduled.schedule(_COMPILED)
    assert [(op.layer, op.op, op.cycles) for op in ops] == [
        ("block_0_mixconv", "DepthwiseConv2dNativeBackpropInput", 300),
        ("", "Sub", 60),
        ("block_0_expand_bn", "mul", 50),
        ("block_0_mixconv", "depthwise", 200),
        ("", "copy", 40),
    ]
    assert ops[0].shape == "(f32[8]{0:T(128)}, bf16[8,16]{1,0})"
    assert list(scheduled.by_kind(ops).items()) == [
        ("depthwise convolution, gradient of the input", 300),
        ("depthwise convolution, forward", 200),
        ("moving averages of the weights", 60),
        ("batch normalization, gradient", 50),
        ("copy", 40),
    ]


def test_what_is_in_the_results_is_not_compiled_again(emitted, tmp_path, monkeypatch):
    calls = []

    def compile_for(serialized, topology, folder):
        calls.append(topology)
        return {"flops": 1.0}, _COMPILED

    monkeypatch.setattr(programs, "emit", lambda program: (b"", emitted[program.step]))
    monkeypatch.setattr(estimates, "RESULTS", tmp_path)
    monkeypatch.setattr(estimates, "ENVIRONMENT", tmp_path / "none")
    program = _program(programs.INFERENCE, images=2)
    assert estimates.estimate(program, "v5e", compile_missing=False) is None
    with pytest.raises(ValueError, match="`make tpu` installs it"):
        estimates.estimate(program, "v5e")
    monkeypatch.setattr(estimates, "check", lambda: None)
    monkeypatch.setattr(estimates, "compile_for", compile_for)
    found = estimates.estimate(program, "v5e")
    assert (found["cycles"], found["cycles_per_image"], found["flops"]) == (650, 325, 1.0)
    assert found["largest"][0]["layer"] == "block_0_mixconv"
    assert estimates.estimate(program, "v5e") == found and calls == ["v5e"]
    estimates.estimate(program, "v4")
    assert calls == ["v5e", "v4"]


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ("RESOURCE_EXHAUSTED: Ran out of memory in hbm", ValueError, "does not fit into the memory of a v5e core: RES"),
        ("Segmentation fault", RuntimeError, "failed with 3:\nSegmentation fault"),
    ],
)
def test_a_compilation_that_fails_says_why(said, error, message, tmp_path, monkeypatch):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\necho {said} >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(estimates, "ENVIRONMENT", tmp_path)
    with pytest.raises(error, match=message):
        estimates.compile_for(b"", "v5e", str(tmp_path / "kept"))


def test_a_row_of_the_table_without_a_result_says_so(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(estimates, "RESULTS", tmp_path)
    code, out, err = run(capfd, "benchmarks/tpu/table.py")
    rows = [line.split() for line in out.splitlines() if line.strip().startswith(("mixnet", "mobilenet", "Efficient"))]
    assert code == 0, err
    asked = "mixnet-l-training-bfloat16-128x224-dense_pointwise-dense_depthwise-one_pass_batch_norm"
    assert [asked, "not", "measured"] in [row[:3] for row in rows] and len(rows) > 10
    assert all(row[1:3] == ["not", "measured"] for row in rows)


def test_the_committed_results_are_named_after_their_programs():
    results = sorted((ROOT / "benchmarks" / "tpu" / "results").glob("*.json"))
    assert results
    for path in results:
        found = read_json(path)
        assert path.stem == f"{programs.Program(**found['program'])}-{found['topology']}-{found['digest']}"
        assert sum(found["kinds"].values()) == found["cycles"]


def test_the_figures_of_the_guide_are_those_of_the_results():
    results = [read_json(path) for path in (ROOT / "benchmarks" / "tpu" / "results").glob("*.json")]
    rows = re.findall(r"^\| `(\S+)` \| (.*) \|$", _section("On a TPU, by its compiler"), re.MULTILINE)
    assert rows
    for name, cells in rows:
        measured = [
            [
                f"{found['cycles_per_image'] / 1e6:.3f}",
                f"{found['flops'] / 1e9:.0f}",
                *(f"{found[f'{part}_bytes'] / 1e9:.2f}" for part in ("traffic", "argument", "temporary")),
                f"{found['compile_seconds'] / 60:.0f}",
            ]
            for found in results
            if str(programs.Program(**found["program"])) == name and found["topology"] == "v5e"
        ]
        assert cells.split(" | ") in measured


def test_the_hours_of_the_guide_are_those_of_the_results():
    """At 1.5 GHz, at which a v5e's memory of 819 GB/s keeps up with each of these steps."""
    results = [read_json(path) for path in (ROOT / "benchmarks" / "tpu" / "results").glob("*.json")]
    guide = (ROOT / "docs" / "TRAINING.md").read_text()
    rows = re.findall(r"^\| `(\S+)` \| (\S+) \| (\S+) \| (\S+) \| (\S+) \|$", guide, re.MULTILINE)
    assert rows
    for network, cycles, eight, many, minutes in rows:
        program = programs.Program(network, programs.TRAINING, "bfloat16", 224, 128, None, *TPU_FORMS)
        [found] = [
            found for found in results if programs.Program(**found["program"]) == program and found["topology"] == "v5e"
        ]
        seconds = found["cycles"] / 1.5e9
        assert seconds > found["traffic_bytes"] / 819e9
        hours = seconds / 128 * 350 * 1_281_167 / 3600
        shown = (f"{found['cycles_per_image'] / 1e6:.3f}", f"{hours / 8:.1f}", f"{hours / 32:.1f}")
        assert (cycles, eight, many) == shown and minutes == f"{found['compile_seconds'] / 60:.0f}"


def test_a_wrong_program_is_one_line(capfd):
    for flag, word in (("--network=mixnet-z", "mixnet-s"), ("--network=mixnet-s:4", "3.5.7")):
        code, _, err = run(capfd, "benchmarks/tpu/measure.py", flag)
        assert code == 2 and word in err.strip().splitlines()[-1]
    code, _, err = run(capfd, "benchmarks/tpu/measure.py", "--step=evaluation", "--detector_classes=3")
    assert code == 2 and "training or inference" in err
    for flags, word in (
        (["--pointwise_form=dense"], "Only the training steps"),
        (["--step=training", "--blocks=16"], "blocks: expected numbers below 16, such as 3 or 0-2; received '16'"),
        (["--step=training", "--blocks=2-1"], "received '2-1'"),
        (["--blocks=1"], "in training"),
    ):
        code, _, err = run(capfd, "benchmarks/tpu/measure.py", *flags)
        assert code == 2 and word in err


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("uname", "runs on Linux on x86-64 only; this is Darwin arm64."),
        ("venv", "no environment can be created: Error: no ensurepip"),
        ("pip", "libtpu==0.0.52 numpy==2.4.6 could not be installed from PyPI: ERROR: no network"),
    ],
)
def test_an_installation_that_fails_says_what_is_missing_in_one_line(broken, says, tmp_path):
    pip = "#!/bin/sh\necho warning; echo ERROR: no network; exit 1\n"
    venv = f'mkdir -p "$3/bin"; cp "{tmp_path}/pip" "$3/bin/python"'
    if broken == "venv":
        venv = "echo Error: no ensurepip; exit 1"
    for name, text in (("pip", pip), ("python", f"#!/bin/sh\n{venv}\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    if broken == "uname":
        (tmp_path / "uname").write_text("#!/bin/sh\necho Darwin arm64\n")
        (tmp_path / "uname").chmod(0o755)
    done = subprocess.run(
        [ROOT / "benchmarks/tpu/install.sh", tmp_path / "tpu", tmp_path / "python"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    [line] = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("make tpu: ") and says in line
    assert not (tmp_path / "tpu").exists()


@pytest.mark.soak
@on_tpu
@pytest.mark.parametrize("step, forms", [*((step, Forms()) for step in programs.STEPS), (programs.TRAINING, TPU_FORMS)])
def test_the_compiler_takes_the_programs_of_the_tiny_network(step, forms, tiny_network, tmp_path, monkeypatch):
    monkeypatch.setattr(estimates, "RESULTS", tmp_path)
    found = estimates.estimate(_program(step, **forms._asdict()), "v5e")
    assert (
        found["temporary_bytes"] < 1e8 and min(found[name] for name in ("argument_bytes", "traffic_bytes", "flops")) > 0
    )
    assert found["kinds"]["depthwise convolution, forward"] > 0
    gradients = found["kinds"].get("depthwise convolution, gradient of the kernel", 0)
    assert (gradients > 0) == (step == programs.TRAINING)
    assert {op["layer"] for op in found["largest"]} & {"block_0_mixconv", "block_1_mixconv", "block_2_mixconv"}
    assert sum(found["kinds"].values()) == found["cycles"] >= sum(op["cycles"] for op in found["largest"])


@pytest.mark.soak
@on_tpu
def test_the_compiler_takes_a_detectors_training_step(tmp_path, monkeypatch):
    monkeypatch.setattr(estimates, "RESULTS", tmp_path)
    (tmp_path / "network.json").write_text(json_text(DETECTOR_NETWORK))
    program = programs.Program(str(tmp_path / "network.json"), programs.TRAINING, "bfloat16", 64, 8, 3, *TPU_FORMS)
    assert estimates.estimate(program, "v5e")["cycles"] > 0
