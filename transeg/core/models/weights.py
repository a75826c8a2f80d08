"""Loads weights trained elsewhere into a network, through the key map that its class declares."""

from __future__ import annotations

import logging
import re
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from transeg.core.errors import TransegError
from transeg.core.models.checkpoint import load_safely
from transeg.core.models.training_state import without_training_state

logger = logging.getLogger("transeg.weights")

KeyMap = Sequence[tuple[str, str | None]]


def load_weights(
    network: nn.Module,
    path: Path,
    key_map: KeyMap,
    part: str,
    *,
    whole: bool = False,
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
) -> None:
    """Load a state dict: a bare one, one inside a training checkpoint, several by name, or one of ours.

    What DataParallel and torch.compile put before names does not count. Where none of the keys is one of the
    network's, but the file's name says which child of it they belong to (``latest_net_G.pth``), they are taken to be
    that child's; or else what follows one prefix that several have, as where a training kept the network as ``model``.

    Args:
        network: its tensors are overwritten where the file has one of the same name and shape.
        path: ``.safetensors``, or a file that ``torch.load`` reads with ``weights_only``.
        key_map: patterns that turn published names into ours.
        part: ``segmenter`` or ``generator``: where to look in a checkpoint of ours.
        whole: whether every tensor must be filled.
        adapt: brings tensors by our names into our shapes.

    Raises:
        TransegError: the file cannot be read, holds code, or none of it fits, or not all where all must; or several
            networks in it would fit.
    """
    ours = without_training_state(network.state_dict(), network)
    theirs = map_keys(_unwrapped(read_state_dict(path, part), ours), key_map)
    if not theirs.keys() & ours.keys():
        theirs = {f"{prefix}{key}": tensor for prefix in _child(network, path) for key, tensor in theirs.items()}
    if not theirs.keys() & ours.keys():
        theirs = _without_prefix(theirs, ours, path)
    theirs = without_training_state(adapt(theirs), network)
    fitting = {key: tensor for key, tensor in theirs.items() if key in ours and ours[key].shape == tensor.shape}
    if not fitting:
        raise TransegError(
            f"{path} fits nowhere into the {part}: none of its {len(theirs)} tensors has a name and shape in it."
        )
    network.load_state_dict(fitting, strict=False)
    missing = sorted(set(ours) - set(fitting))
    if missing:
        reshaped = [key for key in missing if key in theirs]
        detail = f"; of another shape: {_some(reshaped)}" if reshaped else ""
        if whole:
            filled = f"{path} fills {len(fitting)} of the {len(ours)} tensors of the {part}"
            raise TransegError(f"{filled}; it lacks {_some(missing)}{detail}.")
        logger.warning(
            "%s fills %d of the %d tensors of the %s; left as initialised: %s%s.",
            path,
            len(fitting),
            len(ours),
            part,
            _some(missing),
            detail,
        )
    unused = sorted(set(theirs) - set(ours))
    if unused:
        logger.warning("%s holds %d tensors that the %s has no place for: %s.", path, len(unused), part, _some(unused))


def read_state_dict(path: Path, part: str) -> dict[str, Tensor]:
    """The tensors of a weight file by name."""
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise TransegError(f"{path} cannot be read: {error}.") from error
    with torch.serialization.safe_globals([Namespace]):  # the options beside the weights: plain values under names
        content: Any = load_safely(path, numpy_numbers=True)
    if isinstance(content, dict) and {"model", "averages"} <= content.keys():  # a run's: what its inference uses
        content = {**content["model"], **content["averages"]}
    while isinstance(content, dict) and not any(isinstance(value, Tensor) for value in content.values()):
        inner = next(
            (content[key] for key in ("model", "state_dict", "net", "network_weights", part) if key in content), None
        )
        if not isinstance(inner, dict):
            break
        content = inner
    tensors = _tensors(content) or _by_name(content)
    if not tensors:
        raise TransegError(f"{path} holds no state dict.")
    own = {key.removeprefix(f"{part}."): value for key, value in tensors.items() if key.startswith(f"{part}.")}
    return own or tensors


def map_keys(state: dict[str, Tensor], key_map: KeyMap) -> dict[str, Tensor]:
    """Rename the keys of a state dict; those mapped to None are dropped."""
    mapped = {}
    for key, tensor in state.items():
        name: str | None = key
        for pattern, replacement in key_map:
            if name is None:
                break
            if re.search(pattern, name):
                name = None if replacement is None else re.sub(pattern, replacement, name)
        if name is not None:
            mapped[name] = tensor
    return mapped


def _tensors(content: Any) -> dict[str, Tensor]:
    entries = content.items() if isinstance(content, dict) else ()
    return {key: value for key, value in entries if isinstance(value, Tensor)}


def _by_name(content: Any) -> dict[str, Tensor]:
    """The tensors of several state dicts in one file, each key prefixed with the name of its state dict."""
    entries = content.items() if isinstance(content, dict) else ()
    return {f"{name}.{key}": tensor for name, inner in entries for key, tensor in _tensors(inner).items()}


def _unwrapped(state: dict[str, Tensor], ours: Collection[str]) -> dict[str, Tensor]:
    """The tensors by their names in the network itself, which torch.compile and DataParallel keep as a child."""
    state = {key.replace("_orig_mod.", ""): tensor for key, tensor in state.items()}
    while all(key.startswith("module.") and key not in ours for key in state):
        state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    return state


def _without_prefix(state: dict[str, Tensor], ours: Collection[str], path: Path) -> dict[str, Tensor]:
    """The tensors of the one network most of whose names are ours but for what comes before; all where there is none.

    Most, because a name such as ``0.weight`` stands in many networks.
    """
    parts = [(key[: dot.end()], key[dot.end() :]) for key in state for dot in re.finditer(r"\.", key)]
    counts = Counter(prefix for prefix, name in parts if name in ours)
    found = sorted(prefix for prefix, count in counts.items() if 2 * count > len(ours))
    if len(found) > 1:
        raise TransegError(
            f"{path} holds several networks that would fit, {_some(found)}; save the one that is wanted in a file of "
            "its own."
        )
    return {key[len(prefix) :]: state[key] for prefix in found for key in state if key.startswith(prefix)} or state


def _child(network: nn.Module, path: Path) -> list[str]:
    """What must come before keys for the child that a file is named after; nothing where it is named after none."""
    names = [name for name, _ in network.named_children() if re.search(rf"(^|_){re.escape(name)}(_|$)", path.stem)]
    return [f"{name}." for name in names] or [""]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
