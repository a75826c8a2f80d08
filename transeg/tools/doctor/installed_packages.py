"""What is installed, and whether it goes together, by what packages say that they need of each other."""

from __future__ import annotations

import importlib
import platform
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from transeg import __version__
from transeg.tools.doctor.finding import Finding, first_line

SHOWN = ("torch", "torchvision", "numpy", "mmengine-lite", "timm", "albumentations", "opencv-python-headless")
"""Packages whose versions explain most faults."""
IMPORTED = ("numpy", "torch", "torchvision", "cv2", "timm", "mmengine")
"""Modules with compiled parts, or that need those."""
SERVES = {
    "cluster": "--cluster slurm",
    "dicom": "reads DICOM, and predict --format dicom-seg",
    "export": "toolkit export --format onnx, and model cards",
    "fidelity": "FID and KID by Inception",
    "mlflow": "--tracker mlflow",
    "monai": "segmenters of MONAI",
    "nifti": "reads NIfTI",
    "nnunet": "toolkit nnunet, and its network",
    "polygons": "predict --format coco and imagej, and reads ROIs of ImageJ",
    "search": "toolkit search",
    "slides": "reads whole slides",
    "smp": "segmenters of segmentation_models_pytorch",
    "stain": "data.stain",
    "video": "reads videos",
    "wandb": "--tracker wandb, and artifacts",
    "watershed": "--count-method watershed, and --morphometry",
}
"""What each extra of transeg is for; `dev` is for its developers."""


def check_versions() -> Iterator[Finding]:
    """What a report of a fault begins with."""
    yield Finding("transeg", "ok", f"{__version__}, Python {platform.python_version()}, {platform.platform()}.")
    found = ((name, _version(name)) for name in SHOWN)
    yield Finding("packages", "ok", ", ".join(f"{name} {number or 'is missing'}" for name, number in found) + ".")


def check_requirements() -> Iterator[Finding]:
    """Packages that transeg needs and that are missing or of a wrong version; pairs of them that do not go together."""
    needed = _needs("transeg")
    unmet = [need for need in needed if not _is_met(need)]
    if unmet:
        yield Finding("versions", "fault", " ".join(map(_unmet, unmet)), _install(unmet))
    own = {canonicalize_name(need.name) for need in needed}
    together = not unmet
    for package in sorted(own):
        bad = [need for need in _needs(package) if not _is_met(need) and canonicalize_name(need.name) in own]
        if bad:
            together = False
            found = f"{package} {_version(package)} does not go with what is installed: {' '.join(map(_unmet, bad))}"
            yield Finding("versions", "fault", found, _install([Requirement(package), *bad]))
    if together:
        yield Finding("versions", "ok", "All that transeg needs is there, in versions that go together.")


def check_imports() -> Finding:
    """Whether what every run imports can be: what is installed in a right version may be built for another system or
    another NumPy, or lack a library of the system.
    """
    faults = []
    for name in IMPORTED:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
        except Exception as error:
            faults.append(f"{name} cannot be imported: {first_line(error)}")
    if not faults:
        try:
            _exchange_arrays()
        except Exception as error:
            faults.append(f"PyTorch and NumPy cannot exchange arrays: {first_line(error)}")
    if not faults:
        return Finding("imports", "ok", f"{', '.join(IMPORTED)} can be imported.")
    advice = "Install again what is named, in an environment of its own: python -m venv, then pip install transeg"
    if any("operator torchvision::" in fault for fault in faults):
        advice = (
            "PyTorch and torchvision are of different builds, such as one for the CPU and one for CUDA. Install both "
            "from one place, by the command that https://pytorch.org/get-started/locally/ shows."
        )
    return Finding("imports", "fault", " ".join(faults), advice)


def _exchange_arrays() -> None:
    """What a PyTorch that was built for another NumPy refuses."""
    import numpy as np
    import torch

    torch.from_numpy(np.zeros(1)).numpy()


def check_extras() -> Finding:
    """Which extras of transeg are installed, and what the others are for."""
    whole, lacking = [], []
    for extra, purpose in SERVES.items():
        needs = _needs("transeg", extra)
        unmet = [need for need in needs if not _is_met(need)]
        if not needs:
            lacking.append(f"{extra}: {purpose}; what is installed as transeg is older and has no such extra.")
        elif not unmet:
            whole.append(extra)
        elif needs[0] in unmet:  # the others, such as setuptools, are there for something else
            lacking.append(f"{extra}: {purpose}")
        else:
            lacking.append(f"{extra}: {purpose}; a part of it is there. {' '.join(map(_unmet, unmet))}")
    there = f"Installed: {', '.join(whole) or 'none'}."
    if not lacking:
        return Finding("extras", "ok", there)
    return Finding(
        "extras",
        "note",
        "\n".join([there, "Not installed:", *(f"  {line}" for line in lacking)]),
        "For what you want of these: pip install 'transeg[NAME]'",
    )


def _needs(package: str, extra: str = "") -> list[Requirement]:
    """What a package needs on this machine, or what one of its extras adds to that; nothing where it is missing."""
    try:
        needs = [Requirement(line) for line in requires(package) or []]
    except PackageNotFoundError:
        return []
    always = [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    if not extra:
        return always
    return [need for need in needs if need not in always and need.marker and need.marker.evaluate({"extra": extra})]


def _is_met(need: Requirement) -> bool:
    number = _version(need.name)
    return number is not None and need.specifier.contains(number, prereleases=True)


def _unmet(need: Requirement) -> str:
    """A sentence."""
    number = _version(need.name)
    wanted = f"{need.name}{need.specifier}"
    return f"{wanted} is needed and {number} installed." if number else f"{wanted} is needed and missing."


def _install(needs: list[Requirement]) -> str:
    """The command that mends it."""
    return "pip install " + " ".join(f"'{need.name}{need.specifier}'" for need in needs)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
