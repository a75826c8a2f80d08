"""Spaces that others have searched, by name."""

from __future__ import annotations

from dataclasses import dataclass

from transeg.core.experiment.settings import Settings
from transeg.tools.search.space import Choices, Range, Space


@dataclass(frozen=True)
class Preset:
    """A published space.

    Attributes:
        space: what was searched.
        settings: what the space needs of an experiment that says nothing else.
    """

    space: Space
    settings: Settings


def _transform(name: str) -> str:
    return f"augmentation.transforms.{name}"


ZH320 = Preset(
    space={
        "loss": Choices(("ohem", "ce")),
        "train.lr": Range(1e-4, 1e-2, log=True),
        "train.ema": Choices((0.99, None)),
        f"{_transform('RandomScale')}.scale_limit.0": Range(-0.8, -0.1),
        f"{_transform('RandomScale')}.scale_limit.1": Range(0.25, 1.5),
        f"{_transform('ColorJitter')}.brightness": Range(0.0, 0.9),
        f"{_transform('ColorJitter')}.contrast": Range(0.0, 0.9),
        f"{_transform('ColorJitter')}.saturation": Range(0.0, 0.9),
        f"{_transform('HorizontalFlip')}.p": Range(0.0, 0.5),
        f"{_transform('VerticalFlip')}.p": Range(0.0, 0.5),
    },
    settings={
        "segmenter": {"num_classes": 2},
        "train": {"schedule": "cosine", "warmup": 0.0075},
        "augmentation": {"preset": "zh320"},
    },
)
"""zh320/medical-segmentation-pytorch (2025), as it tuned its U-Net, ResUNet and their like on four sets of polyps.

Its `base_lr`, log-uniform in [1e-3, 1e-1], reaches Adam as a tenth of that. Its weights are averaged, or not, with a
decay that grows to one; here it stays. Left out, since Adam alone trains a segmenter here: the optimizer (SGD, Adam or
AdamW; 17 of its 20 winners are of the latter two).
"""

PRESETS: dict[str, Preset] = {
    "zh320": ZH320,
    # its results of U-Net++ name one option more
    "zh320-unetpp": Preset(
        {**ZH320.space, "segmenter.aux": Choices((True, False))},
        {**ZH320.settings, "segmenter": {"name": "unetpp", "num_classes": 2}},
    ),
}
"""By the name that `preset` in ``[search]`` takes."""
