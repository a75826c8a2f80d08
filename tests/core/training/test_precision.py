import pytest
import torch

from transeg.core.training import precision
from transeg.core.training.precision import matmul_precision, precision_warning

CPU = torch.device("cpu")


def flags():
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(("chosen", "wanted"), [("tf32", ("high", True)), ("fp32", ("highest", False))])
def test_flags_of_the_process_are_set_and_put_back(chosen, wanted):
    before = flags()
    with matmul_precision(chosen):
        assert flags() == wanted
    assert flags() == before
    with pytest.raises(ZeroDivisionError), matmul_precision(chosen):
        _ = 1 / 0
    assert flags() == before


@pytest.mark.parametrize(
    ("units", "chosen", "slow"),
    [
        ("avx2 avx512f", "bf16", True),
        ("avx2 avx512f", "fp16", True),
        ("avx2 avx512_bf16", "bf16", False),
        ("avx2 avx512_bf16", "fp16", True),
        ("avx2 amx_bf16 avx512_fp16", "fp16", False),
        ("fp asimd asimdhp bf16", "bf16", False),
        ("avx2", "fp32", False),
        ("avx2", "tf32", False),
    ],
)
def test_a_cpu_that_emulates_a_precision_is_told_of(tmp_path, monkeypatch, units, chosen, slow):
    described = tmp_path / "cpuinfo"
    described.write_text(f"processor : 0\nflags : fpu {units}\n\nprocessor : 1\n")
    monkeypatch.setattr(precision, "DESCRIPTION", described)
    assert bool(precision_warning(chosen, CPU)) == slow
    assert not precision_warning(chosen, torch.device("cuda"))
    described.unlink()
    assert not precision_warning(chosen, CPU)
