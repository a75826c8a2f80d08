"""The command `toolkit predict`, imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from transeg.core.errors import Failures
from transeg.core.registry import Registry
from transeg.tools.common import options as common
from transeg.tools.common.console import stderr_console


@click.command(cls=common.CommandWithSettings)
@common.run_dir
@click.argument("images", metavar="IMAGES", type=common.PATH)
@common.out
@click.option("--probabilities", is_flag=True, help="Write probabilities as 16-bit PNG files, too.")
@click.option(
    "--overlays/--no-overlays",
    default=True,
    help="Whether to write the images with the masks' outlines, too: JPEG files where images have 8 bits and colour.",
)
@common.translate_with
@common.direction
@common.rescale
@common.assignments("Set how images are read, as for a dataset: range=[0, 4095] or page=0.")
@common.window
@common.flips
@common.device
@common.with_counting
@common.with_morphometry
@common.with_registry
def predict(registry: Registry, run_dir: Path, images: Path, **named: Any) -> None:
    """Segment IMAGES, a file or a folder, with the model of RUN.

    Images of a domain that it does not know are translated first with --translate-with. Writes masks at each image's
    own size, and the images with the masks' outlines. With --count, counts.csv has a line for each image and
    objects.csv one for each object: its area and centroid in pixels. With --morphometry, morphometry.csv has a line for
    each image and fibres.csv one for each axon: diameters, g-ratio, shape.

    \b
    toolkit predict RUN images -o out --morphometry --pixel-size 0.13

    Files that cannot be read are named at the end. Nothing is written over but what an earlier predict has written.
    """
    from transeg.core.api.image_files import predict_images

    failures = Failures()
    count, out = predict_images(run_dir, images, registry, stderr_console(), failures=failures, **named)
    outlines = f", outlines in {out / 'overlays'}" if named["overlays"] else ""
    Console().print(f"{count} masks in {out / 'masks'}{outlines}", highlight=False)
    if named["counting"] is not None:
        Console().print(f"Objects: {out / 'counts.csv'}, {out / 'objects.csv'}", highlight=False)
    if named["morphometry"] is not None:
        Console().print(f"Fibres: {out / 'morphometry.csv'}, {out / 'fibres.csv'}", highlight=False)
    failures.conclude("segmented")
