"""Exported files in the compilers of NPUs; needs those that `make npu-check` installs."""

import io
import os
import subprocess
import sys
import zipfile

import pytest
from exported_digits import SIZE, row
from scripts import ROOT, run

from mixnet_tf.export import Detector, ExportOptions
from mixnet_tf.export.graphs import Graphs

sys.path.append(str(ROOT / "benchmarks"))
from accelerators import npu_compilers

on_npu = pytest.mark.skipif(not npu_compilers.FOLDER.exists(), reason="needs compilers for NPUs: make npu-check")


def test_without_the_compilers_one_line_says_how_to_install_them(capfd, monkeypatch, tmp_path):
    monkeypatch.setattr(npu_compilers, "FOLDER", tmp_path / "none")
    with pytest.raises(ValueError, match="make npu-check"):
        npu_compilers.check()
    for flag, word in (
        (f"--files={tmp_path}/a.tflite", f"{tmp_path}/a.tflite"),
        ("--soc_models=MT6989", "SM8750"),
        ("--forms=cut", "keep"),
    ):
        code, _, err = run(capfd, "benchmarks/accelerators/npu.py", flag)
        assert code == 2 and word in err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("uname", "run on Linux on x86-64 only; this is Darwin arm64."),
        ("gcc", "gcc is missing"),
        ("install", "ethos-u-vela==5.2.0 could not be installed from PyPI: ERROR: no network"),
        ("download", "onnxruntime-qnn==2.7.0 could not be downloaded from PyPI: ERROR: no network"),
        ("load", "Qualcomm's libQnnHtp.so cannot be loaded: OSError: no such file"),
    ],
)
def test_an_installation_that_fails_says_what_is_missing_in_one_line(broken, says, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "mkdir", "mv", "rm", "tail", "dirname", "cat"):
        (tools / name).symlink_to(f"/bin/{name}")
    made = {
        "uname": "echo Darwin arm64" if broken == "uname" else "echo Linux x86_64",
        "gcc": "exit 0",
        "python": f"""
            case "$* " in
              *"pip {broken} "*) echo warning; echo ERROR: no network; exit 1 ;;
              "-m zipfile -e"*) mkdir -p "$4/onnxruntime_qnn" ;;
              -c*) echo OSError: no such file; exit 1 ;;
            esac
        """,
    }
    for name, body in made.items():
        if name != broken or name == "uname":
            (tools / name).write_text(f"#!/bin/sh\n{body}\n")
            (tools / name).chmod(0o755)
    done = subprocess.run(
        [ROOT / "benchmarks/accelerators/install_npu.sh", tmp_path / "npu", tools / "python"],
        env={**os.environ, "PATH": str(tools)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    [line] = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("make npu-check: ") and says in line
    assert not (tmp_path / "npu").exists()


@pytest.mark.soak
@on_npu
@pytest.mark.parametrize("name", ["fp32", "fp16", "int8_full"])
def test_a_snapdragon_takes_every_op_of_the_digits_network(name, exported):
    content = (exported[0] / row(exported, name)["file"]).read_bytes()
    compiled = npu_compilers.for_snapdragon(content, "SM8750")
    assert (compiled.partitions, compiled.cpu_ops) == (1, {})
    assert zipfile.is_zipfile(io.BytesIO(content)) and not zipfile.is_zipfile(
        io.BytesIO(compiled.content)
    )  # labels.txt


@pytest.mark.soak
@on_npu
@pytest.mark.parametrize("core", npu_compilers.ETHOS_U)
def test_an_ethos_u_takes_every_op_of_the_digits_network(core, exported):
    estimate = npu_compilers.for_ethos_u((exported[0] / row(exported, "int8_full")["file"]).read_bytes(), core)
    assert estimate.partitions == 1 and not estimate.cpu_ops
    assert estimate.milliseconds == pytest.approx(estimate.cycles / 1e6)  # at 1 GHz
    with_float_ends = npu_compilers.for_ethos_u((exported[0] / row(exported, "int8")["file"]).read_bytes(), core)
    assert with_float_ends.cpu_ops == {"QUANTIZE": 1, "DEQUANTIZE": 1}


@pytest.mark.soak
@on_npu
def test_a_detectors_postprocessing_stays_on_the_cpu(detector, pictures, tmp_path):
    for form, left in (("none", {}), ("nms", {"TFLite_Detection_PostProcess": 1})):
        graphs = Graphs(Detector(detector, ExportOptions(postprocess=form)), pictures, str(tmp_path / form))
        compiled = npu_compilers.for_snapdragon(graphs.convert("fp32"), "SM8750")
        assert (compiled.partitions, compiled.cpu_ops) == (1, left)


@pytest.mark.soak
@on_npu
def test_a_snapdragon_takes_a_detectors_boxes_whole(detector, pictures, tmp_path):
    graphs = Graphs(Detector(detector, ExportOptions(accelerator=("npu",))), pictures, str(tmp_path))
    for content in (graphs.convert("fp32", "npu"), graphs.int8("boxes", pictures, None, None, "int8_full", "npu")):
        compiled = npu_compilers.for_snapdragon(content, "SM8750")
        assert (compiled.partitions, compiled.cpu_ops) == (1, {})


@pytest.mark.soak
@on_npu
def test_the_export_compiles_by_litert_and_qualcomms_libraries(untrained, data_dir, tmp_path, monkeypatch, capfd):
    untrained.save(tmp_path / "model.keras")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(npu_compilers.FOLDER / "qualcomm" / "onnxruntime_qnn"))
    where = (f"--weights={tmp_path / 'model.keras'}", f"--output_dir={tmp_path / 'out'}")
    flags = ("--dataset=digits", f"--data_dir={data_dir}", "--num_images=8", "--latency_runs=0")
    code, out, err = run(capfd, "export_tflite.py", *where, *flags, "--accelerator=npu", "--soc_models=SM8450,SM8750")
    assert code == 0 and "Backend:" not in err
    for chip in ("SM8450", "SM8750"):
        name = f"mixnet_t_{SIZE}_fp32_npu_Qualcomm_{chip}.tflite"
        assert (tmp_path / "out" / name).exists()
        assert f"{name}: " in out and "MB, NPU: 1 partition\n" in out
