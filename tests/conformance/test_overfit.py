"""Every segmenter and every segmentation loss memorises two real images."""

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from transeg.core.data.images import resize, resize_mask
from transeg.core.data.stream import to_tensor
from transeg.core.models.forward import segment, to_classes, to_signed_unit
from transeg.core.registry import Registry
from transeg.plugins.datasets.phantom import Phantom
from transeg.plugins.datasets.polyps import Kvasir
from transeg.plugins.losses.overlap import DiceLoss
from transeg.plugins.segmenters.unet import UNet

REGISTRY = Registry()
SEGMENTERS = [component for component in REGISTRY.components("segmenter") if component.status == "ok"]
LOSSES = [c for c in REGISTRY.components("loss") if c.status == "ok" and c.entry.role == "segmentation"]
ROOT = Path(os.environ.get("TRANSEG_DATA", "/nonexistent")) / "kvasir"


def pictures(dataset, side):
    """The two images ``(2, 3, side, side)`` of the first 20 with the largest objects, and their masks."""
    samples = sorted((dataset[i] for i in range(20)), key=lambda sample: -sample.mask.mean())[:2]
    images = torch.stack([to_tensor(resize(sample.image, side, side)) for sample in samples])
    masks = torch.stack([torch.from_numpy(resize_mask(sample.mask, side, side)) for sample in samples])
    return to_signed_unit(images, torch.device("cpu")), masks.long()


@pytest.fixture(params=["phantom", "kvasir"])
def examples(request):
    """Images and masks by their side: scope-like phantoms; real polyps where TRANSEG_DATA has them."""
    if request.param == "phantom":
        return lambda side: pictures(Phantom(None, "test", domain="scope", count=200, side=side), side)
    if not ROOT.is_dir():
        pytest.skip("TRANSEG_DATA has no kvasir/")
    return lambda side: pictures(Kvasir(ROOT, "all"), side)


def dice(network, images, masks):
    with torch.no_grad():
        found = to_classes(segment(network.eval(), images)[0])
    network.train()
    return (2 * (found * masks).sum() / (found.sum() + masks.sum())).item()


def fit(network, loss, images, masks, steps, rate=1e-3):
    """The best Dice in this many steps; it ends where it is good enough."""
    optimizer = torch.optim.Adam((p for p in network.parameters() if p.requires_grad), lr=rate, fused=True)
    network.train()
    best = 0.0
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        sum(loss(head, masks) for head in segment(network, images)).backward()
        optimizer.step()
        if step % 10 == 0:
            best = max(best, dice(network, images, masks))
            if best > 0.95:
                break
    return best


@pytest.mark.slow
@pytest.mark.parametrize("component", SEGMENTERS, ids=str)
def test_segmenters(component, examples):
    """At one of two usual rates: DUCK-Net wants the higher one.

    HarDNet's deepest maps have 2 x 2 pixels of an image of 64: batch norm knows too little then, and whether it learns
    depends on the machine. At 96 it needs 60 steps.
    """
    overlap = DiceLoss()

    def loss(logits, masks):
        return F.binary_cross_entropy_with_logits(logits[:, 0], masks.float()) + overlap(logits, masks)

    def learned(side, rate, steps):
        torch.manual_seed(0)
        return fit(REGISTRY.load(component)(3, 1), loss, *examples(side), steps, rate) > 0.95

    assert learned(64, 3e-3, 100) or learned(96, 1e-3, 300)


@pytest.mark.slow
@pytest.mark.parametrize("component", LOSSES, ids=str)
def test_losses(component, examples):
    """Those that are made to stand beside another loss stand beside Dice."""
    torch.manual_seed(0)
    loss, overlap = REGISTRY.load(component)(), DiceLoss()

    def beside_dice(logits, masks):
        return overlap(logits, masks) + 0.01 * loss(logits, masks)

    chosen = beside_dice if "partner" in component.entry.tags else loss
    assert fit(UNet(3, 1, base=8), chosen, *examples(64), steps=400) > 0.95
