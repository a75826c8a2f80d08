"""What a run was made with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from typing import Any

import torch

from transeg import __version__
from transeg.core.registry import Registry

PACKAGES = ("torchvision", "timm", "mmengine-lite", "albumentations", "torchmetrics", "numpy")


def environment(registry: Registry) -> dict[str, Any]:
    """Versions, machine and plugins."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "transeg": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {"torch": torch.__version__, **{name: importlib.metadata.version(name) for name in PACKAGES}},
        "plugins": {plugin.package: plugin.version for plugin in registry.plugins if plugin.status == "ok"},
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "arguments": [without_password(argument) for argument in sys.argv[1:]],
    }


def without_password(text: str) -> str:
    """A text whose addresses (``scheme://user:password@host``) have lost their passwords."""
    return re.sub(r"(://[^/@:\s]*):\S*@", r"\1:***@", text)
