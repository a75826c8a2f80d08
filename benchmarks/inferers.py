"""Overlapping windows blended over an image: ours beside MONAI's `SlidingWindowInferer`, for table.py.

The same network runs under both, folded for inference as the toolkit does; windows of the same size overlap by half and
are blended by the same Gaussian, one window at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from measuring import Side
from torch import Tensor

Run = Callable[[Tensor], Tensor]
"""``(3, H, W)`` uint8 -> logits ``(1, H, W)``."""


def windows(which: str, height: int, width: int, window: int) -> Side:
    """HarDNet-MSEG in windows over an image; the outcome is the mean of the logits and their deviation."""
    from transeg.core.device import keep_freed_memory
    from transeg.core.inference.sliding_window import blend_windows
    from transeg.core.models.forward import segment, to_signed_unit
    from transeg.core.models.fusion import fuse_for_inference
    from transeg.core.registry import Registry

    if which == "ours":
        keep_freed_memory()  # as `toolkit predict` does
    cpu, registry = torch.device("cpu"), Registry()
    torch.manual_seed(0)
    plain = registry.load(registry.find("segmenter", "hardnet"))(3, 1).eval()
    multiple = plain.size_multiple
    network = fuse_for_inference(plain, 3, cpu)
    image = torch.randint(256, (3, height, width), dtype=torch.uint8)
    small = image[:, :window, :window]

    def ours(image: Tensor) -> Tensor:
        bands = blend_windows(
            lambda x, _: segment(network, x)[0],
            lambda region: image[:, region.top : region.top + region.height],
            image.shape[1:],
            window,
            cpu,
            multiple=multiple,
        )
        return torch.cat(list(bands), 1)

    def monai() -> Run:
        from monai.inferers import SlidingWindowInferer

        inferer = SlidingWindowInferer(window, overlap=0.5, mode="gaussian")
        return lambda image: inferer(to_signed_unit(image, cpu)[None], lambda x: segment(network, x)[0])[0]

    run: Run = torch.inference_mode()(ours if which == "ours" else monai())
    found: list[Tensor] = []

    def work() -> None:
        found[:] = [run(image)]

    return Side(work, warm_up=lambda: run(small), outcome=lambda: [found[0].mean().item(), found[0].std().item()])
