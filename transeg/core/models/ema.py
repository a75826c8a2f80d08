"""Moving averages of weights, which often do better than the weights themselves (Polyak and Juditsky, 1992)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from transeg.core.models.memory_layout import laid_out_like


class EMA:
    """Exponential moving averages of the parameters of some of a model's submodules, on their devices.

    The first average is the weights after the first step. Buffers are not averaged.

    Args:
        model: holds the submodules.
        decays: of each submodule by name: how much of its average a step leaves.
    """

    def __init__(self, model: nn.Module, decays: Mapping[str, float]) -> None:
        self._parameters = {
            name: {f"{name}.{key}": p for key, p in model.get_submodule(name).named_parameters()} for name in decays
        }
        self._update = {name: get_ema_multi_avg_fn(decay) for name, decay in decays.items()}
        self._averages: dict[str, Tensor] = {}

    def update(self) -> None:
        """Take the weights into account; to be called after each step."""
        if not self._averages:
            self._averages = {key: p.detach().clone() for key, p in self._all().items()}
        for name, parameters in self._parameters.items():
            averages = [self._averages[key] for key in parameters]
            self._update[name](averages, [p.detach() for p in parameters.values()], 0)

    def exchange(self) -> None:
        """Put the averages where the weights are and keep the weights, or the other way round; nothing is copied."""
        parameters = self._all()
        for key, average in self._averages.items():
            parameters[key].data, self._averages[key] = average, parameters[key].data

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages are where the weights are, for as long as this lasts."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    def state_dict(self) -> dict[str, Tensor]:
        """Every average under its parameter's name in the model, as checkpoints hold them: in the usual order; empty
        before the first step.
        """
        return {key: average.contiguous() for key, average in self._averages.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state_dict` returned, whatever device it is on, in the order of each parameter."""
        parameters = self._all()
        self._averages = {
            key: laid_out_like(average.to(parameters[key].device, copy=True), parameters[key])
            for key, average in state.items()
        }

    def __contains__(self, name: str) -> bool:
        """Whether a submodule is averaged."""
        return name in self._parameters

    def _all(self) -> dict[str, nn.Parameter]:
        return {key: p for parameters in self._parameters.values() for key, p in parameters.items()}


def shorten_decay(decay: float, iterations: int) -> float:
    """A decay with which an average reaches back over a 20th of the training at most, and over two iterations at least.

    From 20,000 iterations on, 0.999 is left as it is.
    """
    return min(decay, max(0.5, 1 - 20 / iterations))
