"""Options that several commands have."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from transeg.core.experiment.settings import parse_pixel_size
from transeg.core.registry import Registry
from transeg.tools.common.shell_completion import complete_run_folders

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
COUNT = click.IntRange(min=1)
PATH = click.Path(path_type=Path)
SETTING = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*=")
"""What the setting of an option begins with; other words are arguments."""


def installed_registry(ctx: click.Context) -> Registry:
    """What is installed, looked up once for a command line."""
    return ctx.find_root().ensure_object(Registry)


def repeatable(flag: str, name: str, metavar: str | None, about: str, names: Any = None, **more: Any) -> Decorator:
    """An option that may be given several times; ``names`` are what the shell offers."""
    about = f"{about} Repeatable."
    return click.option(flag, name, multiple=True, metavar=metavar, help=about, shell_complete=names, **more)


class CommandWithSettings(click.Command):
    """A command whose ``--set`` takes several settings: ``--set a=1 b=2`` is ``--set a=1 --set b=2``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        spread: list[str] = []
        for text in args:
            follows = len(spread) > 1 and spread[-2] == "--set" and SETTING.match(text)
            if text.startswith("--set="):
                spread += ["--set", text.removeprefix("--set=")]
            else:
                spread += ["--set", text] if follows else [text]
        return super().parse_args(ctx, spread)


def assignments(about: str, names: Any = None) -> Decorator:
    """The option ``--set`` of a :class:`CommandWithSettings`."""
    return repeatable("--set", "assignments", "OPTION=VALUE ...", about, names)


def declared(options: Sequence[Decorator], command: Callable[..., Any]) -> Callable[..., Any]:
    """A command with options, in the order of its --help."""
    return functools.reduce(lambda made, option: option(made), reversed(options), command)


def with_registry(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --registry, and the registry that it makes."""

    def files_to_registry(ctx: click.Context, _parameter: click.Parameter, files: tuple[Path, ...]) -> Registry:
        return Registry(files) if files else installed_registry(ctx)

    return click.option(
        "--registry",
        multiple=True,
        type=PATH,
        callback=files_to_registry,
        metavar="FILE",
        help="Manifest (registry.toml) whose components are offered, too. Repeatable.",
    )(command)


anonymous = click.option(
    "--anonymous", is_flag=True, help="Leave out absolute paths, which may say whose machine this is."
)
run_dir = click.argument("run_dir", metavar="RUN", type=PATH, shell_complete=complete_run_folders)
window = click.option(
    "--window",
    type=click.IntRange(min=0),
    metavar="PIXELS",
    help="Height and width of a window that slides over images at their own size, or 0 to take images whole; by "
    "default the data.tile of the run.",
)
direction = click.option(
    "--direction",
    type=click.Choice(["source-to-target", "target-to-source"]),
    help="Direction of the translation, for generators that have both; by default source-to-target.",
)
translate_with = click.option(
    "--translate-with",
    type=PATH,
    metavar="RUN",
    shell_complete=complete_run_folders,
    help="Run whose generator first translates the images into what the segmenter knows.",
)
device = click.option(
    "--device", metavar="NAME", help="Device to compute on: cpu, cuda or cuda:1; by default a GPU where there is one."
)
flips = click.option("--flips", is_flag=True, help="Average predictions over the four mirrorings of each image.")
adapt = click.option(
    "--adapt",
    type=click.Choice(["none", "bn", "tent"]),
    default="none",
    help="Adapt the segmenter's batch norms to each group of images, without labels: bn takes their statistics, tent "
    "also minimises the entropy of what is predicted; by default none.",
)
cluster = click.option(
    "--cluster",
    type=click.Choice(["slurm", "local"]),
    help="Train in jobs of this scheduler, as many at a time as --jobs says; by default in processes of this machine.",
)
cluster_options = repeatable(
    "--cluster-option",
    "cluster_options",
    "NAME=VALUE",
    "What each job asks for, such as partition=gpu, gpus_per_node=1 or time=240 (minutes).",
)
out = click.option("-o", "--out", required=True, type=PATH, metavar="FOLDER", help="Folder to write to.")
split = click.option(
    "--split",
    type=click.Choice(["train", "val", "test", "all"]),
    help="Part of the test sets to use; by default test, or all where nothing divides them.",
)
transductive = click.option(
    "--transductive",
    is_flag=True,
    default=None,
    help="Allow test images that training sees without labels, as target; results then say so.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")


def with_counting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that count objects, and as ``counting`` what they say."""

    @functools.wraps(command)
    def with_choice(count: bool, count_method: str | None, min_area: int | None, **named: Any) -> Any:
        from transeg.core.analysis.counting import counting_from_options

        return command(counting=counting_from_options(count, count_method, min_area), **named)

    options = (
        click.option("--count", is_flag=True, help="Count the objects in each image, too."),
        click.option(
            "--count-method",
            type=click.Choice(["components", "contours", "watershed"]),
            help="What counts as one object: a connected component, an outline (holes count), or a component split "
            "where it is narrow (watershed); by default components.",
        ),
        click.option(
            "--min-area",
            type=click.IntRange(min=0),
            metavar="PIXELS",
            help="Smallest area of an object that is counted; by default 0.",
        ),
    )
    return declared(options, with_choice)


pixel_size = click.option(
    "--pixel-size",
    metavar="UM",
    callback=lambda _ctx, _parameter, text: None if text is None else parse_pixel_size(text),
    help="Size of a pixel in micrometres, or its height,width.",
)
rescale = click.option(
    "--rescale",
    type=click.FloatRange(min=0, min_open=True),
    metavar="FACTOR",
    help="Factor to resample images by before any network sees them; by default as the run did with its own. "
    "Results have each image's own size.",
)


def with_morphometry(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that measure fibres, and as ``morphometry`` what they say."""

    @functools.wraps(command)
    def with_choice(
        morphometry: bool,
        pixel_size: tuple[float, float] | None,
        axon_class: str | None,
        myelin_class: str | None,
        **named: Any,
    ) -> Any:
        from transeg.core.analysis.morphometry import morphometry_from_options

        options = morphometry_from_options(morphometry, pixel_size, axon_class, myelin_class)
        return command(morphometry=options, pixel_size=pixel_size, **named)

    options = (
        click.option("--morphometry", is_flag=True, help="Measure axons and their myelin in each image, too."),
        pixel_size,
        click.option("--axon-class", metavar="NAME", help="Class that shows axons; by default axon."),
        click.option("--myelin-class", metavar="NAME", help="Class that shows myelin; by default myelin."),
    )
    return declared(options, with_choice)
