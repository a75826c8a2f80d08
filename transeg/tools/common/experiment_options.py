"""Options that say what to train, which `toolkit run`, `sweep` and `search` share."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from transeg.tools.common.options import PATH, Decorator, declared, repeatable, transductive
from transeg.tools.common.shell_completion import (
    complete_components,
    complete_run_folders,
    complete_settings,
)


def with_experiment(*, axes: bool = False, several: bool = True) -> Decorator:
    """Give a command the options of an experiment.

    Args:
        axes: whether those that make the axes of a sweep may be repeated.
        several: whether there are those that train more than one segmenter.
    """
    again = " Repeat it to make an axis of the sweep." if axes else ""

    def axis(flag: str, metavar: str | None, about: str, names: Any = None, **more: Any) -> Decorator:
        return click.option(flag, multiple=axes, metavar=metavar, shell_complete=names, help=f"{about}{again}", **more)

    generators, segmenters, data = (complete_components(kind) for kind in ("generator", "segmenter", "dataset"))
    losses, distillers = (complete_components("loss", role) for role in ("segmentation", "distillation"))
    options = [
        axis("--generator", "NAME", "Generator that translates images; see `toolkit list generators`.", generators),
        axis("--segmenter", "NAME", "Network that segments images; see `toolkit list segmenters`.", segmenters),
        axis("--loss", "SUM", "Loss that the segmenter minimises, or a sum such as dice+0.5*bce.", losses),
        repeatable(
            "--teacher",
            "teachers",
            "TEACHER",
            "Teacher to distil from: a run, or SEGMENTER:WEIGHTS.",
            complete_run_folders,
        ),
        repeatable(
            "--distill",
            "distillers",
            "LOSS",
            "Distillation loss, such as kl:temperature=4,weight=1 or at:layer=NAME; by default kl.",
            distillers,
        ),
        click.option(
            "--from",
            "begin",
            type=PATH,
            metavar="RUN",
            shell_complete=complete_run_folders,
            help="Run whose segmenter the strategy begins with, such as self-training, which then needs no source.",
        ),
        axis("--source", "DATA", "Labelled images to train on: NAME, NAME:FOLDER or NAME:DOMAIN:FOLDER.", data),
        axis("--target", "DATA", "Unlabelled images of the domain where the model must work.", data),
        axis("--synthetic", "DATA", "Synthetic labelled images to train on beside the source images.", data),
        axis(
            "--val", "DATA", "Labelled images that select the best checkpoint; by default some of the source's.", data
        ),
        repeatable("--test", "tests", "DATA", "Labelled images to test on.", data),
        *(
            click.option(
                f"--{role}-split",
                type=click.Choice(["train", "val", "test", "all"]),
                help=f"Which images {whose}; by default the whole folder or its part for that, or a share of its own "
                "where another role names the folder, too.",
            )
            for role, whose in (("target", "the target is"), ("test", "tests are"))
        ),
        transductive,
        axis(
            "--strategy",
            "NAME",
            "How to train; `toolkit list strategies` shows the ways. By default as the parts that are named imply.",
            complete_components("strategy"),
        ),
        *(_OF_SEVERAL if several else ()),
        repeatable(
            "--tracker",
            "trackers",
            None,
            "Tracker of scalars and pictures, kept in the run folder and not sent; by default tensorboard.",
            type=click.Choice(["tensorboard", "wandb", "mlflow"]),
        ),
        click.option("--config", type=PATH, metavar="FILE", help="Experiment file (TOML); other options override it."),
        repeatable(
            "--set",
            "assignments",
            "OPTION=VALUE",
            "Set any option, such as train.lr=1e-4 data.tile=128.",
            complete_settings,
        ),
        click.argument("more", metavar="", nargs=-1, shell_complete=complete_settings),  # --set a=1 b=2
        axis("--seed", None, "Seed of every random draw; by default 0.", type=click.IntRange(min=0)),
    ]
    return partial(declared, options)


_OF_SEVERAL = (
    click.option(
        "--folds",
        type=click.IntRange(min=2),
        metavar="K",
        help="Cross-validate: train K segmenters, each without one K-th of the images.",
    ),
    click.option(
        "--baseline",
        metavar="NAME",
        help="Baseline to train, too: source-only, on untranslated source images; or none.",
    ),
)
