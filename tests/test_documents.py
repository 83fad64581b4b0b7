"""The notebook runs, the pictures can be drawn, and the documents agree with the measured figures."""

import ast
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from scripts import ROOT, process, run

import mixnet_tf
from mixnet_tf.export import runtime


@pytest.mark.soak
def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")  # its kernel is Jupyter's process, not a test's
    notebook = nbformat.read(ROOT / "examples" / "quickstart.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(
        "".join(str(value) for value in output.get("data", {"": output.get("text", "")}).values())
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )
    assert "mixnet_s_32_fp32.tflite" in printed
    assert "report.html" in str(list((tmp_path / "report").iterdir())) and "&lt;html" in printed
    assert (tmp_path / "digits.keras").exists()


def test_the_notebook_is_stored_without_outputs_and_installs_only_where_needed():
    notebook = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    sources = ["".join(cell["source"]) for cell in cells]
    assert [source for source in sources if "pip" in source] == [sources[0]]
    assert 'find_spec("mixnet_tf") is None' in sources[0]
    for source in sources:
        compile(source, "cell", "exec")


def test_the_family_is_drawn_from_the_papers_figures(tmp_path, capfd):
    pytest.importorskip("matplotlib")
    code, _, err = run(capfd, "benchmarks/plot_family.py", f"--output={tmp_path}/family.png")
    assert code == 0, err
    assert (tmp_path / "family.png").read_bytes().startswith(b"\x89PNG")
    script = (ROOT / "benchmarks" / "plot_family.py").read_text()
    drawn = ast.literal_eval(re.search(r"^_MIXNET = (\{.*?\})", script, re.MULTILINE)[1])
    readme = (ROOT / "README.md").read_text()
    for name, (cost, accuracy) in drawn.items():
        [row] = [line for line in readme.splitlines() if line.startswith(f"| `{name.lower()}`")]
        assert f"{cost}M /" in row and f"| {accuracy} /" in row


def test_the_curve_of_a_run_is_drawn_from_its_metrics(tmp_path, capfd):
    pytest.importorskip("matplotlib")
    from mixnet_tf.named_recipes import RECIPES
    from mixnet_tf.runs import RunConfig

    script, arguments = "benchmarks/plot_training.py", (f"--model_dir={tmp_path}", f"--output={tmp_path}/a.png")
    RunConfig("$_$", 10, "digits", 1437, RECIPES["digits"]).write(tmp_path)
    code, _, err = run(capfd, script, *arguments)
    assert code == 2 and "no row of training yet" in err and not (tmp_path / "a.png").exists()
    rows = [{"step": s, "kind": "train", "loss": 3 / s, "top_1_accuracy": 1 - 1 / s} for s in (1, 2, 3)]
    rows[1]["loss"] = None  # it was not finite
    rows += [{"step": step, "kind": "eval", "top_1_accuracy": found} for step, found in ((2, 0.6), (3, None))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "ki')
    code, _, err = run(capfd, script, *arguments)
    assert code == 0, err
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_curve_of_no_run_is_one_clear_line(tmp_path, capfd):
    pytest.importorskip("matplotlib")
    code, _, err = run(capfd, "benchmarks/plot_training.py", "--model_dir=/no/such", f"--output={tmp_path}/a.png")
    assert code == 2 and "holds no training run" in err and "Traceback" not in err


def test_changelog_and_citation_name_the_version():
    version = mixnet_tf.__version__
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == version
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {version}\n" in citation and "1907.09595" in citation


@pytest.mark.soak
@pytest.mark.parametrize("document", ["TRANSFER.md", "NETWORKS.md", "DETECTION.md"])
def test_the_python_of_the_docs_runs(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / document).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    scope = {}
    for block in blocks:
        exec(block, scope)
        if "report" in scope:
            check_exported(scope.pop("report"), scope["model"], scope["images"])


def check_exported(report, model, images):
    """The files that a document's code has exported answer as its Keras model does."""
    assert all(row["written"] and not row["failures"] for row in report["files"])
    answers = runtime.predict(pathlib.Path("exported", report["files"][0]["file"]).read_bytes(), images)
    np.testing.assert_allclose(answers, model.predict(images, verbose=0), rtol=0, atol=1e-5)


@pytest.mark.soak
def test_the_transfer_benchmark_measures_every_start(tmp_path, data_dir):
    program = f"import sys, runpy; sys.path.insert(0, {str(ROOT / 'tests')!r}); import tiny_run; tiny_run.register(); "
    program += f"runpy.run_path({str(ROOT / 'benchmarks' / 'transfer_digits.py')!r}, run_name='__main__')"
    (tmp_path / "tiny_transfer.py").write_text(program)
    flags = ("--model_name=tiny", "--image_size=16", "--pretrain_epochs=0.1", "--epochs=0.1", "--seeds=1")
    done = process(tmp_path / "tiny_transfer.py", *flags, f"--output={tmp_path}/out", f"--data_dir={data_dir}")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "transfer.json").read_text())["rows"]
    assert [row["start"] for row in rows] == [
        "frozen backbone",
        "frozen batch normalization",
        "free backbone",
        "from scratch",
    ]
    assert {row["steps"] for row in rows} == {2} and all(0 <= row["top_1_accuracy"] <= 1 for row in rows)
    assert (tmp_path / "out" / "transfer.md").read_text().count("|\n") == 6


def test_the_transfer_table_is_the_measured_one():
    rows = json.loads((ROOT / "benchmarks" / "transfer_digits.json").read_text())["rows"]
    document = (ROOT / "docs" / "TRANSFER.md").read_text()
    for start in {row["start"] for row in rows}:
        [line] = [line for line in document.splitlines() if line.startswith(f"| {start} |")]
        cells = []
        for steps in sorted({row["steps"] for row in rows}):
            found = [row["top_1_accuracy"] for row in rows if (row["start"], row["steps"]) == (start, steps)]
            assert len(found) == 3
            cells.append(f"{sum(found) / 3:.1%} ({min(found):.1%} to {max(found):.1%})")
        assert line == f"| {start} | {' | '.join(cells)} |"


