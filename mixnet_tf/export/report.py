"""The report on exported files, and its text."""

from collections.abc import Callable
from typing import Any

from mixnet_tf.export import gates, quantize, runtime
from mixnet_tf.export.arithmetics import CPU, GPU, NPU, arithmetic_of

_Cell = Callable[[dict[str, Any]], str]
_A76 = "A76, M"  # a column
_MADE_FOR = {
    "float32": "any CPU",
    "float16": "ARMv8.2 CPUs, 2018 on",  # computed in float32 by others
    "int8": "any CPU",
    GPU: "a phone's GPU",
    NPU: "a phone's NPU",
}


def made_for(format_name: str, accelerator: str) -> str:
    """What a file is made for, in words."""
    return "servers" if format_name == "saved_model" else _MADE_FOR[arithmetic_of(format_name, accelerator)]


def structure(content: bytes) -> dict[str, Any]:
    """The size, op counts, delegate partitions and Flex ops of a TFLite model."""
    ops, partitions, flex = runtime.operations(content)
    delegated = runtime.is_fully_delegated(content)
    return {
        "bytes": len(content),
        "ops": ops,
        "delegate_partitions": partitions,
        "fully_delegated": delegated,
        "flex_ops": flex,
    }


def text(result: dict[str, Any]) -> str:
    """A report as text: the table, how it was measured, warnings, and the files that were not written."""
    rows = result["files"]
    of_detector = "postprocess" in result
    kernels = "" if of_detector else f"large kernels: {result['large_kernels']}, "
    columns = _DETECTOR if of_detector else _CLASSIFIER
    is_counted = any("instructions" in row for row in rows)
    lines = [
        table(rows, {name: cell for name, cell in columns.items() if name != _A76 or is_counted}),
        f"{result['runtime']}, {kernels}{result['num_images']} images; {result['machine']}",
    ]
    if not of_detector:
        known = any("accuracy_drop" in row for row in rows)
        lines.append("lost: points of top-1 accuracy" if known else "lost: images, in 100, whose top-1 is not Keras'")
    if result.get("score_threshold") is not None:
        lines.append(f"boxes: score from {result['score_threshold']:g}, IoU up to {result['iou_threshold']:g}")
    if is_counted:
        lines.append(f"{_A76}: million instructions of an image on an emulated Cortex-A76, one thread")
    if others := sorted({row.get("accelerator", CPU) for row in rows} - {CPU}):
        lines.append(
            f"Files for {' and '.join(others)} were compared with Keras on this machine's CPU: not checked on a GPU or "
            "an NPU."
        )
    if any(row.get("half_precision") for row in rows):
        lines.append("half: in half precision, as a phone computes the file; simulated")
    lines += [f"Note: {note}." for note in result.get("notes", ())]
    lines += [f"Warning: {row['format']}: {sentence}." for row in rows for sentence in row.get("warnings", ())]
    for row in rows:
        if row["failures"]:
            lines.append(f"{'Written anyway' if row['written'] else 'Not written'}: {_failed(row, of_detector)}")
    lines += [_compiled(entry) for row in rows for entry in row.get("compiled", ())]
    return "\n".join(lines)


def _failed(row, of_detector):
    sentence = f"{row['format']}: {'; '.join(row['failures'])}."
    if row.get("older_file") is not None:
        sentence += f" The older file is now {row['older_file']}."
    if row["written"] or of_detector:
        return sentence
    repairs = []
    if row["format"] in quantize.NEEDS_CALIBRATION:
        repairs = ["more --calibration_images, like those that the model will see"]
        repairs += ["--int8_float_parts=4"] if row["format"] == "int8" else ["--formats=int8 --int8_float_parts=4"]
    return f"{sentence} To try: {', '.join([*repairs, 'another format, --allow_accuracy_drop'])}."


def _compiled(entry):
    if not entry["written"]:
        older = "" if entry["older_file"] is None else f" The older file is now {entry['older_file']}."
        return f"Not written: {entry['file']}: {entry['failure']}.{older}"
    number, left = entry["partitions"], ", ".join(f"{count} {op}" for op, count in entry["cpu_ops"].items())
    of_npu = f"NPU: {number} partition{'' if number == 1 else 's'}" + (f"; on the CPU: {left}" if left else "")
    return f"{entry['file']}: {entry['bytes'] / 1e6:.2f} MB, {of_npu}"


def table(rows: list[dict[str, Any]], columns: dict[str, _Cell]) -> str:
    """The rows of a report as text, one line per row, below the names of the columns."""
    lines = [list(columns), *([cell(row) for cell in columns.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _number(name: str, form: str) -> _Cell:
    """The cell of an entry, or of a nested entry "name.key"; a dash if there is none."""

    def cell(row):
        value: Any = row
        for key in name.split("."):
            value = None if value is None else value.get(key)
        return "-" if value is None else format(value, form)

    return cell


def _megabytes(row):
    return f"{row['bytes'] / 1e6:.2f}" if "bytes" in row else "-"


def _lost(row):
    loss, error = gates.loss(row)
    return "-" if loss is None else f"{100 * loss:.2f} +-{100 * error:.2f}"


def _millions(row):
    return f"{row['instructions']['cortex-a76'] / 1e6:.1f}" if "cortex-a76" in row.get("instructions", {}) else "-"


_FILE: dict[str, _Cell] = {
    "file": lambda row: row["file"],
    "for": lambda row: row.get("for", "-"),
    "MB": _megabytes,
    _A76: _millions,
    "partitions": _number("delegate_partitions", "d"),
}
_CLASSIFIER: dict[str, _Cell] = {
    **_FILE,
    "largest diff": _number("max_difference", ".1e"),
    "same top-1": _number("top_1_agreement", ".2%"),
    "top-1 before": _number("top_1_accuracy_keras", ".2%"),
    "after": _number("top_1_accuracy", ".2%"),
    "lost": _lost,
    "lost, half": lambda row: _lost(row.get("half_precision") or {}),
    "ms 1 thread": _number("latency_ms.1", ".2f"),
    "2": _number("latency_ms.2", ".2f"),
}
_DETECTOR: dict[str, _Cell] = {
    **_FILE,
    "largest diff": _number("max_difference", ".1e"),
    "AP before": _number("AP_keras", ".2%"),
    "after": _number("AP", ".2%"),
    "half": _number("half_precision.AP", ".2%"),
    "ms 1 thread": _number("latency_ms", ".2f"),
    "plain": _number("as_written_latency_ms", ".2f"),
}
