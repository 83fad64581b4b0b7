"""Files compiled for NPUs, by LiteRT's own Python code and a stand-in for its binary and Qualcomm's libraries."""

import json
import pathlib
import sys
import tempfile

import pytest
import tiny
from scripts import run
from tensorflow.lite.tools import flatbuffer_utils

from mixnet_tf.export import ExportOptions, ahead_of_time, export_model, gates, report

pytest.importorskip("ai_edge_litert.aot")
SIZE = 32
_FOR_NPU = ("--accelerator=npu", "--soc_models=SM8750")
# Writes a compiled model for every chip but SM8450.
_COMPILER = """#!/bin/sh
for argument; do
  case $argument in
    --o=*) output=${{argument#--o=}} ;;
    --soc_model=SM8450) echo "no such chip"; exit 1 ;;
  esac
done
cp {compiled} "$output"
"""


def _compiled_model(*ops):
    """A TFLite model's bytes, of ops without tensors; a name in lower case is a custom op."""
    schema = flatbuffer_utils.schema_fb
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    model.operatorCodes, graph.operators = [], []
    for name in ops:
        code, op = schema.OperatorCodeT(), schema.OperatorT()
        builtin = getattr(schema.BuiltinOperator, name, None)
        code.builtinCode = schema.BuiltinOperator.CUSTOM if builtin is None else builtin
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.customCode = name.encode() if builtin is None else None
        op.opcodeIndex = len(model.operatorCodes)
        model.operatorCodes.append(code)
        graph.operators.append(op)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """The stand-in; what it writes for every model."""
    from ai_edge_litert.aot.core import common

    folder = tmp_path / "compiler"
    folder.mkdir()
    compiled, binary = folder / "compiled.tflite", folder / "apply_plugin_main"
    compiled.write_bytes(_compiled_model("DISPATCH_OP", "DEPTHWISE_CONV_2D", "DISPATCH_OP", "DEPTHWISE_CONV_2D", "ADD"))
    binary.write_text(_COMPILER.format(compiled=compiled))
    binary.chmod(0o755)
    (folder / "libQnnHtp.so").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", f":{folder}")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    found = common.get_resource
    monkeypatch.setattr(common, "get_resource", lambda path, **_: binary if path.name == binary.name else found(path))
    return compiled.read_bytes()


def test_ops_are_counted_by_name_and_those_of_the_npu_apart():
    content = _compiled_model("DISPATCH_OP", "ADD", "DISPATCH_OP", "MUL", "ADD", "TFLite_Detection_PostProcess")
    assert ahead_of_time.partitions(content, "DISPATCH_OP") == (
        2,
        {"ADD": 2, "MUL": 1, "TFLite_Detection_PostProcess": 1},
    )
    assert ahead_of_time.partitions(content, "ethos-u")[0] == 0


def test_the_command_writes_a_compiled_file_for_each_chip_beside_the_portable_one(
    untrained, data_dir, compiler, tmp_path, capfd
):
    untrained.save(tmp_path / "model.keras")
    out = tmp_path / "out"
    out.mkdir()
    (out / f"mixnet_t_{SIZE}_fp32_npu_Qualcomm_SM8450.tflite").write_bytes(b"an older export")
    flags = ["--dataset=digits", f"--data_dir={data_dir}", "--num_images=8", "--latency_runs=0"]
    where = (f"--weights={tmp_path / 'model.keras'}", f"--output_dir={out}")
    code, said, err = run(capfd, "export_tflite.py", *where, *flags, "--accelerator=npu", "--soc_models=SM8750,SM8450")
    stem = f"mixnet_t_{SIZE}_fp32_npu"
    good, bad = f"{stem}_Qualcomm_SM8750.tflite", f"{stem}_Qualcomm_SM8450.tflite"
    assert code == 1 and "Traceback" not in err and "Backend:" not in err
    assert f"{good}: 0.00 MB, NPU: 2 partitions; on the CPU: 2 DEPTHWISE_CONV_2D, 1 ADD\n" in said
    assert f"Not written: {bad}: LiteRT's compiler failed for SM8450: " in said
    assert f"Next: put {out}/{stem}.tflite into an app" in said
    assert (out / good).read_bytes() == compiler
    assert not (out / bad).exists() and (out / f"{bad}.old").read_bytes() == b"an older export"
    result = json.loads((out / "report.json").read_text())
    assert result["soc_models"] == ["SM8750", "SM8450"]
    written, failed = result["files"][0]["compiled"]
    assert written == {
        "soc_model": "SM8750",
        "file": good,
        "written": True,
        "bytes": len(compiler),
        "partitions": 2,
        "cpu_ops": {"DEPTHWISE_CONV_2D": 2, "ADD": 1},
    }
    assert failed["older_file"] == f"{bad}.old" and not failed["written"]


