"""Translations of earlier steps for a discriminator to see again.

Shrivastava et al., "Learning from Simulated and Unsupervised Images through Adversarial Training", arXiv:1612.07828.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from transeg.core.interfaces import Batch


class ImagePool(nn.Module):
    """Holds so many translations, gives some of them back, and puts new ones in their place.

    The first images of a training fill it, each the place of its number in the stream. Of those that come later, each
    is handed on as it is or, as likely, for the one that it replaces. All ranks hold the same: what one has made, all
    put in. What it holds is part of a checkpoint; a pool that holds nothing yet has no tensor.

    Args:
        size: how many; 0 for none, and then every image is handed on.
        stream: tells apart the draws of several pools.
    """

    images: Tensor | None

    def __init__(self, size: int, stream: int) -> None:
        super().__init__()
        self._size = size
        self._stream = stream
        self.register_buffer("images", None)
        self.register_load_state_dict_pre_hook(_make_room)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def exchange(self, made: Tensor, batch: Batch) -> Tensor:
        """What a discriminator sees in the place of new translations.

        Args:
            made: ``(N, C, H, W)`` of this step; no gradient flows back into it.
            batch: that they were made of.

        Returns:
            ``(N, C, H, W)``.
        """
        made = made.detach()
        if self._size == 0:
            return made
        everything, positions = _of_all_ranks(made), _of_all_ranks(batch.positions)
        held = self._held(everything)
        draws = replace(batch, positions=positions).noise().integers(self._stream, 2 * self._size).tolist()
        seen = list(everything)
        for row in positions.argsort().tolist():
            position, place = int(positions[row]), draws[row]
            if position < self._size:
                held[position] = everything[row]
            elif place < self._size:
                seen[row] = held[place].clone()
                held[place] = everything[row]
        first = dist.get_rank() * len(made) if dist.is_initialized() else 0
        return torch.stack(seen[first : first + len(made)])

    def _held(self, like: Tensor) -> Tensor:
        """What the pool holds; copies of the given images where it holds none yet, or images of another kind."""
        if self.images is None or self.images.shape[1:] != like.shape[1:]:
            self.images = like[torch.arange(self._size) % len(like)]
        self.images = self.images.to(like)
        return self.images


def _of_all_ranks(rows: Tensor) -> Tensor:
    """The rows of all ranks, by rank; each has as many."""
    if not dist.is_initialized():
        return rows
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def _make_room(pool: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before a pool is loaded: how large its images are, only those who made them knew."""
    held = state.get(f"{prefix}images")
    if held is not None:
        assert isinstance(pool, ImagePool)
        pool.images = torch.empty_like(held)