def test_the_table_of_the_study_is_the_measured_one():
    report = json.loads((ROOT / "studies" / "figure_4_scattered_digits.json").read_text())
    document = (ROOT / "docs" / "STUDIES.md").read_text()
    rows = [line for line in document.splitlines() if "+-" in line and line.startswith("|")]
    [curves] = report["networks"].values()
    points = {point["name"]: point for curve in curves.values() for point in curve}
    report = json.loads((ROOT / "studies" / "figure_6_scattered_digits.json").read_text())
    [curves] = report["networks"].values()
    points |= {point["name"]: point for name in ("exponential", "dilated") for point in curves[name][1:]}
    assert len(rows) == len(points) == 7 + 6
    for row, point in zip(rows, points.values(), strict=True):
        figures = (
            f"{point['parameters']:,}",
            f"{point['multiply_adds'] / 1e6:.2f}M",
            f"{point['mean']:.2%} +-{100 * point['standard_deviation']:.2f}",
        )
        assert row.endswith(f"| {' | '.join(figures)} |"), (row, figures)
        assert len(point["runs"]) == 3 and {run["split"] for run in point["runs"]} == {"test"}


def _figures(document, row):
    """The numbers in the first row of a table that has this text, but those of its first cell."""
    lines = [line for line in (ROOT / document).read_text().splitlines() if row in line and line.startswith("|")]
    return _numbers(lines[0])  # the table of 224 px is the first


def _numbers(line):
    return re.findall(r"[0-9][0-9.]*", line.split("|", 2)[2])


def test_the_fractions_of_the_plain_conversion_are_those_of_its_milliseconds():
    plain, *rows = (
        _figures("docs/DEPLOYMENT.md", row)
        for row in (
            "plain conversion of the Keras model",
            "as exported by default",
            "| fp16 | ",
            "| dynamic | ",
            "| int8 | ",
        )
    )
    for row in rows:
        assert len(row) == len(plain) == 6
        assert [f"{float(ms) / float(whole):.2f}" for ms, whole in zip(row[::2], plain[::2], strict=True)] == row[1::2]


@pytest.mark.parametrize(
    ("file", "rows"),
    [
        ("`..._fp16.tflite`", ("**S, `fp16`**", "S, plain conversion")),
        ("`..._int8.tflite`", ("**S, `int8`**", "S, plain conversion")),
        ("`..._fp16_gpu.tflite`", ("**S, `--accelerator=gpu`**", "S, plain conversion")),
        ("`..._int8_full_npu.tflite`", ("**S, `--accelerator=npu`**", "S, plain conversion")),
    ],
)
def test_the_counts_of_the_readme_are_those_of_the_document(file, rows):
    sections = re.split("^## ", (ROOT / "docs/PERFORMANCE.md").read_text(), flags=re.MULTILINE)
    [section] = [text for text in sections if rows[0] in text]
    column = {"`..._fp16_gpu.tflite`": 1, "`..._int8_full_npu.tflite`": 2}.get(file, 0)
    found = [_numbers(next(line for line in section.splitlines() if f"| {row} |" in line))[column] for row in rows]
    [shown] = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith(f"| {file}")]
    assert re.findall(r"[0-9]+\.[0-9]|[0-9]+(?= dispatches)|(?<=\()[0-9.]+(?=\))", shown.split("|")[3]) == [
        number if number.isdigit() else f"{float(number):.1f}" for number in found
    ]


def test_the_accuracies_of_the_seeds_are_the_same_in_both_documents():
    training = " ".join((ROOT / "docs" / "TRAINING.md").read_text().split())
    listed = re.search(r"--seed=SEED` ended at (.*?): a mean of ([0-9.]+)%", training)
    accuracies = [float(number) for number in re.findall(r"[0-9.]+", listed[1])]
    assert len(accuracies) == 5
    assert f"{sum(accuracies) / 5:.2f}" == listed[2]
    readme = " ".join((ROOT / "README.md").read_text().split())
    said = f"seeds 0 to 4 ended between {min(accuracies):.2f}% and {max(accuracies):.2f}%"
    assert f"{said}, with a mean of {listed[2]}%" in readme
    new = re.search(r"seed 0, ends at ([0-9.]+%) .*?, and at ([0-9.]+%) with `ONEDNN_MAX_CPU_ISA=AVX2`", training)
    assert (
        f"Seed 0 ends at {new[1]} of the 360 held-out digits on an Intel Xeon, and at {new[2]} where that is" in readme
    )
    assert f"Seed 0 ends at {accuracies[0]:.2f}% of the 360 test images" in training
    assert "on another kind of processor, which was not recorded, seed 0 ended at 98.06%" in training


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


def test_every_package_has_a_page_of_its_api():
    packages = {path.parent.name for path in (ROOT / "mixnet_tf").glob("*/__init__.py")} - {"commands"}
    pages = {path.stem for path in (ROOT / "docs" / "api").glob("*.md")}
    assert pages == packages | {"mixnet_tf"}
    index = (ROOT / "docs" / "index.md").read_text()
    guides = {path.stem for path in (ROOT / "docs").glob("[A-Z]*.md")}
    assert all(f"\napi/{page}\n" in index for page in pages)
    assert all(f"\n{guide}\n" in index for guide in guides)


@pytest.mark.soak
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", str(tmp_path / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "multiply" in (tmp_path / "html" / "api" / "networks.html").read_text()
