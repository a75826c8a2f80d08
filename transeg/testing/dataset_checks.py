"""What every dataset must do, on a small tree in its layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import SkipTest

import numpy as np

from transeg.core.data.cache import CachedDataset, SampleCache
from transeg.core.data.windows import RegionReader
from transeg.core.interfaces import IGNORE, Dataset, Region, Sample, Written
from transeg.testing.subject import Subject
from transeg.testing.writer_checks import announced, drawn_sample

FIELDS = ("image", "mask", "target", "instances", "depth", "valid")
"""Of samples, those that are arrays."""


def _root(subject: Subject) -> Path:
    """The folder that is read; where none was given, one that the dataset's own writer writes."""
    if subject.tree is not None or not subject.registry.describe(subject.component).needs_root:
        return subject.root
    writer = subject.load().writer
    if writer is None:
        name = subject.component.name
        raise SkipTest(
            f"it reads a folder, and nothing writes one: say --data {name}=FOLDER, or in a test trees={{'{name}': "
            "a function that writes a small one}"
        )
    if not any(subject.root.iterdir()):
        split_of = ("train", "train", "val", "test")
        samples = [(split_of[i % 4], drawn_sample(f"image{i}", f"group{i}", seed=i)) for i in range(20)]
        written = writer(subject.root, announced(subject)[0])
        for split, sample in samples:
            written.add(sample, split)
        written.finish([Written(s.name, split, s.group, s.pixel_size) for split, s in samples])
    return subject.root


def _built(subject: Subject, split: str, domain: str | None = None) -> Dataset:
    changes = {"domain": domain} if domain is not None and domain != "*" else {}
    dataset: Dataset = subject.build(_root(subject), split, **changes)
    faults = [fault.reason for fault in dataset.faults]
    subject.expect(not faults, "no faults in its files", faults[:3], "Mend the files, or what reads them.")
    return dataset


def _domains(subject: Subject) -> tuple[str | None, ...]:
    return subject.component.domains or (None,)


def _everything(subject: Subject) -> Dataset:
    dataset = _built(subject, "all")
    subject.expect(
        len(dataset), "images in the folder", "none in the split `all`", "Let the split `all` have every image."
    )
    return dataset


def _samples(dataset: Dataset) -> Iterator[Sample]:
    for index in range(len(dataset)):
        yield dataset[index]


def dataset_splits_are_apart(subject: Subject) -> None:
    """No image is in two splits, no group is cut by them, and `all` is all of them."""
    for domain in _domains(subject):
        seen: dict[str, str] = {}
        groups: dict[str, str] = {}
        for split in ("train", "val", "test"):
            for sample in _samples(_built(subject, split, domain)):
                subject.expect(
                    seen.setdefault(sample.name, split) == split,
                    "each image in one split",
                    f"{sample.name} in {seen[sample.name]} and in {split}",
                    "Decide the split by the name or the group of an image alone.",
                )
                subject.expect(
                    groups.setdefault(sample.group, split) == split,
                    "the images of a group in one split",
                    f"the group {sample.group} in {groups[sample.group]} and in {split}",
                    "Share out groups, not images: a patient, a slide or a video is one group.",
                )
        everything = {sample.name for sample in _samples(_built(subject, "all", domain))}
        subject.expect(
            everything == set(seen),
            "in the split `all` the images of train, val and test",
            f"a difference of {len(everything ^ set(seen))} images",
            "Let `all` be their union.",
        )


def dataset_samples_keep_the_contract(subject: Subject) -> None:
    """Images are (H, W, C) of 8 or 16 bits or float32 in [0, 1]; masks (H, W) hold class numbers and IGNORE."""
    dataset = _everything(subject)
    subject.expect(
        len(dataset.classes) >= 2, "two classes at least, background first", dataset.classes, "Name background, too."
    )
    for sample in (dataset[0], dataset[len(dataset) - 1]):
        _check_image(subject, dataset, sample)
        _check_mask(subject, dataset, sample)
        if sample.valid is not None:
            subject.expect(
                sample.valid.shape == sample.size and sample.valid.dtype == bool,
                "as `valid` an array (H, W) of bool",
                f"{sample.valid.shape} of {sample.valid.dtype} in {sample.name}",
                "Give true where the image shows anything.",
            )
        if sample.instances is not None and sample.mask is not None:
            known = (sample.mask > 0) & (sample.mask != IGNORE)
            subject.expect(
                sample.instances.shape == sample.size and ((sample.instances > 0) == known).all(),
                "a number above 0 at the pixels of objects alone",
                f"others in {sample.name}",
                "Give 0 to background and to what is unknown.",
            )


def _check_image(subject: Subject, dataset: Dataset, sample: Sample) -> None:
    image = sample.image
    shape = (*sample.size, dataset.channels)
    subject.expect(
        image.shape == shape,
        f"an image of shape (H, W, {dataset.channels}), as `channels` says",
        f"{image.shape} in {sample.name}",
        "Set self.channels, or convert the images; a grey one has one channel: image[:, :, None].",
    )
    subject.expect(
        image.dtype in (np.uint8, np.uint16) or (image.dtype == np.float32 and 0 <= image.min() <= image.max() <= 1),
        "uint8, uint16, or float32 in [0, 1]",
        f"{image.dtype} from {image.min():g} to {image.max():g} in {sample.name}",
        "Scale floats to [0, 1] and convert them to float32.",
    )
    subject.expect(
        (sample.target is not None) == dataset.paired,
        f"{'a' if dataset.paired else 'no'} counterpart, as `paired` says",
        "none" if sample.target is None else f"one in {sample.name}",
        "Set self.paired to whether samples have a target.",
    )
    if sample.target is not None:
        wanted = (*sample.size, dataset.target_channels)
        subject.expect(
            sample.target.shape == wanted,
            f"a counterpart of shape {wanted}",
            f"{sample.target.shape} in {sample.name}",
            "Set self.target_channels, and register counterparts to their images.",
        )


