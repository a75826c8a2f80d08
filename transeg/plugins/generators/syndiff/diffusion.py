"""The diffusion: four large steps of a variance-preserving process.

Ho, Jain and Abbeel, arXiv:2006.11239; the schedule of Song et al., arXiv:2011.13456, with beta from 0.1 to 20; few
large steps as in Xiao, Kreis and Vahdat, arXiv:2112.07804.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STEPS = 4
BETA_MIN, BETA_MAX = 0.1, 20.0
BEGINNING = 1e-3
"""Time of the first step; the last is at 1."""


class Diffusion(nn.Module):
    """Adds noise to images, and takes a step of it back.

    The tables are float32, computed as published to the last digit: step 0 adds no noise at all. No part of a state
    dict.

    Attributes:
        beta: ``(STEPS + 1,)``: variance that each step adds; that of step 0 is next to nothing.
        kept: ``(STEPS + 1,)``: how much each step keeps of the one before.
        added: ``(STEPS + 1,)``: deviation of the noise that each step adds.
        signal: ``(STEPS + 1,)``: how much of an image is left at each step.
        noise: ``(STEPS + 1,)``: deviation of the noise that was added by then.
        from_clean: ``(STEPS,)``: weight of the clean image in the mean of an earlier step.
        from_later: ``(STEPS,)``: weight of the later step in it.
        deviation: ``(STEPS,)``: of the earlier step about that mean.
    """

    beta: Tensor
    kept: Tensor
    added: Tensor
    signal: Tensor
    noise: Tensor
    from_clean: Tensor
    from_later: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        time = torch.arange(STEPS + 1, dtype=torch.float64) / STEPS * (1 - BEGINNING) + BEGINNING
        alpha = torch.exp(2 * (-0.25 * time**2 * (BETA_MAX - BETA_MIN) - 0.5 * BETA_MIN * time))
        beta = torch.cat((torch.tensor([1e-8]), 1 - alpha[1:] / alpha[:-1])).float()
        signal = (1 - beta).sqrt().cumprod(0)
        later = beta[1:]
        product = (1 - later).cumprod(0)
        before = torch.cat((torch.ones(1), product[:-1]))
        tables = {
            "beta": beta,
            "kept": (1 - beta).sqrt(),
            "added": beta.sqrt(),
            "signal": signal,
            "noise": (1 - signal.square()).sqrt(),
            "from_clean": later * before.sqrt() / (1 - product),
            "from_later": (1 - before) * (1 - later).sqrt() / (1 - product),
            "deviation": (later * (1 - before) / (1 - product)).sqrt(),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def noisy(self, clean: Tensor, step: Tensor, noise: Tensor) -> Tensor:
        """A clean image ``(N, C, H, W)`` at steps ``(N,)``."""
        return _at(self.signal, step) * clean + _at(self.noise, step) * noise

    def noisier(self, earlier: Tensor, step: Tensor, noise: Tensor) -> Tensor:
        """The step that follows steps ``(N,)``."""
        return _at(self.kept, step + 1) * earlier + _at(self.added, step + 1) * noise

    def earlier(self, clean: Tensor, later: Tensor, step: Tensor, noise: Tensor) -> Tensor:
        """A draw of steps ``(N,)``, given what follows them and a guess at the clean image."""
        mean = _at(self.from_clean, step) * clean + _at(self.from_later, step) * later
        return mean + _at(self.deviation, step) * noise


def _at(table: Tensor, step: Tensor) -> Tensor:
    return table[step][:, None, None, None]
