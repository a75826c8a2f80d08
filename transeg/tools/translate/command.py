"""The command `toolkit translate`, imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from transeg.core.errors import Failures, UsageError
from transeg.core.registry import Registry
from transeg.tools.common import options as common
from transeg.tools.common.console import stderr_console
from transeg.tools.common.shell_completion import complete_run_folders


@click.command(cls=common.CommandWithSettings)
@common.run_dir
@click.argument("images", metavar="IMAGES|DATASET")
@common.out
@common.direction
@click.option(
    "--format",
    "layout",
    metavar="NAME",
    help="Layout to write a translated dataset in, with its labels, such as folder or nnunet.",
)
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), help="Part of the dataset to use; by default all."
)
@click.option(
    "--consistency",
    type=common.PATH,
    metavar="RUN",
    shell_complete=complete_run_folders,
    help="Run whose segmenter should find the labels of a dataset in its translations; labels.csv says how well.",
)
@common.assignments(
    "Set an option of the dataset, such as rescale=0.5, or how images are read: range=[0, 4095] or page=0."
)
@common.pixel_size
@common.rescale
@common.window
@common.device
@common.with_registry
def translate(
    registry: Registry,
    run_dir: Path,
    images: str,
    out: Path,
    layout: str | None,
    split: str | None,
    consistency: Path | None,
    assignments: tuple[str, ...],
    pixel_size: tuple[float, float] | None,
    rescale: float | None,
    **named: Any,
) -> None:
    """Translate IMAGES, a file or a folder, with the model of RUN.

    They are label maps where the generator was trained on label maps. With --format, it is a DATASET, such as
    axon:SEM:/data/axons, whose labels come along, and labels.csv says how far each image was shifted against its label;
    go on after an interruption with the same command, and share the work among processes with torchrun -m transeg
    translate ...

    \b
    toolkit translate runs/mine /data/video -o translated
    toolkit translate runs/mine axon:SEM:/data/axons -o Dataset501_Axons --format nnunet
    """
    from transeg.core.api.image_files import translate_images
    from transeg.tools.translate.dataset_translation import translate_labelled_data

    failures, labels = Failures(), ""
    if layout is None:
        if split:
            raise UsageError("--split is for datasets; say --format, too.")
        if consistency:
            raise UsageError("--consistency is for datasets, whose labels come along; say --format, too.")
        named |= {"pixel_size": pixel_size, "rescale": rescale, "assignments": assignments}
        count = translate_images(run_dir, Path(images), registry, stderr_console(), out=out, failures=failures, **named)
    else:
        if pixel_size or rescale:
            raise UsageError("A dataset is resampled by its own options: --set pixel_size=UM or --set rescale=FACTOR.")
        data = f"folder:{images}" if Path(images).is_dir() else images
        console = stderr_console()
        named |= {"out": out, "layout": layout, "split": split, "assignments": assignments}
        named["consistency"] = consistency
        count, labels = translate_labelled_data(run_dir, data, registry, console, failures=failures, **named)
        if console.quiet:
            return
    Console().print(f"{count} translated images in {out}", highlight=False)
    if labels:
        Console().print(labels, highlight=False)
    failures.conclude("translated")
