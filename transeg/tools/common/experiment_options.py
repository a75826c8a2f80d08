"""Options that say what to train, which `toolkit run`, `sweep` and `search` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from transeg.tools.common.shell_completion import components, runs, settings, strategies

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def with_experiment(*, axes: bool = False, several: bool = True) -> Decorator:
    """Give a command the options of an experiment.

    Args:
        axes: whether those that make the axes of a sweep may be repeated.
        several: whether there are those that train more than one segmenter.
    """
    again = " Repeat it to make an axis of the sweep." if axes else ""

    def axis(flag: str, about: str, metavar: str | None, names: Any = None, **more: Any) -> Decorator:
        return click.option(flag, multiple=axes, metavar=metavar, shell_complete=names, help=f"{about}{again}", **more)

    generators, segmenters, datasets = (components(kind) for kind in ("generator", "segmenter", "dataset"))
    losses = components("loss", "segmentation")
    options = [
        axis("--generator", "Generator that translates images; see `toolkit list generators`.", "NAME", generators),
        axis("--segmenter", "Network that segments images; see `toolkit list segmenters`.", "NAME", segmenters),
        axis("--loss", "Loss that the segmenter minimises, or a sum such as dice+0.5*bce.", "SUM", losses),
        click.option(
            "--teacher",
            "teachers",
            multiple=True,
            metavar="TEACHER",
            shell_complete=runs,
            help="Teacher to distil from: a run folder, or SEGMENTER:WEIGHTS. Repeatable.",
        ),
        click.option(
            "--distill",
            "distillers",
            multiple=True,
            metavar="LOSS",
            shell_complete=components("loss", "distillation"),
            help="Loss to distil with, and its options, such as kl:temperature=4,weight=1 or at:layer=NAME; by default "
            "kl. Repeatable.",
        ),
        axis("--source", "Labelled images to train on: NAME, NAME:FOLDER or NAME:DOMAIN:FOLDER.", "DATA", datasets),
        axis("--target", "Unlabelled images of the domain where the model must work.", "DATA", datasets),
        axis("--synthetic", "Synthetic labelled images to train on, beside those of --source.", "DATA", datasets),
        axis(
            "--val",
            "Labelled images that select the best checkpoint; by default the validation images of --source.",
            "DATA",
            datasets,
        ),
        click.option(
            "--test",
            "tests",
            multiple=True,
            metavar="DATA",
            shell_complete=datasets,
            help="Labelled images to test on. Repeatable.",
        ),
        axis(
            "--strategy",
            "How to train: supervised, translation, sequential or joint; by default as suits the generator and "
            "segmenter that are named.",
            "NAME",
            strategies,
        ),
        *(_of_several if several else ()),
        click.option(
            "--tracker",
            "trackers",
            multiple=True,
            type=click.Choice(["tensorboard", "wandb", "mlflow"]),
            help="Tracker that records scalars and pictures, in the run folder and without sending anything; by "
            "default tensorboard. Repeatable.",
        ),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Experiment file (TOML) to begin with; options of the command line override it.",
        ),
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="OPTION=VALUE",
            shell_complete=settings,
            help="Set any option of the experiment, such as train.lr=1e-4 data.tile=128. Repeatable.",
        ),
        click.argument("more", metavar="", nargs=-1, shell_complete=settings),  # --set a=1 b=2
        axis("--seed", "Seed of every random draw; by default 0.", None, type=click.IntRange(min=0)),
    ]

    def given(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return given


_of_several = (
    click.option(
        "--folds",
        type=click.IntRange(min=2),
        metavar="K",
        help="Cross-validate: train K segmenters, each with another K-th of the labelled images held out.",
    ),
    click.option(
        "--baseline",
        metavar="NAME",
        help="Segmenter to train for comparison: source-only, which sees untranslated source images alone; or none.",
    ),
)