def _check_mask(subject: Subject, dataset: Dataset, sample: Sample) -> None:
    mask = sample.mask
    if mask is None:
        return
    subject.expect(
        mask.shape == sample.size and np.issubdtype(mask.dtype, np.integer),
        f"an integer mask of shape {sample.size}",
        f"{mask.dtype} of shape {mask.shape} in {sample.name}",
        "Take one channel of the file, and convert it to uint8.",
    )
    strange = sorted({*np.unique(mask).tolist()} - {*range(len(dataset.classes)), IGNORE})
    subject.expect(
        not strange,
        f"class numbers 0 to {len(dataset.classes) - 1}, and {IGNORE} where nothing is known",
        f"{', '.join(map(str, strange[:8]))} in {sample.name}",
        "Turn what the file holds into class numbers, and name every class in `classes`.",
    )


def dataset_masks_show_something(subject: Subject) -> None:
    """Where there are masks, they show more than background: white (255) means unknown, not a class."""
    found: set[int] = set()
    labelled = 0
    for sample in _samples(_everything(subject)):
        if sample.mask is not None:
            labelled += 1
            found |= set(np.unique(sample.mask).tolist())
        if found - {0, IGNORE}:
            return
    if not labelled:
        raise SkipTest("its images have no masks")
    subject.expect(
        False,
        "some pixel of a class but background",
        f"only {', '.join(map(str, sorted(found)))} in {labelled} masks",
        f"Class numbers are 1, 2, ...; {IGNORE} is what is unknown. Turn white into 1: (mask > 127).astype('uint8').",
    )


def dataset_reads_parts(subject: Subject) -> None:
    """A part of a sample, and its size, are those of the whole."""
    dataset = _everything(subject)
    sample = dataset[0]
    subject.expect(
        tuple(dataset.size_of(0)) == sample.size,
        f"the size {sample.size} from size_of",
        dataset.size_of(0),
        "Return height, then width, of the image as __getitem__ gives it.",
    )
    height, width = sample.size
    region = Region(min(3, height - 1), min(2, width - 1), min(7, height - 3), min(9, width - 2))
    part = RegionReader(dataset)(0, region)
    rows, columns = slice(region.top, region.top + region.height), slice(region.left, region.left + region.width)
    for name in FIELDS:
        whole, found = getattr(sample, name), getattr(part, name)
        same = found is None if whole is None else found is not None and np.array_equal(found, whole[rows, columns])
        subject.expect(
            same,
            f"in read_region the {name} of the whole image, cut out",
            "another one",
            "Cut every array of the sample, or leave read_region out: then the whole is decoded.",
        )


def dataset_origins_decide_samples(subject: Subject) -> None:
    """What it says that a sample is made of decides it: kept decoded, samples are as they were."""
    cache = SampleCache(subject.scratch(), 10**9)
    datasets = [_built(subject, "all", domain) for domain in _domains(subject)]
    for dataset in [*datasets, *datasets]:
        cached = CachedDataset(dataset, cache)
        for index in (0, len(dataset) - 1) if len(dataset) else ():
            sample, found = dataset[index], cached(index)
            for name in (*FIELDS, "name", "group", "pixel_size"):
                subject.expect(
                    np.array_equal(getattr(found, name), getattr(sample, name)),
                    f"the same {name} for samples of one origin ({sample.name})",
                    "another one",
                    "Put every option that changes a sample, its name and its group into Origin.how; or return None "
                    "from origin_of.",
                )


def dataset_names_are_unique(subject: Subject) -> None:
    """Each sample has a name of its own: files that are written for it are called by it."""
    names = [sample.name for sample in _samples(_everything(subject))]
    twice = sorted({name for name in names if names.count(name) > 1})
    subject.expect(not twice, "unique names", f"{', '.join(twice[:5])} more than once", "Add the folder to the name.")


def dataset_repeats_itself(subject: Subject) -> None:
    """Built again it has the same samples in the same order, and decodes each alike."""
    one, two = (next((d for d in (_built(subject, s) for s in ("train", "test", "all")) if len(d)), None) for _ in "12")
    if one is None or two is None:
        raise SkipTest("it has no images")
    names = [[sample.name for sample in _samples(dataset)] for dataset in (one, two)]
    subject.expect(
        names[0] == names[1], "the same order when it is built again", "another one", "Sort what a folder lists."
    )
    first, again, other = one[0], one[0], two[0]
    for name in FIELDS:
        values = [getattr(each, name) for each in (first, again, other)]
        subject.expect(
            all(np.array_equal(values[0], value) for value in values),
            f"the same {name} each time",
            f"another one of {first.name}",
            "Draw nothing at random: augmentation is the core's.",
        )


CHECKS = (
    dataset_splits_are_apart,
    dataset_samples_keep_the_contract,
    dataset_masks_show_something,
    dataset_reads_parts,
    dataset_origins_decide_samples,
    dataset_names_are_unique,
    dataset_repeats_itself,
)
