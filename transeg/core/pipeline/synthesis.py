"""Synthetic labelled images: a generator's images of label maps, with these as their masks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from transeg.core.data.images import lossless_suffix
from transeg.core.data.writing import file_name, write_atomically
from transeg.core.distributed.collectives import broadcast_from_first, gather_in_order, rank_and_world_size
from transeg.core.errors import UsageError
from transeg.core.files import write_json
from transeg.core.inference.sliding_window import Inference
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import to_pixels
from transeg.core.pipeline.label_maps import LabelMaps


def synthesize(
    trained: TrainedModel,
    maps: LabelMaps,
    count: int,
    folder: Path,
    inference: Inference,
    seed: int,
    advance: Callable[[], None],
) -> None:
    """Write pairs of images and masks in the `folder` layout.

    What is there already stays, so that an interrupted synthesis goes on. Of several processes each makes its share.

    Args:
        trained: a run whose generator is given label maps.
        maps: what images are made of.
        count: how many.
        folder: gets `images/`, `masks/` with class numbers, `instances/` with numbers of single objects, and
            `manifest.json`, which says what came from where and with which noise.
        inference: how label maps reach the generator; images and masks have its size.
        seed: of the noise, beside each image's number.
        advance: called after each image.

    Raises:
        UsageError: the generator is given images.
    """
    if not trained.given.by_mask:
        raise UsageError("The generator of this run is given images, not label maps; see `toolkit translate`.")
    rank, ranks = rank_and_world_size()
    manifest = []
    suffix = lossless_suffix(trained.domains.target_channels)
    for number in range(rank, count, ranks):
        labels = maps[number]
        stem = f"{number:06d}-{file_name(labels.name)}"
        noise = seed * 2**32 + number
        manifest.append((stem, {"name": labels.name, "group": labels.group, "noise": noise}))
        image = folder / "images" / f"{stem}{suffix}"
        if not image.exists():
            given = trained.given.labels(labels.mask, labels.instances, inference)
            made = inference.run(partial(trained.translate, seed=noise), given, trained.device)
            for kind, numbers in (("masks", labels.mask), ("instances", labels.instances.astype(np.uint16))):
                write_atomically(folder / kind / f"{stem}.png", inference.prepare_mask(numbers))
            write_atomically(image, to_pixels(made))
        advance()
    everything = dict(gather_in_order(manifest))
    broadcast_from_first(lambda: write_json(folder / "manifest.json", everything))
