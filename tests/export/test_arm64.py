"""Exported files on emulated ARM64 cores answer as on this machine; needs the system that `make arm64` makes."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
import tiny
from scripts import ROOT, run
from test_rewrite import unlike_the_defaults

from mixnet_tf import build_model
from mixnet_tf.export import Detector, ExportOptions, quantize, runtime, text
from mixnet_tf.export.convert import convert, to_tflite, write_saved_model
from mixnet_tf.export.graphs import Graphs
from mixnet_tf.export.half_precision import HalfPrecision
from mixnet_tf.export.rewrite import AsWritten, InferenceFunction

sys.path.append(str(ROOT / "benchmarks"))
from arm64 import attribution, emulation

FP16_INSTRUCTIONS = 77e6  # of MixNet-S at 224 px on a Cortex-A76
on_arm64 = pytest.mark.skipif(not emulation.FOLDER.exists(), reason="needs an ARM64 system: make arm64")


def test_without_an_arm64_system_one_line_says_how_to_make_it(capfd, monkeypatch, tmp_path):
    monkeypatch.setattr(emulation, "FOLDER", tmp_path / "none")
    with pytest.raises(ValueError, match="make arm64"):
        emulation.check(["cortex-a76"])
    emulation.check([])  # as `make bench` does: no core is asked for
    code, _, err = run(capfd, "benchmarks/bench_arm64.py", f"--files={tmp_path}/a.tflite")
    assert code == 2 and f"{tmp_path}/a.tflite" in err
    (tmp_path / "a.tflite").touch()
    code, _, err = run(capfd, "benchmarks/bench_arm64.py", f"--files={tmp_path}/a.tflite", "--cores=cortex-m4")
    assert code == 2 and "cortex-m4" in err and "cortex-a76" in err


def test_the_counts_of_an_exports_files_are_added_to_its_table(exported, capfd, monkeypatch, tmp_path):
    folder = tmp_path / "export"
    code, _, err = run(capfd, "benchmarks/bench_arm64.py", f"--export_dir={folder}")
    assert code == 2 and f"There is no file {folder}/report.json" in err
    code, _, err = run(capfd, "benchmarks/bench_arm64.py", f"--export_dir={folder}", "--files=a.tflite")
    assert code == 2 and "Give either --files or --export_dir." in err

    def ran(content, image, core):
        return emulation.Ran(emulation.here(content, image), len(content) * 100, {}, "")

    monkeypatch.setattr(emulation, "check", lambda cores: None)
    monkeypatch.setattr(emulation, "run", ran)
    shutil.copytree(exported[0], folder)
    code, out, err = run(capfd, "benchmarks/bench_arm64.py", f"--export_dir={folder}")
    assert code == 0, err
    report = json.loads((folder / "report.json").read_text())
    for row in report["files"]:
        is_server = row["format"] == "saved_model"
        assert row.get("instructions") == (None if is_server else {"cortex-a76": row["bytes"] * 100})
    head, *lines = out[out.index("file  ") :].splitlines()[:4]
    assert "for" in head and "A76, M" in head and "A76, M" not in text(exported[1])
    for line, row, made_for in zip(
        lines, report["files"], ("any CPU", "ARMv8.2 CPUs, 2018 on", "any CPU"), strict=False
    ):
        assert re.search(rf"  {made_for} +{row['bytes'] / 1e6:.2f} +{row['bytes'] / 1e4:.1f}  ", line)


def test_instructions_belong_to_the_function_before_their_address(monkeypatch):
    symbols = ([0x100, 0x200], ["xnn_f16_gemm_minmax_ukernel_6x16", "xnn_f32_vtanh_ukernel"])
    monkeypatch.setattr(attribution, "_symbols", lambda path: symbols if path == "/a/lib.so" else ([], []))
    maps = "5000-5100 r--p 0 0:0 1 /a/lib.so\n5100-6000 r-xp 0 0:0 1 /a/lib.so\n6000-7000 rw-p 0 0:0 0\n"
    maps += "8000-9000 r-xp 0 0:0 2 /b/libc.so.6\n"
    blocks = {0x5100: 7, 0x51FC: 5, 0x5200: 3, 0x8000: 2, 0x6800: 1}
    functions = attribution.by_function(emulation.Ran([], 18, blocks, maps))
    assert functions == {
        "xnn_f16_gemm_minmax_ukernel_6x16": 12,
        "xnn_f32_vtanh_ukernel": 3,
        "libc.so.6": 2,
        "elsewhere": 1,
    }
    assert attribution.by_kind(functions) == {
        "1x1 convolutions": 12,
        "activations": 3,
        "copies and padding": 2,
        attribution.OTHERS: 1,
    }


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("xnn_qs8_qc8w_igemm_minmax_fp32_ukernel_4x16c4__asm_aarch64_neondot_ld128", "other convolutions"),
        ("xnn_f16_dwconv_minmax_ukernel_25p8c__neonfp16arith_acc2", "depthwise, 25 taps"),
        ("xnn_f32_dwconv_minmax_ukernel_9p4c__asm_aarch64_neonfma_cortex_a55", "depthwise, 9 taps"),
        ("xnn_x8_lut_ukernel__aarch64_neon_tbx128x4_u64", "activations"),
        ("xnn_qs8_vaddc_minmax_ukernel__neon_ld64_u32", "sums"),
        ("xnn_f16_f32acc_rdsum_ukernel_7p7x__neonfp16arith_u16", "means"),
        ("xnn_xx_copy_ukernel__scalar_memcpy", "copies and padding"),
        ("xnn_compute_gemm", attribution.OTHERS),
    ],
)
def test_a_kernel_computes_a_kind_of_op(kernel, kind):
    assert attribution.kind_of(kernel) == kind and kind in attribution.KINDS


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """A MixNet-S of 224 px, (dict from a format to a file, images)."""
    size = 224
    model = unlike_the_defaults(build_model("mixnet-s", input_shape=(size, size, 3)), decades=0.5)
    images = tiny.images(8, size, size, 3)
    folders = {name: str(tmp_path_factory.mktemp(name)) for name in ("int8", "float16")}
    for name, folder in folders.items():
        write_saved_model(InferenceFunction(model, arithmetic=name), folder, size, 1, "probabilities")
    return {
        "as written": to_tflite(AsWritten(model), size),
        "fp32": to_tflite(InferenceFunction(model), size),
        "int8": convert(folders["int8"], quantize.configure("int8", images)),
        "fp16": convert(folders["float16"], quantize.configure("fp16")),
    }, images


@pytest.mark.soak
@on_arm64
def test_a_mixnet_answers_as_here_and_takes_fewer_instructions_than_as_written(contents):
    files, images = contents
    ran = {name: emulation.run(content, images[:1]) for name, content in files.items()}
    for name, most in (("as written", 2e-5), ("fp32", 2e-5), ("int8", 1 / 256), ("fp16", 1e-3)):
        [found], [expected] = ran[name].outputs, emulation.here(files[name], images[:1])
        assert np.abs(found - expected).max() <= most, name
    as_written = ran["as written"].instructions
    assert ran["fp32"].instructions < 0.6 * as_written and ran["int8"].instructions < 0.35 * as_written
    assert ran["fp16"].instructions == pytest.approx(FP16_INSTRUCTIONS, rel=0.02)


@pytest.mark.soak
@on_arm64
def test_all_instructions_belong_to_kinds_of_op(contents):
    files, images = contents
    ran = emulation.run(files["fp16"], images[:1], blocks=True)
    kinds = attribution.by_kind(attribution.by_function(ran))
    assert sum(kinds.values()) == pytest.approx(ran.instructions, rel=1e-4)
    assert kinds["1x1 convolutions"] > 0.4 * ran.instructions and kinds[attribution.OTHERS] < 0.1 * ran.instructions


@pytest.mark.soak
@on_arm64
@pytest.mark.parametrize("core", [core for core in emulation.CORES if core != "cortex-a76"])
def test_other_cores_answer_as_here(core, contents):
    files, images = contents
    for name, most in (("fp32", 2e-5), ("int8", 1 / 256)):
        [found], [expected] = (
            emulation.run(files[name], images[:1], core).outputs,
            emulation.here(files[name], images[:1]),
        )
        assert np.abs(found - expected).max() <= most, name


@pytest.mark.soak
@on_arm64
def test_a_trained_network_classifies_as_here(exported, trained, digits, capfd, tmp_path):
    folder, _ = exported
    paths = [next(folder.glob(f"*_{name}.tflite")) for name in ("fp32", "fp16", "int8", "int8_full")]
    report = tmp_path / "counts.json"
    files = f"--files={','.join(map(str, paths))}"
    trained.save(tmp_path / "a.keras")
    arguments = (files, f"--as_written={tmp_path}/a.keras", f"--json={report}")
    code, out, err = run(capfd, "benchmarks/bench_arm64.py", *arguments)
    assert code == 0, err
    rows = json.loads(report.read_text())["rows"]
    assert [row["file"] for row in rows] == ["as written", *(path.name for path in paths)]
    assert all(row["file"] in out for row in rows)
    assert rows[1]["difference"] <= 2e-5 and rows[1]["instructions"] < rows[0]["instructions"]
    images = digits[False].images[:2]  # not trained with
    for path, most in zip(paths[:3], (2e-5, 2e-2, 2e-2), strict=True):
        content = path.read_bytes()
        for image in images:
            [found], [expected] = emulation.run(content, image[None]).outputs, emulation.here(content, image[None])
            assert found.argmax() == expected.argmax() and np.abs(found - expected).max() <= most


@pytest.mark.soak
@on_arm64
def test_half_precision_is_as_far_from_keras_as_simulated(exported, trained, digits):
    content, images = next(exported[0].glob("*_fp16.tflite")).read_bytes(), digits[False].images[:8]
    expected = trained.predict(images, verbose=0)
    ran = np.concatenate([emulation.run(content, image[None]).outputs[0] for image in images])
    [simulated] = HalfPrecision(content)(images)
    assert (ran.argmax(-1) == expected.argmax(-1)).all()
    distances = [np.abs(answers - expected).max(-1) for answers in (ran, simulated, runtime.predict(content, images))]
    emulated, of_simulation, here = map(np.mean, distances)
    assert 2 * here < emulated < 2e-2  # this machine computes in float32
    assert 0.4 < of_simulation / emulated < 2.5


@pytest.mark.soak
@on_arm64
@pytest.mark.parametrize("form", ["none", "nms"])
def test_a_detector_answers_as_here(form, detector, pictures, tmp_path):
    graphs = Graphs(Detector(detector, ExportOptions(postprocess=form)), pictures, str(tmp_path))
    for content, most in ((graphs.convert("fp32"), 2e-5), (graphs.int8(form, pictures), 1e-6)):
        ran = emulation.run(content, pictures[:1])
        for found, expected in zip(ran.outputs, emulation.here(content, pictures[:1]), strict=True):
            assert np.abs(found - expected).max() <= most
