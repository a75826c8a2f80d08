"""From the choice of a data set to images that fit an experiment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

from transeg.core.builders.construct import construct
from transeg.core.builders.probes import probe_dataset
from transeg.core.component_options import options as component_options
from transeg.core.data.inverted import InvertedDataset
from transeg.core.data.ranged import RangedDataset
from transeg.core.data.rescaling import RescaledDataset
from transeg.core.data.splits import SPLITS
from transeg.core.data.stain import StainNormalisedDataset, stain_normaliser
from transeg.core.data.unread_endings import describe_unread
from transeg.core.data.windows import RegionReader, Windows
from transeg.core.errors import DataError, UsageError
from transeg.core.experiment.choices import SPLIT_OF_ROLE, DatasetChoice
from transeg.core.experiment.completion import complete_dataset
from transeg.core.experiment.paths import dataset_root
from transeg.core.experiment.schema import DataOptions
from transeg.core.experiment.settings import Settings
from transeg.core.interfaces import About, Dataset, Region, Writer
from transeg.core.registry import Registry


def build_dataset(choice: DatasetChoice, role: str, registry: Registry) -> Dataset:
    """A dataset in the role of `source`, `target`, `val` or `test`, which decides its split by default.

    Args:
        choice: its name and checked options, as :func:`.complete_dataset` gives them.
        role: what it is for.
        registry: where it comes from.

    Raises:
        UsageError: its folder does not exist, or does not hold what it should.
    """
    cls = registry.class_of("dataset", choice.name)
    options = choice.options if choice.domain is None else {**choice.options, "domain": choice.domain}
    root, split = dataset_root(choice, registry), choice.split or SPLIT_OF_ROLE[role]
    scales_itself = "range" in component_options(cls)
    if scales_itself and choice.range is not None:
        options["range"] = choice.range
    made: Dataset = construct(lambda: cls(root, split, **options), f"data.{role}")
    probe_dataset(made, registry.find("dataset", choice.name))
    dataset: Dataset = RangedDataset(made, None if scales_itself else choice.range)
    if choice.invert:
        dataset = InvertedDataset(dataset)
    if choice.pixel_size is None and choice.rescale is None:
        return dataset
    rescaled = partial(RescaledDataset, dataset, pixel_size=choice.pixel_size, factor=choice.rescale)
    return cast("Dataset", construct(rescaled, f"data.{role}"))


def build_splits(table: Settings, registry: Registry, data: str, splits: Iterable[str] = SPLITS) -> dict[str, Dataset]:
    """Those splits of a dataset that have images.

    Args:
        table: the dataset.
        registry: where it comes from.
        data: what the user calls it.
        splits: which are looked at.

    Raises:
        UsageError: the dataset cannot be built, or something is wrong with its list of files.
    """
    choices = {split: complete_dataset({**table, "split": split}, "source", registry) for split in splits}
    parts = {split: build_dataset(choice, "source", registry) for split, choice in choices.items()}
    for dataset in parts.values():  # one that has no image for its faults would else be left out without a word
        if dataset.faults:
            raise UsageError(f"{dataset.faults[0].reason} See all with: toolkit data verify {data}")
    return {split: dataset for split, dataset in parts.items() if len(dataset)}


def dataset_writer(name: str, root: Path, about: About, registry: Registry) -> Writer:
    """What writes the layout of a dataset into a folder.

    Raises:
        UsageError: there is no such dataset, or nothing writes its layout.
    """
    cls = registry.load(registry.find("dataset", name))
    if cls.writer is None:
        writable = [c.name for c in registry.components("dataset") if registry.load(c).writer is not None]
        raise UsageError(f"The layout of {name} can be read but not written; these can be: {', '.join(writable)}.")
    return cast("Writer", construct(lambda: cls.writer(root, about), str(root)))


def validation_split(source: DatasetChoice | None, registry: Registry) -> Dataset | None:
    """The source's validation images, where there is one that keeps some apart from what is trained on."""
    if source is None or source.split not in ("train", None):
        return None
    val = build_dataset(source.model_copy(update={"split": "val"}), "source", registry)
    return val if len(val) else None


def build_nonempty(choice: DatasetChoice, role: str, registry: Registry, label: str = "") -> Dataset:
    """A dataset with at least one image and nothing wrong with its list of files.

    Raises:
        UsageError: it cannot be built, or is not like that.
    """
    dataset = build_dataset(choice, role, registry)
    if dataset.faults:
        more = f" ({len(dataset.faults) - 1} more)" if len(dataset.faults) > 1 else ""
        raise UsageError(f"{dataset.faults[0].reason}{more} See all with: toolkit data verify {choice}")
    if not len(dataset):
        root = dataset_root(choice, registry)
        inside = sorted(root.iterdir()) if root is not None and root.is_dir() else []
        for folder in [] if root is None else [root, *(place for place in inside if place.is_dir())]:
            if unread := describe_unread(folder):
                raise UsageError(f"The dataset {choice} has no image; {folder} {unread}.")
        option = f"data.test.{label}" if label else f"data.{role}"
        raise UsageError(
            f"The dataset {choice} has no image in the split that serves as {role}; "
            f"choose another with --set {option}.split=train, val, test or all."
        )
    return dataset


def normalise_stain(dataset: Dataset, data: DataOptions) -> Dataset:
    """A dataset with its stain normalised, where an experiment asks for that.

    Raises:
        UsageError: its images have no colour, or the reference cannot be used.
    """
    if data.stain is None:
        return dataset
    if dataset.channels != 3:
        raise UsageError(f"data.stain is for colour images, but there is a dataset of {dataset.channels} channels.")
    return StainNormalisedDataset(dataset, stain_normaliser(data.stain.method, data.stain.reference))


def check_labelled(datasets: Mapping[str, Dataset]) -> None:
    """Whether datasets have masks, by the first image of each.

    Raises:
        UsageError: one of them has none.
    """
    for label, dataset in datasets.items():
        if not has_masks(dataset):
            raise UsageError(
                f"The images of {label} have no masks, so nothing can be learned from or measured on them."
            )


def has_masks(dataset: Dataset) -> bool:
    """Whether there are masks, by the first image that can be read, without decoding a slide.

    Raises:
        DataError: none can be read.
    """
    for index in range(len(dataset)):
        try:
            return RegionReader(dataset, limit=0)(index, Region(0, 0, 1, 1)).mask is not None
        except DataError:
            if index == len(dataset) - 1:
                raise
    return False


def check_compatible(class_names: Sequence[str], channels: int, others: Mapping[str, Dataset]) -> None:
    """Whether datasets have the classes and channels that a network learns.

    Raises:
        UsageError: one of them does not.
    """
    for label, dataset in others.items():
        if len(dataset.classes) != len(class_names):
            raise UsageError(
                f"{label} has the classes {', '.join(dataset.classes)}, but the source has {', '.join(class_names)}."
            )
        if dataset.channels != channels:
            raise UsageError(f"{label} has images of {dataset.channels} channels, not {channels} as in the training.")


def training_windows(data: DataOptions, dataset: Dataset, limit: int) -> Windows | None:
    """Those that are cut out of the first so many images of a dataset (0 for all); None where images are not cut."""
    if data.tile is None or data.stride is None:
        return None
    count = min(limit, len(dataset)) if limit else len(dataset)
    return Windows([dataset.size_of(index) for index in range(count)], data.tile, data.stride)
