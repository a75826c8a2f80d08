"""The command line: parse, call one function of core, show the answer."""

from __future__ import annotations

import functools
import json
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import click
from rich.console import Console
from rich.logging import RichHandler

from transeg import __version__
from transeg.core.errors import TransegError, UsageError
from transeg.core.manifest import KINDS
from transeg.core.ranks import launched, rank_and_ranks, speaks
from transeg.core.registry import Registry

EPILOG = "Every command has --help. Start with: toolkit run --generator cut --segmenter hardnet"


class Failure(click.ClickException):
    """What went wrong, in a sentence."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it for the class but reads the instance's

    def show(self, file: IO[Any] | None = None) -> None:
        if speaks(self.__cause__):
            super().show(file)


class Toolkit(click.Group):
    """The built-in commands and those of plugins, which are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_plugin_commands(ctx)})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        built_in = super().get_command(ctx, name)
        if built_in is not None or name not in _plugin_commands(ctx):
            return built_in
        entry, summary = _plugin_commands(ctx)[name]

        @click.command(name, help=summary, context_settings={"ignore_unknown_options": True}, add_help_option=False)
        @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
        def forward(arguments: tuple[str, ...]) -> None:
            import importlib

            module, _, attribute = entry.rpartition(":")
            try:
                command: click.Command = getattr(importlib.import_module(module), attribute)
            except Exception as error:
                raise TransegError(f"The command {name} cannot be loaded: {type(error).__name__}: {error}.") from error
            command.main(list(arguments), prog_name=f"toolkit {name}", standalone_mode=False)

        return forward

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (TransegError, click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError) as error:
            if isinstance(error, TransegError) and not ctx.params["debug"]:
                raise Failure(str(error), error.exit_code) from error
            raise
        except Exception as error:
            if ctx.params["debug"]:
                raise
            message = f"{type(error).__name__}: {error}. This is a fault of transeg; --debug shows where it happened."
            raise Failure(message, 1) from error


def _plugin_commands(ctx: click.Context) -> dict[str, tuple[str, str]]:
    """What plugins offer, looked up once for a command line: the help asks for each command by itself."""
    found: dict[str, tuple[str, str]] | None = ctx.meta.get(__name__)
    if found is None:
        plugins = (plugin for plugin in Registry().plugins if plugin.status == "ok")
        found = {name: (entry.entry, entry.summary) for plugin in plugins for name, entry in plugin.commands.items()}
        ctx.meta[__name__] = found
    return found


