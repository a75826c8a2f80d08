"""The report of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from transeg.core.builders.datasets import build_nonempty, normalise_stain
from transeg.core.device import keep_freed_memory, pick_device
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import TransegError
from transeg.core.evaluation.metrics.table import all_rows, digits_of, drawn_in, titles, units
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.registry import Registry
from transeg.tools.common.anonymity import Anonymity
from transeg.tools.report import evaluation_tables, facts, page, training_curves
from transeg.tools.report.cases import LOOKED_AT, ReportCase, rank_cases, source_images, test_cases, translated_cases
from transeg.tools.report.pictures import WIDTH, class_colour, css_colours, errors_shown
from transeg.tools.report.record import Record


@dataclass(frozen=True)
class Gallery:
    """Pictures of one set of images.

    Attributes:
        label: of the set.
        cases: the images.
        missing: why there are none, in a sentence; '' where there are some.
    """

    label: str
    cases: list[ReportCase]
    missing: str


def render_run_page(
    path: Path, registry: Registry, console: Console, device: str | None, *, anonymous: bool = False
) -> str:
    """The report of a run folder as a page.

    Args:
        path: the folder.
        registry: where components come from.
        console: for progress.
        device: where the networks go that the shown images are put through; None for a GPU where there is one.
        anonymous: whether it holds no absolute path of this machine.

    Raises:
        UsageError: it is not a run folder, or there is no such device.
        TransegError: one of its files is damaged.
    """
    record = Record.read(path, registry)
    hidden = _anonymity(record) if anonymous else None
    trained, why = _networks(record, registry, device)
    rows = all_rows(registry)
    columns = titles(evaluation_tables.shown_metrics(record, rows), rows)
    of_classes = evaluation_tables.shown_of_classes(record)
    tests, translations = _galleries(record, trained, why, registry, console)
    spent, quality = training_curves.stage_times(record), record.metrics.get("quality") or {}
    return page.render(
        "run.html",
        hidden,
        title=record.folder.path.resolve().name,
        record=record,
        lead=run_summary(record),
        tests=evaluation_tables.test_sets(record, list(columns)),
        columns=columns,
        units=units(columns, rows),
        class_columns=titles(of_classes),
        class_units=units(of_classes),
        digits={metric: digits_of(metric, rows) for metric in rows},
        galleries=tests,
        translations=translations,
        legend=_legend(trained),
        quality=quality,
        judged=titles(key for key in drawn_in("quality") if any(key in row for row in quality.values())),
        looked_at=LOOKED_AT,
        width=WIDTH,
        courses=training_curves.training_curves(record),
        spent=spent,
        activities=list(dict.fromkeys(what for row in spent for what in row.seconds)),
        times=training_curves.plot_stage_times(spent) if spent else None,
        seconds=sum(row.total for row in spent),
        done=max((int(lines[-1]["iteration"]) for lines in record.scalars.values()), default=0),
        components=facts.component_facts(record, registry),
        datasets=facts.dataset_facts(record, registry),
        machine=facts.machine_facts(record),
        changed=facts.changed_options(record.experiment, registry),
        command=facts.recorded_command(record),
        experiment_file=record.folder.experiment.read_text(encoding="utf-8"),
    )


def _anonymity(record: Record) -> Anonymity:
    """What hides every path that a run folder names."""
    arguments = record.environment.get("arguments", [])
    return Anonymity(record.folder.path, record.experiment.model_dump(), arguments)


def run_summary(record: Record) -> str:
    """What the run was, in a sentence or two."""
    experiment = record.experiment
    folds = f", {experiment.folds} times with other images held out" if experiment.folds else ""
    baseline = " A baseline learned from the source images as they are." if experiment.baseline != "none" else ""
    return f"{record.summary}{folds}.{baseline}"


def _networks(record: Record, registry: Registry, device: str | None) -> tuple[TrainedModel | None, str]:
    """The run's networks, or why there are none.

    Raises:
        UsageError: there is no such device.
    """
    place = pick_device(device or "auto")
    try:
        trained = TrainedModel.load(record.folder, registry, place)
    except TransegError as error:
        return None, str(error)
    if trained.device.type == "cpu":
        keep_freed_memory()
    return trained, ""


def _galleries(
    record: Record, trained: TrainedModel | None, why: str, registry: Registry, console: Console
) -> tuple[list[Gallery], Gallery | None]:
    """Pictures of each test set, and of translated source images where there is a generator."""
    labels = list(record.scores)
    if trained is None:
        missing = f"No image can be shown: {why}"
        of_source = Gallery("source", [], missing) if record.experiment.generator is not None else None
        return [Gallery(label, [], missing) for label in labels], of_source
    shown = sum(len(rank_cases(scores.values["dice"], scores.names)) for scores in record.scores.values())
    total = shown + (LOOKED_AT if trained.generator is not None else 0)
    with progress_bar(console, "drawing", total) as advance:
        galleries = [_test_gallery(record, trained, label, registry, advance) for label in labels]
        translations = None
        if trained.generator is not None:
            translations = _filled_gallery(
                "source", lambda: translated_cases(trained, source_images(trained.experiment, registry), advance)
            )
    return galleries, translations


def _test_gallery(
    record: Record, trained: TrainedModel, label: str, registry: Registry, advance: Callable[[], None]
) -> Gallery:
    data = trained.experiment.data  # whose options have been checked, where the record has them as they are written
    choice = data.test.get(label)
    if choice is None:
        return Gallery(label, [], "It was measured after the run, which does not know where its images are.")

    def cases() -> list[ReportCase]:
        dataset = normalise_stain(build_nonempty(choice, "test", registry, label), data)
        return test_cases(trained, dataset, record.scores[label], advance)

    return _filled_gallery(label, cases)


def _filled_gallery(label: str, cases: Callable[[], list[ReportCase]]) -> Gallery:
    """A gallery, or the sentence that says why images cannot be shown."""
    try:
        return Gallery(label, cases(), "")
    except (TransegError, OSError) as error:
        return Gallery(label, [], f"Its images cannot be shown: {error}")


def _legend(trained: TrainedModel | None) -> dict[str, dict[str, str]]:
    """CSS colours by what they stand for: classes, and errors."""
    names = [] if trained is None else trained.domains.class_names[1:]
    classes = {name: class_colour(number) for number, name in enumerate(names, start=1)}
    return {"classes": css_colours(classes), "errors": css_colours(errors_shown(len(names)))}
