import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

from transeg.tools.doctor import installed_packages
from transeg.tools.doctor.installed_packages import (
    SERVES,
    check_extras,
    check_imports,
    check_requirements,
    check_versions,
)

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]


@pytest.fixture
def installed(monkeypatch):
    """A world of packages: versions, and what each needs."""

    def make(versions, needs):
        def found(table, package):
            if package not in versions:
                raise PackageNotFoundError(package)
            return table.get(package)

        monkeypatch.setattr(installed_packages, "version", lambda package: found(versions, package))
        monkeypatch.setattr(installed_packages, "requires", lambda package: found(needs, package))

    return make


def test_each_extra_is_explained():
    assert set(SERVES) == set(PROJECT["optional-dependencies"]) - {"dev"}


def test_what_goes_together(installed):
    installed(
        {"transeg": "1", "torch": "2.10.0+cu126", "torchvision": "0.25", "numpy": "2.4.0rc1"},
        {"transeg": ["torch>=2.10", "torchvision", "numpy>=1.26"], "torchvision": ["torch==2.10.0", "pillow"]},
    )
    assert [finding.state for finding in check_requirements()] == ["ok"]


def test_packages_that_are_missing_or_old(installed):
    installed({"transeg": "1", "numpy": "1.20"}, {"transeg": ["numpy>=1.26", "torch>=2.10", 'old>9; extra == "x"']})
    (fault,) = check_requirements()
    assert fault.state == "fault"
    assert fault.found == "numpy>=1.26 is needed and 1.20 installed. torch>=2.10 is needed and missing."
    assert fault.advice == "pip install 'numpy>=1.26' 'torch>=2.10'"
    assert "torch is missing" in list(check_versions())[1].found


def test_a_pair_that_does_not_go_together(installed):
    """What either needs of a package that transeg does not know is not ours to judge."""
    installed(
        {"transeg": "1", "torch": "2.11.0", "torchvision": "0.25.0"},
        {"transeg": ["torch>=2.10", "torchvision>=0.25"], "torchvision": ["torch==2.10.0", "unknown>=1"]},
    )
    (fault,) = check_requirements()
    assert fault.state == "fault"
    assert fault.found.startswith("torchvision 0.25.0 does not go with what is installed: torch==2.10.0 is needed")
    assert fault.advice == "pip install 'torchvision' 'torch==2.10.0'"


def test_extras(installed):
    needs = ['av>=14; extra == "video"', 'nnunetv2; extra == "nnunet"', 'setuptools>=77; extra == "nnunet"']
    needs += ['optuna>=4.9; extra == "search"', 'onnx; extra == "export"', 'huggingface-hub; extra == "export"']
    installed({"transeg": "1", "av": "15", "nnunetv2": "2.8", "huggingface-hub": "2"}, {"transeg": needs})
    found = check_extras()
    assert found.state == "note"
    assert found.found.startswith("Installed: video.\n")
    assert "nnunet: toolkit nnunet, and its network; a part of it is there. setuptools>=77 is needed" in found.found
    assert "  search: toolkit search\n" in found.found
    assert "  export: toolkit export --format onnx, and model cards\n" in found.found  # timm brings huggingface-hub
    assert "wandb: --tracker wandb, and artifacts; what is installed as transeg is older" in found.found
    assert "pip install" in found.advice


def test_packages_that_cannot_be_imported(monkeypatch):
    def refuse(name):
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    assert check_imports().state == "ok"
    monkeypatch.setattr(installed_packages.importlib, "import_module", refuse)
    found = check_imports()
    assert found.state == "fault"
    assert found.found.startswith("cv2 cannot be imported: libGL.so.1: cannot open shared object file")


def test_pytorch_for_the_cpu_beside_a_torchvision_for_cuda(monkeypatch):
    def refuse(name):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(installed_packages.importlib, "import_module", refuse)
    assert "different builds" in check_imports().advice


def test_a_pytorch_that_was_built_for_another_numpy(monkeypatch):
    def refuse(array):
        raise RuntimeError("Numpy is not available")

    monkeypatch.setattr(torch, "from_numpy", refuse)
    assert check_imports().state == "fault"
    assert check_imports().found == "PyTorch and NumPy cannot exchange arrays: Numpy is not available."
