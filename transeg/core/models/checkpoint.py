"""Checkpoints: written whole or not at all, holding tensors, numbers, strings and nothing executable."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from transeg.core.errors import TransegError
from transeg.core.files import replacing

FORMAT = 1


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        TransegError: it cannot be written; whatever was at ``path`` is still whole.
    """
    try:
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
    except (TransegError, RuntimeError) as error:  # PyTorch turns a failed write into a RuntimeError
        cause = error.__cause__ if isinstance(error, TransegError) else error
        reason = getattr(cause, "strerror", None) or str(cause).splitlines()[0]
        raise TransegError(
            f"The checkpoint {path} cannot be written: {reason}. The last one there is still whole."
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; only tensors and plain values are accepted.

    Raises:
        TransegError: there is none, it is damaged, it holds pickled code, or it is not one of ours.
    """
    state = load_safely(path)
    if not isinstance(state, dict) or "format" not in state:
        raise TransegError(
            f"{path} is not a transeg checkpoint; load foreign weights with --set segmenter.weights=FILE."
        )
    if state["format"] != FORMAT:
        raise TransegError(f"{path} has checkpoint format {state['format']}, this transeg reads format {FORMAT}.")
    return state


def load_safely(path: Path, *, numpy_numbers: bool = False) -> Any:
    """``torch.load`` with ``weights_only``, and a sentence for each way in which it fails.

    Args:
        path: of the file.
        numpy_numbers: whether single numbers of NumPy may be beside the tensors, as in checkpoints of nnU-Net; to
            make one runs nothing that the file chooses.

    Raises:
        TransegError: there is no such file, it is damaged, or it holds pickled code.
    """
    try:
        with torch.serialization.safe_globals(_numbers() if numpy_numbers else []):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TransegError(f"There is no file {path}.") from error
    except pickle.UnpicklingError as error:
        if "unsupported" in str(error).lower():
            raise TransegError(
                f"{path} holds pickled code, which is never run; save its state_dict alone and load that."
            ) from error
        raise TransegError(f"{path} is damaged or not a checkpoint.") from error
    except Exception as error:  # what the unpickler raises on damaged files is not documented
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TransegError(f"{path} is damaged or not a checkpoint: {reason}.") from error


def random_state() -> dict[str, Any]:
    """The state of every random generator that training may draw from, as tensors and numbers."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    version, numbers, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],  # of the GPU that is trained on
        "numpy": [str(name), torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
        "python": [version, list(numbers), gauss],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what :func:`random_state` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"][0])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))


def _numbers() -> list[Any]:
    """What a pickled number of NumPy is made of, by the names that NumPy 1 and 2 give it."""
    make = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(code)) for code in ("?", "i4", "i8", "f4", "f8")}
    return [np.dtype, *kinds, *((make, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core"))]