def with_registry(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --registry, and the registry that it makes."""

    def files_to_registry(_ctx: click.Context, _parameter: click.Parameter, files: tuple[Path, ...]) -> Registry:
        return Registry(files)

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
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")


def with_counting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that count objects, and as ``counting`` what they say."""

    @functools.wraps(command)
    def with_choice(count: bool, count_method: str | None, min_area: int | None, **named: Any) -> Any:
        from transeg.core.counting import chosen

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
    from transeg.core.scales import parse_pixel_size

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
        from transeg.core.morphometry import chosen

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


@click.group(cls=Toolkit, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="transeg")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Translate and segment medical images where labels are scarce.

    Pick a generator (image-to-image translation), a segmenter, losses and datasets; transeg composes them into one
    training run, measures it and hands back a model to use.
    """
    if not debug:  # timm and others still use what PyTorch deprecates, which is nothing that a user can mend
        warnings.filterwarnings("ignore", category=FutureWarning)


@main.command("list")
@click.argument("kind", required=False)
@as_json
@with_registry
def list_components(kind: str | None, as_json: bool, registry: Registry) -> None:
    """Show generators, segmenters, losses and datasets, or one KIND.

    `toolkit list combinations` shows which of them go together, and what data each pair needs.
    """
    from transeg import tables

    if kind == "combinations":
        _list_combinations(registry, as_json)
        return
    singular = _kind(kind)
    if as_json:
        broken = [p for p in registry.plugins if p.status in ("broken", "disabled") and not p.components]
        rows = [component.summary() for component in registry.components(singular)]
        rows += [] if singular else [plugin.summary() for plugin in broken]
        click.echo(json.dumps(rows, indent=2))
    else:
        tables.show_components(registry, singular, Console())


@main.command()
@click.argument("component")
@as_json
@with_registry
def info(component: str, as_json: bool, registry: Registry) -> None:
    """Show one COMPONENT, such as generator/cut, in detail.

    Its options with their meaning, paper, parameters, and an example.
    """
    from dataclasses import asdict

    from transeg import tables
    from transeg.core.experiment import offered
    from transeg.core.taps import layers_of

    kind, slash, name = component.partition("/")
    if not slash:
        kinds = [k for k in KINDS if any(c.name == component for c in registry.components(k))]
        if len(kinds) != 1:
            raise UsageError(f"Say which kind {component!r} is, as in segmenter/{component}; `toolkit list` shows all.")
        kind, name = kinds[0], component
    found = registry.find(_kind(kind) or "", name)
    cls = registry.load(found)
    if as_json:
        rows = [
            {"name": o.name, "type": o.type_name, "default": o.default, "help": o.help}
            for o in offered(cls, found.kind)
        ]
        document = {**found.summary(), "options": rows}
        if found.kind == "segmenter":
            document["layers"] = [asdict(layer) for layer in layers_of(cls)]
        click.echo(json.dumps(document, indent=2, default=str))
    else:
        tables.show_component(found, cls, Console())


@main.command()
@click.option("--generator", metavar="NAME", help="Translates images; see `toolkit list generators`.")
@click.option("--segmenter", metavar="NAME", help="Segments images; see `toolkit list segmenters`.")
@click.option("--loss", metavar="SUM", help="What the segmenter minimises, such as dice+0.5*bce.")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="TEACHER",
    help="A run, or SEGMENTER:WEIGHTS, to distil from; repeatable.",
)
@click.option(
    "--distill",
    "distillers",
    multiple=True,
    metavar="LOSS",
    help="How, such as kl:temperature=4,weight=1 or at:layer=NAME; by default kl. Repeatable.",
)
@click.option("--source", metavar="DATA", help="Labelled images: NAME, NAME:FOLDER or NAME:DOMAIN:FOLDER.")
@click.option("--target", metavar="DATA", help="Unlabelled images of the domain where the model must work.")
@click.option("--synthetic", metavar="DATA", help="Synthetic labelled images to learn from beside the source.")
@click.option(
    "--val", metavar="DATA", help="Labelled images that select the best checkpoint; without, the source's do."
)
@click.option("--test", "tests", multiple=True, metavar="DATA", help="Labelled images to test on; repeatable.")
@click.option(
    "--strategy",
    metavar="NAME",
    help="supervised, translation, sequential or joint; by default what follows from the parts that are named.",
)
@click.option("--folds", type=click.IntRange(min=2), metavar="K", help="Cross-validate: K segmenters, then as one.")
@click.option("--baseline", metavar="NAME", help="source-only: also train on untranslated source images; or none.")
@click.option("--run-dir", type=click.Path(path_type=Path), metavar="FOLDER", help="Where to; by default in runs/.")
@click.option(
    "--tracker",
    "trackers",
    multiple=True,
    type=click.Choice(["tensorboard", "wandb", "mlflow"]),
    help="Notes scalars and pictures in the run folder and sends nothing; by default tensorboard. Repeatable.",
)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="An experiment file (TOML).")
@click.option(
    "--set", "assignments", multiple=True, metavar="OPTION=VALUE", help="Options, such as train.lr=1e-4 data.tile=128."
)
@click.argument("more", metavar="", nargs=-1)  # --set a=1 b=2
@click.option("--seed", type=click.IntRange(min=0), help="Of everything random; by default 0.")
@click.option("--device", metavar="NAME", help="cpu, cuda or cuda:1; by default a GPU where there is one.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16", "fp16"]),
    help="In which training computes; by default fp32, on a GPU tf32.",
)
@click.option(
    "--compile/--no-compile",
    default=None,
    help="Train with networks that torch.compile has translated, or not; by default not.",
)
@click.option(
    "--devices",
    type=click.IntRange(min=1),
    metavar="N",
    help="Train in so many processes here, each on a GPU of its own.",
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --run-dir.")
@click.option("--dry-run", is_flag=True, help="Check and build everything, print the plan and stop.")
@as_json
@with_registry
def run(
    registry: Registry,
    run_dir: Path | None,
    config: Path | None,
    resume: bool,
    dry_run: bool,
    as_json: bool,
    more: tuple[str, ...],
    **named: Any,
) -> None:
    """Train, test and compare; the plan is printed first.

    \b
    toolkit run --generator cut --segmenter hardnet
    toolkit run --segmenter unet --source kvasir:/data/kvasir-seg --test etis:/data/etis
    toolkit run --generator cut --segmenter hardnet --source synth-colon:/data/synth \\
        --target kvasir:/data/kvasir-seg --test kvasir:/data/kvasir-seg
    """
    from transeg import tables
    from transeg.core.launch import launch, prepare, processes_wanted
    from transeg.core.processes import run_in

    console = talk()
    named["assignments"] += more
    if not (launched() or dry_run):
        count, folder = processes_wanted(named, registry, config=config, run_dir=run_dir, resume=resume)
        if count > 1:
            where = [] if run_dir else ["--run-dir", str(folder.path)]
            begin = sys.argv.index("run") + 1
            sys.exit(run_in(count, [*sys.argv[1:begin], *where, *sys.argv[begin:]], folder))
    prepared = prepare(named, registry, config=config, run_dir=run_dir, resume=resume, dry_run=dry_run)
    if not console.quiet and not (as_json and dry_run):
        tables.show_plan(prepared, console if as_json else Console())
    if dry_run:
        if as_json:
            click.echo(json.dumps(prepared.plan(), indent=2))
        return
    metrics = launch(prepared, registry, console)
    if console.quiet:
        return
    if as_json:
        click.echo(json.dumps({**metrics, "run_dir": str(prepared.folder.path)}, indent=2))
    else:
        tables.show_results(metrics, prepared.folder, Console())


@main.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--test", "tests", multiple=True, metavar="DATA", help="Labelled images; by default those of the run.")
@click.option("--split", type=click.Choice(["train", "val", "test", "all"]), help="Of the test sets; by default test.")
@translate_with
@direction
@window
@click.option("--flips", is_flag=True, help="Average over the four mirrorings of each image.")
@click.option("--device", metavar="NAME", help="cpu, cuda or cuda:1; by default a GPU where there is one.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="FOLDER", help="For the CSV files; by default in RUN."
)
@click.option("--features", metavar="NAME:FILE|RUN", help="Of which network FID and KID compare features.")
@click.option("--lpips", type=click.Path(path_type=Path), metavar="FILE", help="AlexNet's weights, for LPIPS.")
@click.option(
    "--consistency",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="A run whose segmenter should find again what images were made from.",
)
@with_counting
@as_json
@with_registry
def evaluate(
    registry: Registry,
    run_dir: Path,
    as_json: bool,
    features: str | None,
    lpips: Path | None,
    consistency: Path | None,
    **named: Any,
) -> None:
    """Measure what RUN has learned on labelled images.

    Prints a table over the test sets, and writes a CSV file with a line for each image. Images that a generator makes
    are compared with their true counterparts (SSIM, PSNR, L1, LPIPS), as a set with real images (FID, KID), and with
    what comes back where it has two directions.
    With --count, another table says how predicted and true numbers of objects agree; counts/ beside the CSV files has
    them and a Bland-Altman plot.
    """
    from transeg import tables
    from transeg.core.experiment import QualityOptions
    from transeg.core.use import evaluate_run

    quality = QualityOptions(features=features, lpips=lpips, segmenter=consistency)
    console = talk()
    metrics, judged, out = evaluate_run(run_dir, registry, console, quality=quality, **named)
    if console.quiet:
        return
    if as_json:
        click.echo(json.dumps({"tests": metrics, "quality": judged}, indent=2))
        return
    if metrics:
        tables.show_measured(metrics, out, Console())
    if judged:
        tables.show_quality(judged, Console())


@main.command()
@click.argument("masks", metavar="MASKS", type=click.Path(path_type=Path))
@click.option("--test", "tests", multiple=True, required=True, metavar="DATA", help="Labelled images; repeatable.")
@click.option("--split", type=click.Choice(["train", "val", "test", "all"]), help="Of the test sets; by default test.")
@click.option("--set", "assignments", multiple=True, metavar="OPTION=VALUE", help="An option of the test sets.")
@click.option(
    "--values",
    metavar="0,127,255",
    help="What stands for the classes in the masks, in their order; by default 0, 1, 2, ..., and for two classes what "
    "lies above half of the range is the foreground.",
)
@click.option("--suffix", default="", metavar="TEXT", help="Of the masks' names, behind those of the images.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="For CSV files.")
@with_counting
@as_json
@with_registry
def measure(registry: Registry, masks: Path, as_json: bool, **named: Any) -> None:
    """Measure MASKS, a folder of mask files.

    They were made by anything, of labelled images; each has the name of its image and, if any, --suffix. Prints and
    writes what `toolkit evaluate` does, but for what takes probabilities; `toolkit compare` reads it.

    \b
    toolkit measure predicted --test axon:SEM:/data/axon --values 0,127,255 -o measured
    """
    from transeg import tables
    from transeg.core.use import evaluate_masks

    metrics = evaluate_masks(masks, registry, talk(), **named)
    if as_json:
        click.echo(json.dumps({"tests": metrics}, indent=2))
        return
    tables.show_measured(metrics, named["out"], Console())


@main.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGES", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Where to.")
@click.option("--probabilities", is_flag=True, help="Write probabilities, too, as 16-bit PNG.")
@translate_with
@direction
@rescale
@window
@click.option("--flips", is_flag=True, help="Average over the four mirrorings of each image.")
@click.option("--device", metavar="NAME", help="cpu, cuda or cuda:1; by default a GPU where there is one.")
@with_counting
@with_morphometry
@with_registry
def predict(registry: Registry, run_dir: Path, images: Path, **named: Any) -> None:
    """Segment IMAGES, a file or a folder, with the model of RUN.

    Images of a domain that it does not know are translated first with --translate-with. Writes masks at each image's
    own size, and the images with the masks' outlines. With --count, counts.csv has a line for each image and
    objects.csv one for each object: its area and centroid in pixels. With --morphometry, morphometry.csv has a line for
    each image and fibres.csv one for each axon: diameters, g-ratio, shape.

    \b
    toolkit predict RUN images -o out --morphometry --pixel-size 0.13
    """
    from transeg.core.use import predict_images

    count, out = predict_images(run_dir, images, registry, talk(), **named)
    Console().print(f"{count} masks in {out / 'masks'}, outlines in {out / 'overlays'}", highlight=False)
    if named["counting"] is not None:
        Console().print(f"Objects: {out / 'counts.csv'}, {out / 'objects.csv'}", highlight=False)
    if named["morphometry"] is not None:
        Console().print(f"Fibres: {out / 'morphometry.csv'}, {out / 'fibres.csv'}", highlight=False)


@main.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGES|DATASET")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Where to.")
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
@click.option("--device", metavar="NAME", help="cpu, cuda or cuda:1; by default a GPU where there is one.")
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
    from transeg.core.translated_data import translate_data
    from transeg.core.use import translate_images

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


@main.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Where to.")
@click.option("--count", required=True, type=click.IntRange(min=1), metavar="N", help="How many images.")
@click.option(
    "--masks",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Label maps to make them of; by default those of the training.",
)
@click.option(
    "--variation",
    type=click.Choice(["none", "deform", "recombine"]),
    help="What is made of each label map first; by default none for --masks, else recombine.",
)
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Of label maps and noise; by default 0.")
@click.option("--device", metavar="NAME", help="cpu, cuda or cuda:1; by default a GPU where there is one.")
@with_registry
def synthesize(
    registry: Registry, run_dir: Path, count: int, masks: Path | None, variation: str | None, **named: Any
) -> None:
    """Make labelled images with the generator of RUN.

    It was trained on label maps, and gets new ones now. Writes images/, masks/ and instances/, to be learned from with
    `toolkit run --synthetic folder:FOLDER`.

    \b
    toolkit synthesize runs/pix2pix -o made --count 500
    toolkit synthesize runs/pix2pix -o made --count 100 --masks drawn
    """
    from transeg.core.experiment import SynthesisOptions
    from transeg.core.use import synthesize_images

    chosen = variation or ("recombine" if masks is None else "none")
    options = SynthesisOptions.model_validate({"masks": masks, "variation": chosen})
    console = talk()
    out = synthesize_images(run_dir, registry, console, count=count, options=options, **named)
    if console.quiet:
        return
    Console().print(f"{count} images in {out / 'images'}, their masks in {out / 'masks'}", highlight=False)
    Console().print(f"Learn from them with: toolkit run ... --synthetic folder:{out}", highlight=False)


@main.command()
@click.argument("segmenters", metavar="[SEGMENTER]...", nargs=-1)
@click.option(
    "--size", default=352, type=click.IntRange(min=1), metavar="PIXELS", help="Of the images; by default 352."
)
@click.option("--batch", type=click.IntRange(min=1), help="Images at a time; by default 1, with --train 2.")
@click.option("--threads", type=click.IntRange(min=1), help="Of the CPU; by default as many as PyTorch takes.")
@click.option("--device", metavar="NAME", help="cpu, cuda or cuda:1; by default a GPU where there is one.")
@click.option("--train", is_flag=True, help="Measure training steps in place of inference.")
@click.option(
    "--set", "assignments", multiple=True, metavar="OPTION=VALUE", help="Of the segmenter, such as segmenter.base=64."
)
@as_json
@with_registry
def benchmark(registry: Registry, segmenters: tuple[str, ...], as_json: bool, **named: Any) -> None:
    """Measure how fast segmenters are on this machine.

    And how much memory they need. Each runs in a process of its own, with weights as they are before a training.
    Without a name, all are measured.

    \b
    toolkit benchmark
    toolkit benchmark unet hardnet --size 512
    toolkit benchmark unet --set segmenter.base=64 --train --batch 4
    """
    from transeg import tables
    from transeg.core import benchmark

    report = benchmark.benchmark(segmenters, registry, talk(), **named)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        tables.show_benchmark(report, Console())
    if any("error" in row for row in report["segmenters"]):
        sys.exit(1)


def _list_combinations(registry: Registry, as_json: bool) -> None:
    from dataclasses import asdict

    from transeg import tables
    from transeg.core.combinations import combinations

    found = list(combinations(registry))
    if as_json:
        click.echo(json.dumps([{**asdict(c), "command": c.command} for c in found], indent=2))
    else:
        tables.show_combinations(found, Console())


def _kind(name: str | None) -> str | None:
    """A kind in the singular, from either number."""
    if name is None:
        return None
    singular = {"losses": "loss"}.get(name, name.removesuffix("s") if name != "loss" else name)
    if singular not in KINDS:
        raise UsageError(f"There is no kind {name!r}; there are {', '.join(KINDS)}, and combinations.")
    return singular


def talk() -> Console:
    """The console for everything but results; what the toolkit logs goes there, too."""
    console = Console(stderr=True, quiet=rank_and_ranks()[0] != 0)
    handler = RichHandler(console=console, show_time=False, show_path=False)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("transeg").handlers = [handler]
    return console
