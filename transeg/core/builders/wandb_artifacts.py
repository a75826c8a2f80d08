"""Weights that are an artifact of Weights & Biases: fetched once, and kept."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from transeg.core.cache_folder import cache_folder
from transeg.core.errors import TransegError
from transeg.core.experiment.choices import ARTIFACT
from transeg.core.optional_packages import quiet_wandb, require

SUFFIXES = frozenset({".pt", ".pth", ".safetensors", ".bin", ".ckpt"})
"""Of files that hold weights."""


def fetch_weights(weights: Path | str) -> Path:
    """A file of weights: a path as it is, an artifact's file in the cache, which is filled where it lacks it.

    Args:
        weights: a path, or ``wandb:ENTITY/PROJECT/NAME:VERSION``.

    Raises:
        UsageError: wandb is not installed.
        TransegError: the artifact is not available, or does not hold one file of weights.
    """
    if isinstance(weights, Path):
        return weights
    name = weights.removeprefix(ARTIFACT)
    folder = artifact_cache() / name.replace(":", "-")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():  # a version never changes
            _fetch(name, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = [path for path in files if path.suffix in SUFFIXES]
    if len(found) != 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found or files) or "nothing"
        raise TransegError(
            f"The artifact {name} must hold one file of weights ({', '.join(sorted(SUFFIXES))}); it holds {names}."
        )
    return found[0]


def artifact_cache() -> Path:
    """Where artifacts are kept."""
    return cache_folder("artifacts")


def _fetch(name: str, folder: Path) -> None:
    """Download an artifact whole or not at all."""
    require("wandb", "wandb", f"The artifact {name}")
    with TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as beside:
        try:
            quiet_wandb().Api().artifact(name).download(root=beside)
        except Exception as error:
            reason = str(error).rstrip(".")
            raise TransegError(f"The artifact {name} is not available from Weights & Biases: {reason}.") from error
        Path(beside).rename(folder)
