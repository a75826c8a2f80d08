"""The command `toolkit translate`, imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from transeg.core.errors import UsageError
from transeg.core.registry import Registry
from transeg.tools.common.console import talk
from transeg.tools.common.options import device, direction, out, pixel_size, rescale, window, with_registry


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGES|DATASET")
@out
@direction
@click.option(
    "--format",
    "layout",
    metavar="NAME",
    help="Translate a dataset with its labels, and write it as this one, such as folder or nnunet.",
)
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Of the dataset; by default all.")
@click.option(
    "--set", "assignments", multiple=True, metavar="OPTION=VALUE", help="An option of the dataset, such as rescale=0.5."
)
@pixel_size
@rescale
@window
@device
@with_registry
def translate(
    registry: Registry,
    run_dir: Path,
    images: str,
    out: Path,
    layout: str | None,
    split: str | None,
    assignments: tuple[str, ...],
    pixel_size: tuple[float, float] | None,
    rescale: float | None,
    **named: Any,
) -> None:
    """Translate IMAGES, a file or a folder, with the model of RUN.

    They are label maps where the generator was trained on label maps. With --format, it is a DATASET, such as
    axon:SEM:/data/axons, whose labels come along; go on after an interruption with the same command, and share the work
    among processes with torchrun -m transeg translate ...

    \b
    toolkit translate runs/mine /data/video -o translated
    toolkit translate runs/mine axon:SEM:/data/axons -o Dataset501_Axons --format nnunet
    """
    from transeg.core.api import translate_images
    from transeg.tools.translate.dataset import translate_data

    if layout is None:
        if split or assignments:
            raise UsageError("--split and --set are for datasets; say --format, too.")
        named |= {"pixel_size": pixel_size, "rescale": rescale}
        count = translate_images(run_dir, Path(images), registry, talk(), out=out, **named)
    else:
        if pixel_size or rescale:
            raise UsageError("A dataset is resampled by its own options: --set pixel_size=UM or --set rescale=FACTOR.")
        data = f"folder:{images}" if Path(images).is_dir() else images
        console = talk()
        named |= {"out": out, "layout": layout, "split": split, "assignments": assignments}
        count = translate_data(run_dir, data, registry, console, **named)
        if console.quiet:
            return
    Console().print(f"{count} translated images in {out}", highlight=False)
