"""Measures what a run has learned, or mask files, on labelled datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from transeg.core.analysis.counting import Counting
from transeg.core.api.run_networks import load_trained
from transeg.core.builders.datasets import (
    build_nonempty,
    check_compatible,
    check_labelled,
    normalise_stain,
    validation_split,
)
from transeg.core.distributed.collectives import join_ranks
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import UsageError
from transeg.core.evaluation.measurement import measure_masks, measure_segmenter
from transeg.core.evaluation.translation_quality import Judge, is_measurable, judge_translation
from transeg.core.experiment.command_line import label_tables, parse_dataset
from transeg.core.experiment.completion import complete_dataset
from transeg.core.experiment.defaults import expand_tests, share_options, share_scaling
from transeg.core.experiment.schema import QualityOptions
from transeg.core.experiment.settings import Settings
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import TranslatedDataset, Translator
from transeg.core.interfaces import Dataset
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder


def evaluate_run(
    run_dir: Path,
    registry: Registry,
    console: Console,
    *,
    tests: Sequence[str],
    split: str | None,
    window: int | None,
    flips: bool,
    device: str | None,
    out: Path | None,
    quality: QualityOptions,
    counting: Counting | None = None,
    translate_with: Path | None = None,
    direction: str | None = None,
) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """Measure a run's segmenter on labelled datasets, and its generator's images; processes of torchrun share them.

    Args:
        run_dir: the run folder.
        registry: where components come from.
        console: for progress.
        tests: datasets as on the command line; those of the run where there are none.
        split: of the datasets; None for their tests.
        window: see :meth:`transeg.core.inference.trained_model.TrainedModel.inference`.
        flips: likewise.
        device: where the network goes; None for a GPU where there is one.
        out: gets a CSV file for each dataset; by default a folder in the run.
        quality: what judges the generator's images; where it names nothing, the run's own options count.
        counting: how objects are counted, too; None for not at all.
        translate_with: a run that translates the images first, into the domain that the segmenter knows.
        direction: of that translation; None for source to target.

    Returns:
        The table of each dataset by name; the measures of the generator's images, by dataset; the folder of CSV files.
    """
    join_ranks()
    folder = RunFolder(run_dir)
    trained = load_trained(folder, registry, device)
    choices = dict(trained.experiment.data.test)
    if tests:
        data: Settings = {"test": label_tables([parse_dataset(text, registry) for text in tests])}
        trained_on = trained.experiment.data.model_dump(exclude_none=True)
        for table in data["test"].values():
            share_options(trained_on["source"], table)
            share_scaling(trained_on, table, registry)
        expand_tests(data, registry)
        choices = {label: complete_dataset(table, "test", registry) for label, table in data["test"].items()}
    if split is not None:
        choices = {label: choice.model_copy(update={"split": split}) for label, choice in choices.items()}
    if not choices and trained.segmenter is not None:
        raise UsageError("The run has no test set; say which with --test NAME:FOLDER.")
    if counting is not None and trained.segmenter is None:
        raise UsageError("--count: this run trained a generator alone, so there is nothing to count.")
    datasets = {
        label: normalise_stain(build_nonempty(choice, "test", registry, label), trained.experiment.data)
        for label, choice in choices.items()
    }
    place = out or folder.evaluation
    scores: dict[str, Any] = {}
    if trained.segmenter is not None:
        check_labelled(datasets)
        if translate_with is not None:
            channels = trained.domains.target_channels
            translator = Translator.adapting(translate_with, registry, device, direction=direction, channels=channels)
            check_compatible(trained.domains.class_names, translator.takes, datasets)
            datasets = {label: TranslatedDataset(dataset, translator) for label, dataset in datasets.items()}
        check_compatible(trained.domains.class_names, trained.domains.target_channels, datasets)
        with progress_bar(console, "testing", sum(len(dataset) for dataset in datasets.values())) as advance:
            scores = measure_segmenter(
                trained, datasets, place, trained.inference(window, flips), advance, counting or trained.counting()
            )
    options = quality if quality != QualityOptions() else trained.experiment.quality
    images = _given_images(trained, datasets, options, registry, named=bool(tests))
    if not images:
        return scores, {}, place
    judge = Judge.from_options(options, len(trained.domains.class_names), registry, trained.device)
    of_run = trained.experiment.data
    reference = (
        None if of_run.target is None else normalise_stain(build_nonempty(of_run.target, "target", registry), of_run)
    )
    judged = judge_translation(trained, images, reference, judge, trained.inference(window), place, console)
    return scores, judged, place


def _given_images(
    trained: TrainedModel, tests: Mapping[str, Dataset], options: QualityOptions, registry: Registry, *, named: bool
) -> Mapping[str, Dataset]:
    """Datasets to judge a generator on: the tests, or as at the end of a run the source's validation images.

    Args:
        trained: the run.
        tests: its test sets; for a segmenter that looks at translated images, these are of the target domain.
        options: what judges.
        registry: where datasets come from.
        named: whether the user has named the tests, and so nothing else.

    Raises:
        UsageError: a generator alone is to be measured, but nothing judges its images, there are none, or they do not
            fit it.
    """
    alone = trained.segmenter is None
    if trained.generator is None or not is_measurable(trained.generator, trained.given, options):
        if alone:
            raise UsageError("Nothing judges these images; say --features NAME:FILE or --consistency RUN.")
        return {}
    images = tests if trained.given.by_mask or alone else {}
    if not images and not named:
        val = validation_split(trained.experiment.data.source, registry)
        images = {} if val is None else {"validation": normalise_stain(val, trained.experiment.data)}
    if not images and alone:
        raise UsageError("The run has no test set; say which with --test NAME:FOLDER.")
    if trained.given.by_mask:
        check_labelled(images)
    check_compatible(trained.domains.class_names, trained.domains.source_channels, images)
    return images


def evaluate_masks(
    masks: Path,
    registry: Registry,
    console: Console,
    *,
    tests: Sequence[str],
    assignments: Sequence[str],
    split: str | None,
    values: str | None,
    suffix: str,
    out: Path,
    counting: Counting | None = None,
) -> dict[str, Any]:
    """Measure mask files on labelled datasets; see :func:`transeg.core.evaluation.measurement.measure_masks`.

    Args:
        masks: folder of masks.
        registry: where datasets come from.
        console: for progress.
        tests: datasets as on the command line.
        assignments: options of these datasets.
        split: of the datasets; None for their tests.
        values: whole numbers with commas between them; None for the usual ones.
        suffix: of the masks' names.
        out: gets the CSV files.
        counting: how objects are counted, too; None for not at all.
    """
    datasets = labelled_datasets(tests, split, assignments, registry)
    numbers = None if values is None else _whole_numbers("--values", values)
    with progress_bar(console, "measuring", sum(len(dataset) for dataset in datasets.values())) as advance:
        return measure_masks(masks, datasets, out, advance, values=numbers, suffix=suffix, counting=counting)


def labelled_datasets(
    tests: Sequence[str], split: str | None, assignments: Sequence[str], registry: Registry
) -> dict[str, Dataset]:
    """Datasets as on the command line, by the names that they have in a table.

    Args:
        tests: the datasets.
        split: of them; None for their tests.
        assignments: options of them all.
        registry: where they come from.

    Raises:
        UsageError: one of them cannot be built, or has no masks.
    """
    data: Settings = {"test": label_tables([parse_dataset(text, registry, assignments) for text in tests])}
    expand_tests(data, registry)
    choices = {
        label: complete_dataset({**table, "split": split or "test"}, "test", registry)
        for label, table in data["test"].items()
    }
    datasets = {label: build_nonempty(choice, "test", registry, label) for label, choice in choices.items()}
    check_labelled(datasets)
    return datasets


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise UsageError(
            f"{option} {text} must be whole numbers with commas between them, such as 0,127,255."
        ) from error