def test_a_file_that_fails_its_gate_is_not_compiled(untrained, compiler, tmp_path, monkeypatch):
    monkeypatch.setitem(gates._MIN_AGREEMENT, "fp16", 1.1)
    options = ExportOptions(
        formats=("fp16", "saved_model"), accelerator=("npu",), latency_runs=0, soc_models=("SM8750",)
    )
    result = export_model(untrained, tmp_path / "out", tiny.images(2, SIZE, SIZE, 3), options=options)
    fp16, saved_model = result["files"]
    [entry] = fp16["compiled"]
    assert entry["failure"] == f"mixnet_t_{SIZE}_fp16_npu.tflite is not written" and entry["older_file"] is None
    assert f"Not written: {entry['file']}: " in report.text(result)
    assert saved_model["written"] and "compiled" not in saved_model
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"mixnet_t_{SIZE}_saved_model", "report.json"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"soc_models": ("SM8750", "MT6989")}, r"LiteRT compiles for \[.*'SM8750'.*\]; received \['MT6989'\]"),
        ({"soc_models": "SM8750"}, "soc_models: expected a list of names, each once; received 'SM8750'"),
        ({"soc_models": ("SM8750",), "formats": ("saved_model",)}, r"formats \['saved_model'\] and batch_size 1"),
        ({"soc_models": ("SM8750",), "batch_size": 0}, "batch_size from 1 are compiled"),
        ({"soc_models": ("SM8750",), "accelerator": ("cpu", "gpu")}, r"add npu to the accelerator \['cpu', 'gpu'\]"),
    ],
)
def test_what_cannot_be_compiled_is_refused(options, message, compiler):
    with pytest.raises(ValueError, match=message):
        ExportOptions(**{"accelerator": ("npu",), **options}).check()
    assert ExportOptions(accelerator=("cpu", "npu"), soc_models=("SM8750",)).check()


def test_without_qualcomms_libraries_one_line_says_which_package_brings_them(compiler, monkeypatch, tmp_path, capfd):
    monkeypatch.delenv("LD_LIBRARY_PATH")
    code, _, err = run(capfd, "export_tflite.py", "--output_dir=never", "--weights=a.keras", *_FOR_NPU)
    assert code == 2 and "libQnnHtp.so is missing" in err and "pip install 'mixnet_tf[npu]'" in err
    assert "Traceback" not in err and not pathlib.Path("never").exists()

    package = tmp_path / "ai_edge_litert_sdk_qualcomm"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import pathlib, sys\n"
        "def path_to_sdk_libs():\n"
        "    folder = pathlib.Path(__file__).parent / 'libraries'\n"
        "    return folder if folder.exists() else print('Warning: no data', file=sys.stderr)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    with pytest.raises(ImportError, match="libQnnHtp.so is missing"):  # the package is there, its download failed
        ahead_of_time.check(["SM8750"])
    assert capfd.readouterr().err == ""
    (package / "libraries").mkdir()
    (package / "libraries" / "libQnnHtp.so").touch()
    ahead_of_time.check(["SM8750"])
    monkeypatch.delitem(sys.modules, package.name)


def test_without_litert_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(ImportError, match=r"soc_models needs LiteRT's compiler: pip install 'mixnet_tf\[npu\]'"):
        ahead_of_time.check(["SM8750"])
