"""UniToPatho: patches of colorectal polyps, each with one of six diagnoses."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import yaml

from transeg.core.data.file_dataset import FileDataset, Pair, keep_official_test, mask_values
from transeg.core.data.listing import files_by_stem, find_folder
from transeg.core.errors import DataError, no_such
from transeg.core.interfaces import Dataset, Fault

DIAGNOSES = ("HP", "NORM", "TA.HG", "TA.LG", "TVA.HG", "TVA.LG")
YAML_SPLITS = {"training": "train", "validation": "val", "test": "test"}

Scale = Literal[800, 7000]
Split = Literal["train", "val", "test", "all"]
Labels = str | tuple[str, ...] | None

logger = logging.getLogger("transeg.data")


@dataclass(frozen=True)
class Patch(Pair):
    """A patch, whose name begins with its diagnosis."""

    @property
    def diagnosis(self) -> str:
        """What its folder is called."""
        return self.image.parent.name.upper()

    @property
    def name(self) -> str:
        """Diagnosis and stem."""
        return f"{self.diagnosis}_{self.image.stem}"


class UniToPatho(FileDataset):
    """UniToPatho: 9,536 patches of 292 slides at 20x, without masks (Barbano et al., ICIP 2021, arXiv:2101.09991).

    Its labels are diagnoses of whole patches, so it serves as a target domain; masks of one's own make it the dataset
    `unitopatho-mask`. A sample's name begins with its diagnosis. The slides are divided as published: by
    `unitopath-public-800.yml` where it is there, else by `800/train.csv` and `800/test.csv`. A group is a slide.

    Args:
        root: the folder that holds `800/` and `7000/`, or one of them.
        split: `train`, `val`, `test` or `all`.
        scale: side of the patches in micrometres: 800 (1,812 pixels) or 7000 (15,855 pixels).
        label: one diagnosis or several, out of `HP`, `NORM`, `TA.HG`, `TA.LG`, `TVA.HG` and `TVA.LG`; by default all.
        val_share: of the training slides, kept for validation where there is no YAML file, which names some.
        seed: of the shuffle before they are chosen.
    """

    def __init__(
        self,
        root: Path,
        split: Split,
        *,
        scale: Scale = 800,
        label: Labels = None,
        val_share: float = 0.1,
        seed: int = 0,
    ) -> None:
        patches = _patches(root, split, scale, val_share, seed)
        wanted = _wanted(label)
        super().__init__([patch for patch in patches if patch.diagnosis in wanted])


class UniToPathoMask(FileDataset):
    """Patches of UniToPatho with masks of one's own, which lie in a parallel folder: `800/TA.LG/<name of the patch>`.

    Patches without a mask are left out; the others are divided as UniToPatho is.

    Args:
        root: the folder of masks.
        split: `train`, `val`, `test` or `all`.
        images: the folder of UniToPatho; by default `unitopatho` beside that of the masks.
        scale: side of the patches in micrometres: 800 (1,812 pixels) or 7000 (15,855 pixels).
        label: one diagnosis or several, out of `HP`, `NORM`, `TA.HG`, `TA.LG`, `TVA.HG` and `TVA.LG`; by default all.
        classes: names of the classes, background first.
        values: pixel values in the masks that stand for the classes, in the same order; by default 0, 1, 2, ... for
            several classes, and half of the range for one.
        ignore: pixel value in the masks of what is unknown: neither losses nor metrics look there.
        val_share: of the training slides, kept for validation where there is no YAML file, which names some.
        seed: of the shuffle before they are chosen.
    """

    def __init__(
        self,
        root: Path,
        split: Split,
        *,
        images: Path | None = None,
        scale: Scale = 800,
        label: Labels = None,
        classes: tuple[str, ...] = Dataset.classes,
        values: tuple[int, ...] | None = None,
        ignore: int | None = None,
        val_share: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.values = mask_values(classes, values, ignore)
        self.classes = classes
        tree = images or root.parent / "unitopatho"
        if not tree.is_dir():
            raise ValueError(f"the images are not in {tree}; say where they are with the option images")
        base = find_folder(root, str(scale)) or root
        masks: dict[tuple[str, str], Path] = {}
        faults: list[Fault] = []
        for diagnosis in _wanted(label):
            if (folder := find_folder(base, diagnosis)) is not None:
                found, more = files_by_stem(folder)
                masks |= {(diagnosis, stem): path for stem, path in found.items()}
                faults += more
        if not masks:
            raise ValueError(f"{base} holds no mask in folders such as TA.LG/")
        patches = {
            (patch.diagnosis, patch.image.stem): patch for patch in _patches(tree, split, scale, val_share, seed)
        }
        if split == "all":
            strays = [masks[key] for key in masks if key not in patches]
            faults += [Fault(str(path), f"{path} is the mask of no patch in {tree}.") for path in strays]
        super().__init__([replace(patches[key], mask=masks[key]) for key in patches if key in masks], faults)


def _wanted(label: Labels) -> tuple[str, ...]:
    wanted = (label,) if isinstance(label, str) else label or DIAGNOSES
    for diagnosis in wanted:
        if diagnosis not in DIAGNOSES:
            raise ValueError(no_such("label", diagnosis, DIAGNOSES))
    return wanted


def _patches(root: Path, split: Split, scale: Scale, val_share: float, seed: int) -> list[Patch]:
    """The patches of a split, of all diagnoses: which slides validate does not depend on the chosen ones."""
    folder = find_folder(root, str(scale), f"unitopath-public/{scale}")
    if folder is None:
        raise ValueError(f"{root} does not have the folder {scale}/")
    name = f"unitopath-public-{scale}.yml"
    description = next((path for path in (folder / name, folder.parent / name) if path.is_file()), None)
    if description is not None:
        lists = _by_yaml(description)
    elif (folder / "train.csv").is_file():
        lists = {part: _by_csv(folder / f"{part}.csv") for part in ("train", "test")}
    else:
        raise ValueError(f"{folder} has neither {name} nor train.csv, which say which slides are for tests")
    there = {part: _present(folder, names) for part, names in lists.items()}
    if description is None:
        return keep_official_test(there["train"], there["test"], split, val_share=val_share, seed=seed)
    return [patch for part, patches in there.items() if split in (part, "all") for patch in patches]


def _present(folder: Path, names: Sequence[str]) -> list[Patch]:
    """Those patches out of a list that are there: few have room for all 275 GB."""
    places = [name.rpartition("/") for name in names]
    inside = {place: find_folder(folder, place) or folder / place for place in {place for place, _, _ in places}}
    paths = [inside[place] / name for place, _, name in places]
    present = [Patch(path, None, slide_of(path.name)) for path in paths if path.is_file()]
    if len(present) < len(paths):
        logger.warning("%d of %d listed patches are not in %s.", len(paths) - len(present), len(paths), folder)
    return present


def slide_of(name: str) -> str:
    """The slide that a patch was cut from: what its file's name has before `.ndpi`."""
    return name.partition(".ndpi")[0]


def _by_yaml(path: Path) -> dict[str, list[str]]:
    """Places of patches by split, out of a description in the format of the DeepHealth toolkit."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where libyaml is there
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
        places = [str(image["location"]) for image in content["images"]]
        split: Mapping[str, Sequence[int]] = content["split"]
        return {ours: [places[index] for index in split.get(theirs, ())] for theirs, ours in YAML_SPLITS.items()}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, IndexError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise DataError(f"{path} is not a description of the patches and their split ({reason}).", str(path)) from error


def _by_csv(path: Path) -> list[str]:
    """Places of the patches that a table lists."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [f"{row['top_label_name']}/{row['image_id']}" for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, KeyError) as error:
        reason = f"it has no column {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path} does not list patches: {reason}.", str(path)) from error
