"""Tells what lasts of a network's state from what only its training goes on from, as generators declare it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from transeg.core.interfaces import Generator


def without_training_state(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a state dict without those of what generators name as their ``training_state``.

    Args:
        state: by the names that tensors have in the network.
        network: a generator, or a module that holds one.
    """
    passing = tuple(
        f"{place}.{name}.".removeprefix(".")
        for place, module in network.named_modules()
        if isinstance(module, Generator)
        for name in module.training_state
    )
    return {key: tensor for key, tensor in state.items() if not key.startswith(passing)}


def load_lasting_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Fill a network with a state dict of its kind; its ``training_state`` is left as it is, whatever is in the file.

    Raises:
        RuntimeError: another tensor is missing, of another shape, or has no place.
    """
    own = network.state_dict()
    kept = own.keys() - without_training_state(own, network).keys()
    network.load_state_dict({**{key: own[key] for key in kept}, **without_training_state(state, network)})
