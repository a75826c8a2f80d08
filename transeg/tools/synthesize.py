"""The command `toolkit synthesize`, imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from transeg.core.registry import Registry
from transeg.tools.common.console import stderr_console
from transeg.tools.common.options import COUNT, PATH, device, out, run_dir, with_registry

if TYPE_CHECKING:
    from transeg.core.pipeline.label_maps import Variation


@click.command()
@run_dir
@out
@click.option("--count", required=True, type=COUNT, metavar="N", help="Number of images to make.")
@click.option("--masks", type=PATH, metavar="FOLDER", help="Folder of label maps; by default those of the training.")
@click.option(
    "--variation",
    type=click.Choice(["none", "deform", "recombine"]),
    help="How to vary label maps first; by default none for --masks, else recombine.",
)
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Seed of label maps and noise; by default 0.")
@device
@with_registry
def synthesize(
    registry: Registry, run_dir: Path, count: int, masks: Path | None, variation: Variation | None, **named: Any
) -> None:
    """Make labelled images with the generator of RUN.

    It was trained on label maps, and gets new ones now. Writes images/, masks/ and instances/, to be learned from with
    `toolkit run --synthetic folder:FOLDER`.

    \b
    toolkit synthesize runs/pix2pix -o made --count 500
    toolkit synthesize runs/pix2pix -o made --count 100 --masks drawn
    """
    from transeg.core.api.synthesizing import synthesize_images

    chosen = variation or ("recombine" if masks is None else "none")
    console = stderr_console()
    out = synthesize_images(run_dir, registry, console, count=count, masks=masks, variation=chosen, **named)
    if console.quiet:
        return
    Console().print(f"{count} images in {out / 'images'}, their masks in {out / 'masks'}", highlight=False)
    Console().print(f"Learn from them with: toolkit run ... --synthetic folder:{out}", highlight=False)
