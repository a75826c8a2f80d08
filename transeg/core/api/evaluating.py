"""Measures what a run has learned, or mask files, on labelled datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from transeg.core.analysis.counting import Counting, counting_from_options
from transeg.core.analysis.video_alarms import AlarmRule, alarm_rule_from_options
from transeg.core.analysis.video_tables import check_videos
from transeg.core.api.experiment import Manifests, as_texts, find_components
from transeg.core.api.run_networks import load_trained
from transeg.core.builders.datasets import (
    build_nonempty,
    check_compatible,
    check_labelled,
    normalise_stain,
    validation_split,
)
from transeg.core.builders.seen_images import check_unseen, recall_seen, unseen_rest
from transeg.core.claims import claimed
from transeg.core.data.splits import SPLITS
from transeg.core.data.volume_file import AXIAL, is_volume
from transeg.core.distributed.collectives import broadcast_from_first, join_ranks
from transeg.core.distributed.progress_bar import progress_bar, progress_console
from transeg.core.errors import Failures, UsageError, did_you_mean
from transeg.core.evaluation.judge import Judge, is_measurable
from transeg.core.evaluation.measurement import measure_masks, measure_segmenter
from transeg.core.evaluation.metrics.image_metrics import check_metrics
from transeg.core.evaluation.translation_quality import judge_translation
from transeg.core.evaluation.volume_scores import measure_volumes
from transeg.core.experiment.choices import DatasetChoice
from transeg.core.experiment.command_line import label_tests, parse_dataset
from transeg.core.experiment.completion import complete_dataset
from transeg.core.experiment.defaults import expand_tests, share_options, share_scaling
from transeg.core.experiment.schema import QualityOptions
from transeg.core.experiment.settings import Settings
from transeg.core.experiment.shares import is_shared_by_ratio
from transeg.core.experiment.validation import chosen_dataset
from transeg.core.inference.adaptation import Adaptation
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import TranslatedDataset, Translator
from transeg.core.interfaces import Dataset
from transeg.core.registry import Registry
from transeg.core.runs.evaluations import new_evaluation
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
    failures: Failures | None = None,
    transductive: bool | None = None,
    assignments: Sequence[str] = (),
    metrics: Sequence[str] = (),
    alarms: AlarmRule | None = None,
    adapt: Adaptation = "none",
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
        out: gets a CSV file for each dataset; by default a new folder in the run's ``evaluations/``.
        quality: what judges the generator's images; where it names nothing, the run's own options count.
        counting: how objects are counted, too; None for not at all.
        translate_with: a run that translates the images first, into the domain that the segmenter knows.
        direction: of that translation; None for source to target.
        failures: get the images that cannot be read, and the others are measured all the same; None to stop at the
            first. A video must have all of its frames, so with ``alarms`` the first stops always.
        transductive: whether tests that are named may hold images that the run has seen without labels, as target.
        assignments: options of the datasets that are named.
        metrics: those that are measured on request alone, beside those that the run's experiment names.
        alarms: what counts as an alarm in videos, which are the groups; None where images are no frames.
        adapt: what the segmenter's batch norms take over from each group of images.

    Returns:
        The table of each dataset by name; the measures of the generator's images, by dataset; the folder of CSV files.
    """
    join_ranks()
    check_metrics(metrics, registry)
    folder = RunFolder(run_dir)
    trained = load_trained(folder, registry, device, layers=adapt != "none")
    choices = _tests(trained, tests, split, assignments, registry)
    if not choices and trained.segmenter is not None:
        raise UsageError("The run has no test set; say which with --test NAME:FOLDER.")
    for option, wanted in (("--count", counting), ("--frames-per-second", alarms)):
        if wanted is not None and trained.segmenter is None:
            raise UsageError(f"{option}: this run trained a generator alone, so there is nothing to count.")
    datasets = {
        label: normalise_stain(build_nonempty(choice, "test", registry, label), trained.experiment.data)
        for label, choice in choices.items()
    }
    if tests and split not in ("train", "val"):  # who names these asks for what was trained on
        datasets = _unseen(folder, trained, datasets, choices, registry, console, transductive=bool(transductive))
    if alarms is not None:
        failures = None
        check_videos(datasets)
    place = out or broadcast_from_first(lambda: new_evaluation(folder, choices or ("validation",)))
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
            inference, counting = trained.inference(window, flips), counting or trained.counting()
            with claimed(place, "evaluate"):
                scores = measure_segmenter(
                    trained, datasets, place, inference, advance, registry, counting, failures, metrics, alarms, adapt
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
    with claimed(place, "evaluate"):
        judged = judge_translation(trained, images, reference, judge, trained.inference(window), place, console)
    return scores, judged, place


def _tests(
    trained: TrainedModel, named: Sequence[str], split: str | None, assignments: Sequence[str], registry: Registry
) -> dict[str, DatasetChoice]:
    """The test sets that are named, or those of the run.

    Raises:
        UsageError: there is no such split, or options are of no test set.
    """
    if split is not None and split not in (*SPLITS, "all"):
        raise UsageError(f"There is no split {split!r}.{did_you_mean(split, (*SPLITS, 'all'))}")
    if named:
        return _named_tests(trained, named, split, assignments, registry)
    if assignments:
        raise UsageError(f"--set {assignments[0]} is for test sets that are named; say which with --test NAME:FOLDER.")
    of_run = trained.experiment.data.test
    return {
        label: choice if split is None else choice.model_copy(update={"split": split})
        for label, choice in of_run.items()
    }


def _named_tests(
    trained: TrainedModel, tests: Sequence[str], split: str | None, assignments: Sequence[str], registry: Registry
) -> dict[str, DatasetChoice]:
    """Tests as on the command line, with the options of the run's data in the same folder."""
    data: Settings = {"test": label_tests([parse_dataset(text, registry, assignments) for text in tests], registry)}
    trained_on = trained.experiment.data.model_dump(exclude_none=True)
    for table in data["test"].values():
        for role in ("source", "target"):
            share_options(trained_on.get(role, {}), table)
        share_scaling(trained_on, table, registry)
        if split is not None:
            table["split"] = split
        elif is_shared_by_ratio(chosen_dataset(table), registry):
            table.pop("ratio", None)  # which images the run has seen decides, wherever they lie now
    expand_tests(data, registry)
    return {label: complete_dataset(table, "test", registry) for label, table in data["test"].items()}


def _unseen(
    folder: RunFolder,
    trained: TrainedModel,
    datasets: Mapping[str, Dataset],
    choices: Mapping[str, DatasetChoice],
    registry: Registry,
    console: Console,
    *,
    transductive: bool,
) -> dict[str, Dataset]:
    """Tests without what the run has seen, of folders that it has divided.

    Raises:
        UsageError: others hold images that it has seen, or nothing else.
    """
    seen = recall_seen(folder, trained.experiment, registry)
    transductive = transductive or trained.experiment.transductive
    found: dict[str, Dataset] = {}
    for label, dataset in datasets.items():
        open_ = choices[label].split == "test" and is_shared_by_ratio(choices[label], registry)
        found[label] = unseen_rest(dataset, seen, transductive=transductive) if open_ else dataset
        if len(found[label]) < len(dataset):
            console.print(
                f"[yellow]{escape(label)}:[/] {len(found[label])} of {len(dataset)} images; the run has seen the rest.",
                highlight=False,
            )
    for label, words in check_unseen(found, seen, transductive=transductive).items():
        console.print(f"[yellow]{escape(label)}:[/] {words}.", highlight=False)
    return found


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


def evaluate(
    run: str | PathLike[str],
    data: str | Sequence[str] = (),
    *,
    split: str | None = None,
    window: int | None = None,
    flips: bool = False,
    device: str | None = None,
    out: str | PathLike[str] | None = None,
    translate_with: str | PathLike[str] | None = None,
    direction: str | None = None,
    transductive: bool = False,
    features: str | PathLike[str] | None = None,
    lpips: str | PathLike[str] | None = None,
    consistency: str | PathLike[str] | None = None,
    count: bool = False,
    count_method: str | None = None,
    min_area: int | None = None,
    metrics: Sequence[str] = (),
    frames_per_second: float | None = None,
    alarm_pixels: int | None = None,
    alarm_frames: int | None = None,
    adapt: Adaptation = "none",
    registry: Manifests = (),
    progress: bool = False,
) -> dict[str, dict[str, Any]]:
    """Measure what a run has learned on labelled images, as `toolkit evaluate` does.

    Args:
        run: the folder of the run.
        data: labelled images, one set or several: ``NAME``, ``NAME:FOLDER`` or ``NAME:DOMAIN:FOLDER``; by default the
            test sets of the run.
        split: the part of them to use, ``train``, ``val``, ``test`` or ``all``; by default ``test``.
        window: height and width of a window that slides over images at their own size, or 0 to take them whole; by
            default the ``data.tile`` of the run.
        flips: average predictions over the four mirrorings of each image.
        device: ``cpu``, ``cuda`` or ``cuda:1``; by default a GPU where there is one.
        out: folder to write CSV files to, a line for each image; by default a new one in the run's ``evaluations/``.
        translate_with: folder of a run whose generator first translates the images into what the segmenter knows.
        direction: of that translation; by default ``source-to-target``.
        transductive: allow test images that the run has seen without labels, as target.
        features: network whose features FID and KID compare, ``NAME:FILE`` or a run.
        lpips: weights of AlexNet, which LPIPS needs.
        consistency: run whose segmenter should find in generated images the labels that they were made from.
        count: count the objects in each image, too.
        count_method: ``components``, ``contours`` or ``watershed``.
        min_area: smallest area of an object that is counted, in pixels.
        metrics: those to measure that are measured on request alone: ``cldice``.
        frames_per_second: of images that are frames, whose groups are videos and whose names say their order: count
            false alarms per minute without an object, and objects found at least once.
        alarm_pixels: smallest area of an alarm, in pixels; by default 100.
        alarm_frames: frames one after the other that an alarm lasts at least; by default 5.
        adapt: adapt the segmenter's batch norms to each group of images, without labels: ``bn`` takes their statistics,
            ``tent`` also minimises the entropy of what is predicted.
        registry: manifests (`registry.toml`) whose components are offered, too.
        progress: print what `toolkit evaluate` prints on its way; otherwise nothing.

    Returns:
        What ``toolkit evaluate --json`` prints: ``tests``, a table of metrics by the name of the test set, such as
        ``results["tests"]["phantom"]["dice"]``; and ``quality``, measures of the generator's images, likewise.

    Raises:
        UsageError: it is no run, there is no such data set, or something does not fit.
        DataError: an image or a mask cannot be read.
    """
    network = None if features is None else str(features)
    tests, judged, _ = evaluate_run(
        Path(run),
        find_components(registry),
        progress_console(progress),
        tests=as_texts(data),
        split=split,
        window=window,
        flips=flips,
        device=device,
        out=None if out is None else Path(out),
        quality=QualityOptions.model_validate({"features": network, "lpips": lpips, "segmenter": consistency}),
        counting=counting_from_options(count, count_method, min_area),
        translate_with=None if translate_with is None else Path(translate_with),
        direction=direction,
        transductive=transductive,
        metrics=metrics,
        alarms=alarm_rule_from_options(frames_per_second, alarm_pixels, alarm_frames),
        adapt=adapt,
    )
    return {"tests": tests, "quality": judged}


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
    """Measure mask files on labelled datasets; see :func:`transeg.core.evaluation.measurement.measure_masks`, or of a
    folder of NIfTI files :func:`transeg.core.evaluation.volume_scores.measure_volumes`.

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
    choices = _labelled_choices(tests, split, assignments, registry)
    datasets = _labelled(choices, registry)
    numbers = None if values is None else _whole_numbers("--values", values)
    volumes = sorted(path for path in masks.iterdir() if is_volume(path)) if masks.is_dir() else []
    for option, said in (("--values", values), ("--count", counting)):
        if volumes and said is not None:
            raise UsageError(f"{option} is for mask files, but {masks} holds volumes.")
    total = sum(len(dataset) for dataset in datasets.values())
    with claimed(out, "measure"), progress_bar(console, "measuring", total) as advance:
        if volumes:
            axes = {label: int(choice.options.get("axis", AXIAL)) for label, choice in choices.items()}
            return measure_volumes(volumes, datasets, axes, out, advance, suffix=suffix)
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
    return _labelled(_labelled_choices(tests, split, assignments, registry), registry)


def _labelled_choices(
    tests: Sequence[str], split: str | None, assignments: Sequence[str], registry: Registry
) -> dict[str, DatasetChoice]:
    """What datasets are chosen; see :func:`labelled_datasets`."""
    data: Settings = {"test": label_tests([parse_dataset(text, registry, assignments) for text in tests], registry)}
    expand_tests(data, registry)
    return {
        label: complete_dataset(table if split is None else {**table, "split": split}, "test", registry)
        for label, table in data["test"].items()
    }


def _labelled(choices: Mapping[str, DatasetChoice], registry: Registry) -> dict[str, Dataset]:
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
