"""What a run was made with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from transeg import __version__
from transeg.core.registry import Registry

PACKAGES = ("torchvision", "timm", "mmengine-lite", "albumentations", "torchmetrics", "numpy")


def describe_environment(registry: Registry) -> dict[str, Any]:
    """Versions, machine and plugins, ``registry`` being the manifests named by the user; ``began`` is when the run did,
    or was last resumed.
    """
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "transeg": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {"torch": torch.__version__, **{name: importlib.metadata.version(name) for name in PACKAGES}},
        "registry": [str(file.resolve()) for file in registry.files],
        "plugins": {plugin.package: plugin.version for plugin in registry.plugins if plugin.status == "ok"},
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "arguments": [redact_password(argument) for argument in sys.argv[1:]],
    }


def _commit() -> str | None:
    """Of the source tree that transeg runs from, marked where files in it have changed; None for an installed one."""
    tree = Path(__file__).parents[3]
    if not (tree / ".git").exists() or shutil.which("git") is None:
        return None
    line = ["git", "-C", str(tree), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    found = subprocess.run(line, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def redact_password(text: str) -> str:
    """A text whose addresses (``scheme://user:password@host``) have lost their passwords."""
    return re.sub(r"(://[^/@:\s]*):\S*@", r"\1:***@", text)
