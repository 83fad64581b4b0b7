"""The hint at oneDNN."""

import pytest

from mixnet_tf.training import processor

_ZEN_3 = "processor : 0\nmodel name : AMD EPYC 7763\nflags\t\t: fpu sse4_2 avx avx2 fma\nbugs : none\n"


@pytest.fixture
def cpu_info(tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    path.write_text(_ZEN_3)
    monkeypatch.setattr(processor, "_CPU_INFO", str(path))
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    return path


@pytest.mark.usefixtures("cpu_info")
def test_a_processor_without_avx_512_is_told_of_onednn():
    assert "TF_ENABLE_ONEDNN_OPTS=1" in processor.hint()


@pytest.mark.parametrize("flags", ["flags : avx2 avx512f", "Features : asimd", "flags : sse4_2"])
def test_other_processors_are_told_nothing(flags, cpu_info):
    cpu_info.write_text(flags + "\n")
    assert processor.hint() is None


@pytest.mark.parametrize("value", ["0", "1"])
def test_what_the_user_has_set_stands(value, cpu_info, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", value)
    assert processor.hint() is None


def test_a_system_that_tells_nothing_of_its_processor_is_no_error(cpu_info):
    cpu_info.unlink()
    assert processor.hint() is None
