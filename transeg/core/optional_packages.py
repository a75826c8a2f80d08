"""Packages that not everybody has."""

from __future__ import annotations

import os
from importlib.util import find_spec
from types import ModuleType

from transeg.core.errors import UsageError


def require(package: str, extra: str, what: str) -> None:
    """Whether a package is installed.

    Args:
        package: by the name that it is imported by.
        extra: of transeg that installs it.
        what: needs it, as the sentence begins.

    Raises:
        UsageError: it is not.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:  # a mere folder of that name, which trackers leave behind, is none
        raise UsageError(f"{what} needs {package}, which is not installed: pip install 'transeg[{extra}]'")


def quiet_wandb() -> ModuleType:
    """Weights & Biases, without the reports on itself that it would send even when offline."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb
