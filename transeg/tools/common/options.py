"""Options that several commands have."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from transeg.core.registry import Registry


def installed(ctx: click.Context) -> Registry:
    """What is installed, looked up once for a command line."""
    return ctx.find_root().ensure_object(Registry)


def with_registry(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --registry, and the registry that it makes."""

    def files_to_registry(ctx: click.Context, _parameter: click.Parameter, files: tuple[Path, ...]) -> Registry:
        return Registry(files) if files else installed(ctx)

    return click.option(
        "--registry",
        multiple=True,
        type=click.Path(path_type=Path),
        callback=files_to_registry,
        metavar="FILE",
        help="Also offer the components of this registry.toml; repeatable.",
    )(command)


window = click.option(
    "--window",
    type=click.IntRange(min=0),
    metavar="PIXELS",
    help="Slide a window over images at their own size; by default the run's data.tile. 0 for whole images.",
)
direction = click.option(
    "--direction",
    type=click.Choice(["source-to-target", "target-to-source"]),
    help="Of the translation, for generators that have both; by default source-to-target.",
)
translate_with = click.option(
    "--translate-with",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="First translate the images with this run's generator into what the segmenter knows.",
)
device = click.option("--device", metavar="NAME", help="cpu, cuda or cuda:1; by default a GPU where there is one.")
flips = click.option("--flips", is_flag=True, help="Average over the four mirrorings of each image.")
out = click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Where to.")
split = click.option(
    "--split", type=click.Choice(["train", "val", "test", "all"]), help="Of the test sets; by default test."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")


def with_counting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that count objects, and as ``counting`` what they say."""

    @functools.wraps(command)
    def with_choice(count: bool, count_method: str | None, min_area: int | None, **named: Any) -> Any:
        from transeg.core.analysis.counting import chosen

        return command(counting=chosen(count, count_method, min_area), **named)

    options = (
        click.option("--count", is_flag=True, help="Count objects, too."),
        click.option(
            "--count-method",
            type=click.Choice(["components", "contours", "watershed"]),
            help="What an object is: a connected component, an outline (holes count), or a component split where it is "
            "narrow; by default components.",
        ),
        click.option(
            "--min-area",
            type=click.IntRange(min=0),
            metavar="PIXELS",
            help="Smaller objects do not count; by default 0.",
        ),
    )
    for option in reversed(options):
        with_choice = option(with_choice)
    return with_choice


def _parsed(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    from transeg.tools.common.pixel_size import parse_pixel_size

    return parse_pixel_size(text)


pixel_size = click.option(
    "--pixel-size", metavar="UM", callback=_parsed, help="Of the images, in micrometres; or height,width."
)
rescale = click.option(
    "--rescale",
    type=click.FloatRange(min=0, min_open=True),
    metavar="FACTOR",
    help="Resample images by this factor before any network sees them; by default as the run did with its own. "
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
        from transeg.core.analysis.morphometry import chosen

        options = chosen(morphometry, pixel_size, axon_class, myelin_class)
        return command(morphometry=options, pixel_size=pixel_size, **named)

    options = (
        click.option("--morphometry", is_flag=True, help="Measure axons and their myelin, too."),
        pixel_size,
        click.option("--axon-class", metavar="NAME", help="By default axon."),
        click.option("--myelin-class", metavar="NAME", help="By default myelin."),
    )
    for option in reversed(options):
        with_choice = option(with_choice)
    return with_choice
