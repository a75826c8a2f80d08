"""Opens every file of a dataset and says what was understood of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from transeg.core.analysis.image_facts import ImageFacts
from transeg.core.analysis.set_facts import summarise
from transeg.core.builders.datasets import build_dataset
from transeg.core.data.checking import CheckedImage, check_images
from transeg.core.data.set_faults import masks_elsewhere, set_faults
from transeg.core.data.splits import SPLITS
from transeg.core.data.unread_files import UnreadFiles, unread_files
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import UsageError
from transeg.core.experiment.command_line import parse_dataset
from transeg.core.experiment.completion import complete_dataset
from transeg.core.experiment.paths import dataset_root
from transeg.core.experiment.settings import Settings
from transeg.core.experiment.shares import DECIDING, is_shared_by_ratio
from transeg.core.experiment.validation import chosen_dataset
from transeg.core.interfaces import Dataset, Fault
from transeg.core.registry import Registry

NO_SPLIT = "none"
"""Under which images are reported that are in no split."""
UNDIVIDED = "all"
"""Under which those are reported of a folder that nothing divides: a run gives each of its roles a share."""


@dataclass(frozen=True)
class CheckedDomain:
    """A domain of a dataset, all of whose images were opened.

    Attributes:
        name: of the domain, or of a dataset that has one only.
        whole: the dataset of all splits.
        parts: that of each split; of a folder that nothing divides, the whole.
        checked: the images of each part, and of none.
    """

    name: str
    whole: Dataset
    parts: dict[str, Dataset]
    checked: dict[str, list[CheckedImage]]

    @property
    def images(self) -> list[CheckedImage]:
        """Those of all splits."""
        return [image for images in self.checked.values() for image in images]

    @property
    def facts(self) -> list[ImageFacts]:
        """Of all images that can be decoded."""
        return _decoded(self.images)

    def faults(self) -> Iterator[Fault]:
        """What is wrong with the list of files, with single images, and with the set."""
        yield from set_faults(self.images, by_half=len(self.whole.classes) == 2 and self._cuts_at_half())
        yield from self.whole.faults
        yield from (image.fault for image in self.images if image.fault is not None)

    def _cuts_at_half(self) -> bool:
        values = {value for image in self.images if image.values is not None for value in image.values[0].tolist()}
        return not any(image.facts is not None and image.facts.unknown for image in self.images) and bool(values)


def verify_dataset(
    text: str, assignments: Sequence[str], registry: Registry, console: Console, preview: Path | None = None
) -> dict[str, Any]:
    """Open every image and mask of a dataset.

    Args:
        text: the dataset as on the command line.
        assignments: options of it.
        registry: where it comes from.
        console: for progress.
        preview: a PNG file to write, with some images of each split and the outlines of their masks.

    Returns:
        ``dataset``; ``splits``, the number of images in each or in ``all``, by domain; ``images``, their sum;
        ``domains``, what was found in each; ``not_read``, which files of its folder no sample is made of; ``faults``,
        what is wrong with which file. ``docs/decisions/verify.md`` has all keys.

    Raises:
        UsageError: there is no such dataset, or its folder cannot be understood.
    """
    if preview is not None:
        _check_preview(preview)
    table = parse_dataset(text, registry, assignments)
    domains = check_domains(table, registry, console)
    root = dataset_root(chosen_dataset(table), registry)
    unread = [] if root is None else unread_files(root, _read(domains))
    if preview is not None:
        from transeg.core.api.dataset_preview import write_preview

        write_preview(domains, preview)
    images = [image for domain in domains for image in domain.images]
    faults = [fault for domain in domains for fault in domain.faults()]
    if not images:
        faults.insert(0, Fault(str(root or text), f"No image was read from {root or text}."))
    elif not any(fact.classes is not None for domain in domains for fact in domain.facts):
        faults += masks_elsewhere(images, unread)
    return {
        "dataset": text,
        "splits": {domain.name: {part: len(domain.checked[part]) for part in domain.parts} for domain in domains},
        "images": len(images),
        "domains": {domain.name: _described(domain) for domain in domains},
        "not_read": [_described_unread(each) for each in unread],
        "faults": [{"file": fault.file, "reason": fault.reason} for fault in dict.fromkeys(faults)],
    }


def _check_preview(path: Path) -> None:
    """Whether a picture can be written there.

    Raises:
        UsageError: it cannot be a PNG, or is there already.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"--preview {path} must be a file that ends in .png.")
    if path.exists():
        raise UsageError(f"--preview {path} is there already; choose another name.")


