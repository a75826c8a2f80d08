"""What the command line shows, as rich tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transeg.core.manifest import KINDS
from transeg.core.options import EMPTY, description, options
from transeg.core.quality_titles import QUALITY
from transeg.core.registry import BUILTIN

if TYPE_CHECKING:
    from transeg.core.combinations import Combination
    from transeg.core.experiment import DataOptions, Experiment, TrainOptions
    from transeg.core.launch import Prepared
    from transeg.core.parts import Parts
    from transeg.core.registry import Component, Registry
    from transeg.core.run_folder import RunFolder

COLOURS = {"ok": "green", "broken": "red", "conflict": "yellow", "disabled": "dim", "missing": "yellow"}
PLURALS = {"generator": "Generators", "segmenter": "Segmenters", "loss": "Losses", "dataset": "Datasets"}


def show_components(registry: Registry, kind: str | None, console: Console) -> None:
    """A table for each kind, and what is wrong with plugins."""
    for each in [kind] if kind else KINDS:
        table = Table(title=PLURALS[each], title_justify="left", box=None, pad_edge=False, header_style="bold")
        table.add_column("name", style="cyan", no_wrap=True)
        table.add_column("summary", ratio=3, overflow="fold")
        components = list(registry.components(each))
        columns = [name for name, cells in _cells(components).items() if any(cells)]
        for name in columns:
            table.add_column(name, justify="right" if name == "parameters" else "left", overflow="fold")
        for component, *cells in zip(components, *(_cells(components)[name] for name in columns), strict=True):
            table.add_row(component.name, component.entry.summary, *cells)
        console.print(table)
        console.print()
    for plugin in registry.plugins:
        if plugin.status != "ok":
            console.print(f"[{COLOURS[plugin.status]}]{plugin.package} is {plugin.status}[/]: {escape(plugin.reason)}")
    for component in registry.components(kind):
        if component.status == "missing":
            console.print(f"[yellow]{component} needs more[/]: {escape(component.reason)}")
        if component.status in ("broken", "conflict"):
            console.print(
                f"[{COLOURS[component.status]}]{component} of {component.package} is {component.status}[/]: "
                f"{escape(component.reason)}"
            )


def show_combinations(found: Sequence[Combination], console: Console) -> None:
    """A line for each strategy and generator: what data they need, whichever the segmenter."""
    table = Table(title="Combinations", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("strategy", no_wrap=True)
    table.add_column("generator", style="cyan", no_wrap=True)
    table.add_column("segmenter", no_wrap=True)
    table.add_column("--source", overflow="fold")
    table.add_column("--target", overflow="fold")
    rows = {(c.strategy, c.generator): c for c in found}
    for (strategy, generator), row in rows.items():
        any_of = "any" if row.segmenter else "-"
        table.add_row(strategy, generator or "-", any_of, row.source, row.target or "-")
    console.print(table)
    segmenters = dict.fromkeys(c.segmenter for c in found if c.segmenter)
    console.print(f"\nSegmenters: {', '.join(segmenters)}", highlight=False)
    for reason in dict.fromkeys(c.missing for c in found if c.missing):
        console.print(f"[yellow]needs more[/]: {escape(reason)}")


def _cells(components: Sequence[Component]) -> dict[str, list[str]]:
    """Further columns of a table; one in which nothing stands is left out."""
    foreign = any(component.package != BUILTIN for component in components)
    troubled = any(component.status != "ok" for component in components)
    return {
        "parameters": [f"{c.entry.params:,}" if c.entry.params else "" for c in components],
        "paper": [c.entry.paper for c in components],
        "plugin": [c.package if foreign else "" for c in components],
        "status": [f"[{COLOURS[c.status]}]{c.status}[/]" if troubled else "" for c in components],
    }


def show_component(component: Component, cls: type, console: Console) -> None:
    """One component with its options and an example."""
    from transeg.core.experiment import offered

    entry = component.entry
    console.print(f"[bold cyan]{component}[/]  {entry.summary}")
    facts = {
        "parameters": f"{entry.params:,} at defaults" if entry.params else "",
        "paper": entry.paper,
        "plugin": f"{component.package} {component.version}",
        "tags": ", ".join(entry.tags),
        "domains": ", ".join(component.domains),
        "licence": getattr(entry, "licence", ""),
        "url": getattr(entry, "url", ""),
    }
    grid = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if value:
            grid.add_row(f"[dim]{name}[/]", escape(value))
    console.print(grid)
    for paragraph in description(cls)[1:]:
        console.print("\n" + escape(paragraph), highlight=False)
    known = offered(cls, component.kind)
    prefix = "data.source.{}" if component.kind == "dataset" else f"{component.kind}.{{}}"
    if getattr(entry, "role", "") == "distillation":
        prefix = "{}"
    if known:
        table = Table(title="\nOptions", title_justify="left", box=None, pad_edge=False, header_style="bold")
        table.add_column("option", style="cyan", no_wrap=True)
        table.add_column("meaning", ratio=1)
        for option in known:
            kind = option.type_name + _default(option.default)
            table.add_row(prefix.format(option.name), f"{escape(option.help)}\n[dim]{escape(kind)}[/]")
        console.print(table)
    if component.kind == "segmenter":
        _show_layers(cls, console)
    console.print(f"\n[dim]Example[/]  {example(component, cls)}", highlight=False)


def _show_layers(cls: Any, console: Console) -> None:
    """The layers that distillation may name."""
    from transeg.core.taps import layers_of

    layers = layers_of(cls)
    if not layers:
        return
    table = Table(title="\nLayers to distil", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", style="cyan", overflow="fold")
    table.add_column("channels", justify="right")
    table.add_column("stride", justify="right")
    for layer in layers:
        table.add_row(layer.name, str(layer.channels), str(layer.stride))
    console.print(table)


def _default(value: Any) -> str:
    if value is EMPTY:
        return ", required"
    return "" if value is None else f", by default {value!r}"


def example(component: Component, cls: Any) -> str:
    """A command that uses a component."""
    match component.kind:
        case "generator":
            return f"toolkit run --generator {component.name} --segmenter hardnet"
        case "segmenter":
            return f"toolkit run --segmenter {component.name}"
        case "loss" if getattr(component.entry, "role", "") == "distillation":
            needs = ":layer=LAYER" if "layer" in options(cls) and options(cls)["layer"].default is EMPTY else ""
            return f"toolkit run --segmenter unet --teacher RUN --distill {component.name}{needs}"
        case "loss":
            beside = "dice+0.01*" if "partner" in component.entry.tags else ""
            return f"toolkit run --segmenter unet --loss {beside}{component.name}"
        case _:
            data = f"{component.name}:FOLDER" if cls.needs_root else component.name
            if "unlabelled" in component.entry.tags:
                return f"toolkit run --generator cut --segmenter unet --source folder:FOLDER --target {data}"
            if "paired" in component.entry.tags:
                return f"toolkit run --generator pix2pix --set generator.condition=image --source {data}"
            return f"toolkit run --segmenter unet --source {data} --test {data}"


def _batch(experiment: Experiment) -> str:
    """Images of a forward pass, and where there are several."""
    each = f" in each of {experiment.devices} processes" if experiment.devices > 1 else ""
    return f"{experiment.train.batch_size}{each}"


def _pixels(data: DataOptions, parts: Parts) -> str:
    """What training sees of an image."""
    from transeg.core.train import training_windows

    windows = training_windows(data, parts.source, data.source_limit)
    drawn = f" ({len(windows):,} windows on the source, by {data.tile_sampling})" if windows else ""
    return f"{data.size}x{data.size} pixels{drawn}"


def show_plan(prepared: Prepared, console: Console) -> None:
    """What a run is going to do."""
    from transeg.core.compose import departures
    from transeg.core.parts import parameters
    from transeg.core.run import selection

    experiment, parts = prepared.experiment, prepared.parts
    data, train = experiment.data, experiment.train
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")

    def add(name: str, value: str) -> None:
        grid.add_row(name, escape(value))

    add(
        "strategy",
        experiment.strategy + (f", and a {experiment.baseline} baseline" if experiment.baseline != "none" else ""),
    )
    for name, choice, network in (
        ("generator", experiment.generator, parts.generator),
        ("segmenter", experiment.segmenter, parts.segmenter),
    ):
        if choice is not None and network is not None:
            add(name, f"{choice.name}, {parameters(network):,} parameters")
    if experiment.loss is not None:
        add("loss", experiment.loss.name)
    if experiment.distillation is not None:
        sizes = {teacher.name: parameters(teacher.network, frozen=True) for teacher in parts.teachers}
        add("teachers", ", ".join(f"{name} ({count:,} parameters)" for name, count in sizes.items()))
        terms = experiment.distillation.terms.items()
        add("distillation", " + ".join(f"{term.weight:g}*{label}" for label, term in terms))
    for name, value in _images_of(prepared):
        add(name, value)
    if parts.segmenter is not None:
        add("selection", selection(experiment, parts) + (f" ({_images(len(parts.val))})" if parts.val else ""))
    stages = " in each of two stages" if experiment.strategy == "sequential" else ""
    if experiment.members:
        stages += f", the segmenter's in each of {experiment.members} folds"
    add(
        "training",
        f"{train.iterations:,} iterations{stages}, batch {_batch(experiment)}, {_pixels(data, parts)}, "
        f"{experiment.device}, {data.workers} workers, seed {experiment.seed}{_computing(train)}",
    )
    networks = {"generator": parts.generator, "segmenter": parts.segmenter}
    defaults = {
        name: {option.name: option.default for option in options(type(network)).values()}
        for name, network in networks.items()
        if network is not None
    }
    changed = departures(experiment, defaults)
    if changed:
        add("not as published", "; ".join(changed))
    add("run folder", str(prepared.folder.path))
    console.print(grid)


def _computing(train: TrainOptions) -> str:
    """How a training computes, where that is not as usual."""
    names = ("precision", "accumulation", "clip", "ema", "compile", "channels_last", "fused")
    values = {name: getattr(train, name) for name in names}
    usual = {name: type(train).model_fields[name].default for name in names}
    return "".join(f", {name} {value}" for name, value in values.items() if value != usual[name])


def _images_of(prepared: Prepared) -> Iterator[tuple[str, str]]:
    """A plan's lines about images."""
    experiment, parts = prepared.experiment, prepared.parts
    data = experiment.data
    yield "source", f"{data.source}, {_images(len(parts.source), data.source_limit)}"
    if parts.target is not None:
        yield "target", f"{data.target}, {_images(len(parts.target), data.target_limit)}"
    share = f"{data.synthetic_share:.0%} of what the segmenter learns from"
    if parts.synthetic is not None:
        yield "synthetic", f"{data.synthetic}, {_images(len(parts.synthetic))}, {share}"
    if experiment.synthesis is not None:
        count = experiment.synthesis.count or min(filter(None, (data.source_limit, len(parts.source))))
        how = {"none": "label maps", "deform": "deformed label maps", "recombine": "recombined label maps"}
        made_of = experiment.synthesis.masks or f"{how[experiment.synthesis.variation]} of the source"
        yield "synthesis", f"{_images(count)} from {made_of}, {share}"
    for label, dataset in parts.tests.items():
        yield "test", f"{label}: {data.test[label]}, {_images(len(dataset))}"


