"""GPUs: those that PyTorch can compute on, and those that it cannot, and why."""

from __future__ import annotations

import os
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

from transeg.tools.doctor.finding import Finding, first_line, in_gib

DRIVER = Path("/proc/driver/nvidia/version")


def check_devices() -> Iterator[Finding]:
    """The GPU or GPUs, each of which adds two numbers; or that there is none, or none that PyTorch can use."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PyTorch warns of, the sentences below say
            import torch

            cuda = torch.cuda.is_available()
    except Exception as error:
        yield Finding(
            "devices",
            "fault",
            f"PyTorch cannot be imported: {first_line(error)}",
            "Install it again: pip install --force-reinstall torch torchvision",
        )
        return
    for index in range(torch.cuda.device_count() if cuda else 0):
        yield _gpu(index)
    if not cuda:
        yield _no_gpu(torch.__version__, torch.version.cuda or torch.version.hip)
    if torch.backends.mps.is_available():
        yield Finding("devices", "ok", "PyTorch can use the GPU of this Mac.", "It is used with --device mps only.")


def _gpu(index: int) -> Finding:
    """Whether a GPU computes."""
    import torch

    name = f"cuda:{index}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            about = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
            found = f"{name} is {about.name}, {in_gib(total)}, {in_gib(free)} of it free"
            (torch.ones(1, device=name) + 1).item()
    except Exception as error:
        built = torch.version.cuda or torch.version.hip
        return Finding(
            "devices",
            "fault",
            f"{name} cannot be computed on: {first_line(error)}",
            f"PyTorch {torch.__version__} is built for CUDA {built}; install one that fits GPU and driver, or say "
            "--device cpu.",
        )
    return Finding("devices", "ok", f"{found}.")


def _no_gpu(version: str, built: str | None) -> Finding:
    """Why there is none, where a GPU of NVIDIA seems to be here."""
    here = _nvidia()
    if not here:
        return Finding("devices", "ok", f"The CPU; there is no GPU that PyTorch {version} could use.")
    advice = "Install a build of PyTorch for CUDA that is not newer than the driver: https://pytorch.org/get-started/locally/"
    if not built:
        found = f"This machine has {here}, but PyTorch {version} is built without CUDA, so runs are on the CPU."
        return Finding("devices", "note", found, advice)
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        value = os.environ["CUDA_VISIBLE_DEVICES"]
        found = f"This machine has {here}, but PyTorch sees none, and CUDA_VISIBLE_DEVICES is {value!r}."
        return Finding("devices", "note", found, "Unset CUDA_VISIBLE_DEVICES, or name a GPU that is there.")
    found = f"This machine has {here}, but PyTorch {version} for CUDA {built} cannot use it: {_refusal()}"
    return Finding("devices", "note", found, advice)


def _nvidia() -> str:
    """What NVIDIA's own program or driver says is here; '' where there is neither."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, check=True, capture_output=True, text=True, timeout=20).stdout.split("\n")
    except (OSError, subprocess.SubprocessError):
        return "NVIDIA's driver" if DRIVER.exists() else ""
    return "; ".join(f"{name}, driver {driver}" for name, _, driver in (line.partition(", ") for line in said if line))


def _refusal() -> str:
    """What PyTorch has against the driver."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.cuda.init()
    except Exception as error:
        return first_line(error)
    return "it finds no device."
