import sys
from types import SimpleNamespace

import pytest
import torch

from transeg.tools.doctor import accelerators
from transeg.tools.doctor.accelerators import check_devices


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch, tmp_path):
    """A machine without a GPU, whichever this one has."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(accelerators, "DRIVER", tmp_path / "version")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def nvidia(tmp_path):
    """NVIDIA's program finds a GPU."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'Tesla T4, 470.57'\n")
    program.chmod(0o755)


def test_no_gpu():
    (found,) = check_devices()
    assert found.state == "ok"
    assert found.found.startswith("The CPU")


def test_a_pytorch_without_cuda(nvidia, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    (found,) = check_devices()
    assert found.state == "note"
    assert "has Tesla T4, driver 470.57, but PyTorch" in found.found
    assert "is built without CUDA" in found.found


def test_a_driver_that_is_too_old(monkeypatch):
    def refuse():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update")

    accelerators.DRIVER.touch()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", refuse)
    (found,) = check_devices()
    assert found.state == "note"
    assert found.found.endswith("cannot use it: The NVIDIA driver on your system is too old (found version 11040).")


def test_a_gpu_that_is_hidden(nvidia, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    (found,) = check_devices()
    assert "CUDA_VISIBLE_DEVICES is '-1'" in found.found
    assert "Unset CUDA_VISIBLE_DEVICES" in found.advice


def test_each_gpu_has_to_compute(monkeypatch):
    def properties(index):
        return SimpleNamespace(name=f"GPU {index}")

    def ones(*_, device):
        if device == "cuda:1":
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")
        return torch.zeros(1)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2**30, 2**31))
    monkeypatch.setattr(torch, "ones", ones)
    first, second = check_devices()
    assert (first.state, first.found) == ("ok", "cuda:0 is GPU 0, 2.0 GiB, 1.0 GiB of it free.")
    assert second.state == "fault"
    assert second.found == (
        "cuda:1 cannot be computed on: CUDA error: no kernel image is available for execution on the device."
    )
    assert "--device cpu" in second.advice


def test_a_pytorch_that_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (found,) = check_devices()
    assert found.state == "fault"
    assert found.advice.startswith("Install it again")


def test_a_mac(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    _, mac = check_devices()
    assert "--device mps" in mac.advice