def check_domains(table: Settings, registry: Registry, console: Console) -> list[CheckedDomain]:
    """Open every image of a dataset: of the domain that is named, or of each.

    Raises:
        UsageError: it cannot be built.
    """
    entry = registry.find("dataset", table["name"])
    domains = [table["domain"]] if "domain" in table else entry.domains or [None]
    return [check_domain({**table, "domain": domain} if domain else table, registry, console) for domain in domains]


def check_domain(table: Settings, registry: Registry, console: Console) -> CheckedDomain:
    """Open every image of one domain.

    Raises:
        UsageError: it cannot be built.
    """
    divided = any(table.get(name) for name in DECIDING) or not is_shared_by_ratio(chosen_dataset(table), registry)
    parts = {
        split: build_dataset(complete_dataset({**table, "split": split}, "test", registry), "test", registry)
        for split in (*SPLITS, "all")
        if divided or split == "all"
    }
    whole = parts.pop("all") if divided else parts[UNDIVIDED]
    name = str(table.get("domain", table["name"]))
    with progress_bar(console, f"checking {name}", len(whole)) as advance:
        checked = {split: check_images(dataset, range(len(dataset)), advance) for split, dataset in parts.items()}
    if len(whole) > sum(map(len, checked.values())):
        checked[NO_SPLIT] = _others(whole, checked.values(), console)
    return CheckedDomain(name, whole, parts, checked)


def _others(whole: Dataset, checked: Iterable[Sequence[CheckedImage]], console: Console) -> list[CheckedImage]:
    """The images that are in no split: by their files, or, where these are not known, by names, for which they are
    opened.
    """
    known = {_identity(image) for images in checked for image in images}
    read = {file for file, _ in known if file}
    files = [str(next(iter(whole.files_of(index).get("image", ())), "")) for index in range(len(whole))]
    new = [index for index, file in enumerate(files) if file not in read]
    with progress_bar(console, "looking at images in no split", len(new)) as advance:
        return [image for image in check_images(whole, new, advance) if _identity(image) not in known]


def _identity(image: CheckedImage) -> tuple[str, str]:
    return image.file, "" if image.facts is None else image.facts.name


def _decoded(images: Iterable[CheckedImage]) -> list[ImageFacts]:
    return [image.facts for image in images if image.facts is not None]


def _described(domain: CheckedDomain) -> dict[str, Any]:
    """What a report says of a domain: of each split that has images, and of the mask files of all."""
    classes = domain.whole.classes
    values: dict[int, int] = {}
    for image in domain.images:
        for value, count in () if image.values is None else image.values.T.tolist():
            values[value] = values.get(value, 0) + count
    total = max(1, sum(values.values()))
    return {
        "channels": domain.whole.channels,
        "classes": list(classes),
        "mask_values": {str(value): values[value] / total for value in sorted(values)},
        "splits": {split: summarise(_decoded(images), classes) for split, images in domain.checked.items() if images},
        "all": summarise(domain.facts, classes),
    }


def _described_unread(files: UnreadFiles) -> dict[str, Any]:
    return {
        "folder": files.folder,
        "reason": files.reason,
        "count": len(files.files),
        "example": files.files[0].name,
    }


def _read(domains: Iterable[CheckedDomain]) -> set[Path]:
    """The files that samples are made of."""
    wholes = [domain.whole for domain in domains]
    return {
        path
        for whole in wholes
        for index in range(len(whole))
        for paths in whole.files_of(index).values()
        for path in paths
    }