def _images(count: int, limit: int = 0) -> str:
    if limit and limit < count:
        return f"{limit} of {count} images"
    return "1 image" if count == 1 else f"{count} images"


def show_results(metrics: dict[str, Any], folder: RunFolder, console: Console) -> None:
    """The table of a finished run, and where everything is."""
    if metrics["tests"]:
        show_tests(metrics["tests"], metrics["baseline"], console, metrics["trained_on"])
    _show_details(metrics["tests"], console)
    if metrics["folds"] is not None:
        show_folds(metrics["folds"], metrics["tests"], console)
    if metrics["quality"]:
        show_quality(metrics["quality"], console)
    console.print(f"Run folder: {folder.path}", highlight=False, soft_wrap=True)
    console.print(f"Picture:    {folder.previews / 'final.png'}", highlight=False, soft_wrap=True)


def show_measured(tests: dict[str, Any], folder: Path, console: Console) -> None:
    """Everything that was measured on test sets, and where the values of each image are."""
    show_tests(tests, None, console)
    _show_details(tests, console)
    console.print(f"Per image: {folder}", highlight=False)


def show_folds(folds: dict[str, Any], ensemble: dict[str, Any], console: Console) -> None:
    """What each fold's segmenter reaches alone, their mean and their ensemble, for each test set."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("test set", style="cyan")
    table.add_column("segmenter")
    for name in ("images", "Dice", "IoU", "HD95"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, mean in folds["mean"].items():
        rows = {name: fold["tests"][label] for name, fold in folds["each"].items()} | {"mean": mean}
        if label in ensemble:
            rows["ensemble"] = ensemble[label]
        for name, row in rows.items():
            numbers = [_number(row[key]) for key in ("dice", "iou", "hd95")]
            table.add_row(escape(label), name, f"{row['images']:.3g}", *numbers)
    console.print(table)


def _show_details(tests: dict[str, Any], console: Console) -> None:
    """Each of several classes, and counted objects."""
    if any(len(values["classes"]) > 1 for values in tests.values()):
        show_classes(tests, console)
    if any("counts" in values for values in tests.values()):
        show_counts(tests, console)


def show_classes(tests: dict[str, Any], console: Console) -> None:
    """Dice, IoU and HD95 of each class, for each test set."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("test set", style="cyan")
    table.add_column("class")
    for name in ("Dice", "IoU", "HD95"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, values in tests.items():
        for name in values["classes"]:
            numbers = [_number(values.get(f"{key}_{name}", values[key])) for key in ("dice", "iou", "hd95")]
            table.add_row(escape(label), escape(name), *numbers)
    console.print(table)


def show_tests(
    tests: dict[str, Any], baseline: dict[str, Any] | None, console: Console, trained_on: Sequence[str] = ("", "")
) -> None:
    """Dice with its interval, and what explains it, for each test set.

    Args:
        tests: of the run.
        baseline: of its baseline, if it has one.
        console: where to.
        trained_on: what the run and its baseline learned from.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("test set", style="cyan")
    if baseline is not None:
        table.add_column("trained on")
    for name in ("images", "Dice [95 % CI]", "IoU", "precision", "recall"):
        table.add_column(escape(name), justify="right", no_wrap=True)
    for label, values in tests.items():
        rows = zip(trained_on, [values, baseline[label]] if baseline and label in baseline else [values], strict=False)
        for learned_from, row in rows:
            dice = _number(row["dice"]) + _interval(row["dice_ci"], 2)
            numbers = [str(row["images"]), dice, *(_number(row[key]) for key in ("iou", "precision", "recall"))]
            table.add_row(label, *([learned_from] if baseline is not None else []), *map(escape, numbers))
    console.print(table)


def show_quality(quality: dict[str, Any], console: Console) -> None:
    """How good the generator's images are, for each dataset that it was given."""
    shown = [key for key in QUALITY if any(key in values for values in quality.values())]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("translated", style="cyan")
    table.add_column("images", justify="right")
    for key in shown:
        table.add_column(QUALITY[key][0], justify="right")
    for label, values in quality.items():
        cells = [_number(values.get(key), digits=QUALITY[key][1]) for key in shown]
        table.add_row(escape(label), str(values["images"]), *cells)
    console.print(table)


def show_counts(tests: dict[str, Any], console: Console) -> None:
    """How predicted and true numbers of objects agree, for each test set, and for each of several classes."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("test set", style="cyan")
    table.add_column("objects")
    for name in ("true", "predicted", "MAE", "relative", "bias [95 % limits]"):
        table.add_column(escape(name), justify="right", no_wrap=True)
    for label, values in tests.items():
        counts = values["counts"]
        for name, row in {"all": counts, **counts.get("classes", {})}.items():
            bias = _number(row["bias"], "+", 2) + _interval(row["limits"], 2)
            relative = "-" if row["relative_error"] is None else f"{row['relative_error']:.1%}"
            totals = f"{row['true']:,}", f"{row['predicted']:,}"
            table.add_row(label, name, *totals, _number(row["mae"], digits=2), relative, escape(bias))
    console.print(table)


def show_comparison(comparison: dict[str, Any], console: Console) -> None:
    """Two runs side by side, for each test set."""
    for run in ("a", "b"):
        console.print(f"{run.upper()}  {escape(comparison[run])}", highlight=False, soft_wrap=True)
    for label, test in comparison["tests"].items():
        groups = "1 group" if test["groups"] == 1 else f"{test['groups']} groups"
        title = f"\n{escape(label)}: {_images(test['images'])} in {groups}"
        console.print(title + (f", {test['unpaired']} in one run only" if test["unpaired"] else ""), highlight=False)
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("metric", style="cyan")
        for name in ("A", "B", "B - A [95 % CI]", "p", "better", "worse"):
            table.add_column(escape(name), justify="right", no_wrap=True)
        for metric, values in test["metrics"].items():
            difference = _number(values["difference"], "+") + _interval(values["ci"], 3)
            p = "-" if values["p"] is None else "<0.001" if values["p"] < 0.001 else f"{values['p']:.3f}"
            counts = str(values["better"]), str(values["worse"])
            table.add_row(metric, _number(values["a"]), _number(values["b"]), escape(difference), p, *counts)
        console.print(table)
        for metric, values in test["metrics"].items():
            if values["images"] < test["images"]:
                console.print(f"{metric}: {_images(values['images'])}; the others lack it in a run.", highlight=False)


def show_leaderboard(boards: dict[str, Any], console: Console) -> None:
    """Runs from the best to the worst, for each test set, by its first metric; means of the others follow."""
    for label, board in boards["tests"].items():
        first, *others = board["metrics"]
        rows = board["metrics"][first]["rows"]
        groups = _count(board["groups"], "group")
        console.print(f"\n{escape(label)}: {_images(board['images'])} in {groups}", highlight=False)
        for name in board["without"]:
            console.print(f"{escape(name)} was not tested on it.", highlight=False)
        if not rows:
            console.print(f"There is no image on which all define {first}.", highlight=False)
            continue
        _show_ranks(first, rows, console)
        if others:
            console.print()
            _show_means([row["entry"] for row in rows], {key: board["metrics"][key]["rows"] for key in others}, console)
        for metric, ranked in board["metrics"].items():
            if ranked["images"] < board["images"]:
                console.print(f"{metric}: {_images(ranked['images'])}; the others lack it in a run.", highlight=False)


def _show_ranks(metric: str, rows: Sequence[dict[str, Any]], console: Console) -> None:
    """One metric of each run, and how far it is from the best or from the baseline."""
    from transeg.core.leaderboard_files import interval, number, probability

    repeated = console.width >= 72 and any(row["runs"] > 1 for row in rows)
    reference = next(row["entry"] for row in rows if row["against"] is None)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", justify="right")
    table.add_column("run", style="cyan", overflow="fold", min_width=8)
    for name in (*(("runs", "sd") if repeated else ()), f"{metric} [95 % CI]", "diff.", "p"):
        table.add_column(escape(name), justify="right", no_wrap=True)
    for row in rows:
        repeats = [str(row["runs"]), number(row["sd"])] if repeated else []
        mean, difference = escape(interval(row["mean"], row["ci"])), number(row["difference"], "+")
        table.add_row(str(row["rank"]), escape(row["entry"]), *repeats, mean, difference, probability(row["p_holm"]))
    console.print(table)
    console.print(f"[dim]diff. is from {escape(reference)}; p is adjusted (Holm).[/]", highlight=False)


def _show_means(entries: Sequence[str], metrics: dict[str, list[dict[str, Any]]], console: Console) -> None:
    from transeg.core.leaderboard_files import number

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", style="cyan", overflow="fold", min_width=8)
    for metric in metrics:
        table.add_column(metric, justify="right")
    for entry in entries:
        means = [next((row["mean"] for row in rows if row["entry"] == entry), None) for rows in metrics.values()]
        table.add_row(escape(entry), *map(number, means))
    console.print(table)


def _number(value: float | None, sign: str = "-", digits: int = 3) -> str:
    """Three digits behind the point; fewer for numbers of pixels."""
    if value is None:
        return "-"
    return f"{value:{sign}.{digits if abs(value) < 10 else 1}f}"


def _interval(ends: list[float] | None, digits: int) -> str:
    return "" if ends is None else f" [{', '.join(_number(end, digits=digits) for end in ends)}]"


def show_inventory(rows: list[dict[str, Any]], console: Console) -> None:
    """Every dataset, and whether it is here."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("dataset", style="cyan", no_wrap=True)
    table.add_column("here")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("download", no_wrap=True)
    table.add_column("terms", overflow="fold")
    for row in rows:
        how = "by command" if row["download"] else "by hand" if row["url"] else ""
        table.add_row(row["name"], "[green]yes[/]" if row["present"] else "", row["size"], how, row["licence"])
    console.print(table)
    console.print(
        "[dim]`toolkit data download NAME` fetches a dataset, or says where it is and on which terms; "
        "`toolkit data import` keeps what was downloaded by hand.[/]",
        highlight=False,
    )


def show_import(report: dict[str, Any], console: Console) -> None:
    """What was imported, and what is wrong with it."""
    added = f"{report['added']} files added" if report["added"] else "all of it was there already"
    console.print(f"{_images(report['images'])} in {report['folder']}; {added}.", highlight=False, soft_wrap=True)
    for fault in report["faults"]:
        console.print(f"[red]fault[/]  {escape(fault['reason'])}", highlight=False, soft_wrap=True)


def show_verification(report: dict[str, Any], console: Console) -> None:
    """Counts and faults of a dataset."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "train", "val", "test"):
        table.add_column(name, justify="right" if name else "left")
    for label, counts in report["splits"].items():
        table.add_row(label, *(str(counts[split]) for split in ("train", "val", "test")))
    console.print(table)
    for fault in report["faults"]:
        console.print(f"[red]fault[/]  {escape(fault['reason'])}", highlight=False, soft_wrap=True)
    found = f"{len(report['faults'])} faults" if report["faults"] else "no fault"
    console.print(f"{report['images']} images, {found}.", highlight=False)


def show_conversion(report: dict[str, Any], console: Console) -> None:
    """What was converted."""
    counts = ", ".join(f"{count} {split}" for split, count in report["splits"].items() if count)
    console.print(f"{report['images']} images ({counts}) in {report['to']}", highlight=False, soft_wrap=True)


def show_benchmark(report: dict[str, Any], console: Console) -> None:
    """Size, cost and speed of each segmenter."""
    done = [row for row in report["segmenters"] if "error" not in row]
    if done:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("segmenter", style="cyan", overflow="fold")
        for name in ("M params", "GMAC", "ms", "images/s", "GB peak", "of peak"):
            table.add_column(name, justify="right")
        for row in done:
            memory = "-" if row["peak_memory"] is None else f"{row['peak_memory'] / 1e9:.2f}"
            table.add_row(
                row["name"],
                f"{row['parameters'] / 1e6:.2f}",
                f"{row['gmacs']:.1f}",
                f"{row['seconds'] * 1e3:,.1f}",
                f"{row['images_per_second']:.2f}",
                memory,
                f"{row['gmacs_per_second'] / row['peak_gmacs_per_second']:.0%}",
            )
        console.print(table)
        console.print(f"[dim]{_conditions(report, done)}[/]", highlight=False)
    for row in report["segmenters"]:
        if "error" in row:
            console.print(f"[red]failed[/]  {escape(row['error'])}", highlight=False)


def _conditions(report: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    work = "Training steps" if report["train"] else "Inference"
    threads = f", {_count(rows[0]['threads'], 'thread')}" if report["device"] == "cpu" else ""
    reached = max(row["peak_gmacs_per_second"] for row in rows)
    return (
        f"{work}, {report['size']}x{report['size']} pixels, {report['device']}{threads}. GMAC are those of an image, "
        f"ms those of a batch ({_count(report['batch'], 'image')}). The peak is one large convolution's, "
        f"{reached:,.0f} GMAC/s."
    )


def _count(number: int, unit: str) -> str:
    return f"1 {unit}" if number == 1 else f"{number} {unit}s"
