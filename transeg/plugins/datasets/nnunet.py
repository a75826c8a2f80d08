"""Raw datasets of nnU-Net."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from transeg.core.data.decoded_image import Range
from transeg.core.data.file_dataset import (
    FileDataset,
    Pair,
    attach_records,
    choose_split,
    keep_official_test,
    recorded_lists,
)
from transeg.core.data.images import read_image
from transeg.core.data.listing import files_by_stem, find_folder
from transeg.core.data.splits import RATIO
from transeg.core.data.tiff import said_range
from transeg.core.data.writing import (
    check_announced,
    file_name,
    has_image,
    image_suffix,
    read_records,
    write_records,
    write_together,
)
from transeg.core.errors import DataError
from transeg.core.files import write_json
from transeg.core.interfaces import IGNORE, About, Fault, Sample, Writer, Written

ENDINGS = (".png", ".tif", ".tiff", ".bmp")
"""Of two-dimensional images, as nnU-Net's own readers take them."""
COLOURS = ("R", "G", "B")
SOME_IGNORED = ".some-ignored"
"""A file that is there where some pixels have no label; any process may have written them."""


@dataclass(frozen=True)
class ChannelPair(Pair):
    """A pair whose image is spread over a file for each channel.

    Attributes:
        case: what nnU-Net calls it.
        files: of the channels, in order; one for a colour image.
    """

    case: str = ""
    files: tuple[Path, ...] = ()

    @property
    def pictures(self) -> tuple[Path, ...]:
        return self.files


class NNUNetWriter(Writer):
    """Writes raw datasets of nnU-Net v2 (Isensee et al., 2021).

    Training and validation images go to `imagesTr/` with `labelsTr/`, test images to `imagesTs/`, with `labelsTs/`
    where they have labels. Grey images have one file, colour images, too, others one for each channel.
    """

    def __init__(self, root: Path, about: About) -> None:
        self._root = root
        self._about = about

    def has(self, name: str, split: str) -> bool:
        return has_image(self._root / f"images{_part(split)}", f"{file_name(name)}_0000")

    def add(self, sample: Sample, split: str) -> None:
        check_announced(sample, self._about)
        case, part, channels = file_name(sample.name), _part(split), self._about.channels
        if sample.mask is None and part == "Tr":
            raise DataError(f"{sample.name} has no mask, and nnU-Net trains on labelled images only; write it as test.")
        files = [sample.image] if channels == len(COLOURS) else np.split(sample.image, channels, axis=2)
        ending = image_suffix(files[0])
        together = {}
        if sample.mask is not None:
            unknown = sample.mask == IGNORE
            if unknown.any():
                self._root.mkdir(parents=True, exist_ok=True)
                (self._root / SOME_IGNORED).touch()
            values = np.where(unknown, len(self._about.classes), sample.mask).astype(np.uint8)
            together[self._root / f"labels{part}" / f"{case}{ending}"] = values
        for number in reversed(range(len(files))):
            together[self._root / f"images{part}" / f"{case}_{number:04d}{ending}"] = files[number]
        write_together(together)

    def finish(self, samples: Sequence[Written]) -> None:
        endings = {path.suffix for path in self._root.glob("images*/*") if not path.name.startswith(".")}
        if len(endings) > 1:
            raise DataError(
                f"{self._root} holds images of several types ({', '.join(sorted(endings))}); nnU-Net wants one."
            )
        channels = self._about.channels
        names = COLOURS if channels == len(COLOURS) else [f"channel {number}" for number in range(channels)]
        labels = {name: number for number, name in enumerate(self._about.classes)}
        if (self._root / SOME_IGNORED).exists():
            labels["ignore"] = len(labels)
        description = {
            "name": self._about.name,
            "channel_names": {str(number): name for number, name in enumerate(names)},
            "labels": labels,
            "numTraining": len(list((self._root / "imagesTr").glob("[!.]*_0000.*"))),
            "file_ending": endings.pop() if endings else ".png",
        }
        write_records(self._root, {file_name(sample.name): sample for sample in samples})
        write_json(self._root / "dataset.json", description)


def _part(split: str) -> str:
    return "Ts" if split == "test" else "Tr"


class NNUNet(FileDataset):
    """A raw dataset of nnU-Net v2, `Dataset<number>_<Name>/`, of two-dimensional images (Isensee et al., 2021).

    `dataset.json` says what it holds: `imagesTr/<case>_<channel>.png`, or `.tif` or `.bmp`, with
    `labelsTr/<case>.png`, and test images in `imagesTs/`, which count where `labelsTs/` has their labels. Pixels of the
    label `ignore` are not looked at. Where the toolkit wrote the dataset, its `manifest.json` keeps splits, groups and
    pixel sizes; else a group is a case, and `splits` or `ratio` decides.

    Args:
        root: the folder that holds `dataset.json`.
        split: `train`, `val`, `test` or `all`.
        splits: nnU-Net's `splits_final.json`, whose folds divide the training cases into `train` and `val`.
        fold: which of them.
        ratio: shares of train, val and test where nothing else decides; with labelled test images, of train and val.
        seed: of the shuffle before cases are shared out.
    """

    writer = NNUNetWriter
    reads_pairs_alone = True

    @classmethod
    def is_divided(cls, root: Path, _options: Mapping[str, Any], /) -> bool:
        return recorded_lists(read_records(root)) is not None or find_folder(root, "labelsTs") is not None

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        splits: Path | None = None,
        fold: int = 0,
        ratio: tuple[float, float, float] = RATIO,
        seed: int = 0,
    ) -> None:
        described = _description(root)
        self.classes, self.values = _classes(described["labels"])
        self.channels = len(described["channel_names"])
        ending = str(described["file_ending"])
        if ending not in ENDINGS:
            raise ValueError(f"{root} holds {ending} files; of two-dimensional datasets, {', '.join(ENDINGS)} are read")
        records = read_records(root)
        train, faults = _cases(root, "Tr", ending, self.channels, records)
        test: list[ChannelPair] = []
        if find_folder(root, "labelsTs") is not None:
            test, more = _cases(root, "Ts", ending, self.channels, records)
            faults += more
        if not train and not test:
            raise ValueError(f"{root} has neither imagesTr/ with labelsTr/ nor imagesTs/ with labelsTs/")
        lists = recorded_lists(records) if splits is None else _fold(splits, fold, train, test)
        if lists is None and test:
            chosen = keep_official_test(train, test, split, val_share=ratio[1] / (ratio[0] + ratio[1]), seed=seed)
        else:
            every = [*train, *test]
            chosen = choose_split(every, split, lists=lists, where=str(splits or root), ratio=ratio, seed=seed)
        super().__init__(chosen, faults)

    def pixels(self, pair: Pair) -> np.ndarray:
        assert isinstance(pair, ChannelPair)
        if len(pair.files) == 1:
            return read_image(pair.image, self.channels)
        channels = [read_image(path, 1) for path in pair.files]
        if len({channel.shape for channel in channels}) > 1:
            raise DataError(f"The channels of {pair.image} differ in size.", str(pair.image))
        return np.concatenate(channels, axis=2)

    def ranges_of(self, index: int) -> tuple[Range | None, None]:
        pair = self.pairs[index]
        assert isinstance(pair, ChannelPair)
        said = {said_range(path) for path in pair.files}
        if len(said) > 1:
            raise DataError(f"The channels of {pair.image} say different ranges; save them alike.", str(pair.image))
        return said.pop(), None


def _description(root: Path) -> dict[str, Any]:
    """What ``dataset.json`` says.

    Raises:
        ValueError: there is none, or it is not one of version 2.
    """
    path = root / "dataset.json"
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{root} holds no dataset.json, so it is not a raw dataset of nnU-Net") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if isinstance(described, dict) and "modality" in described:
        raise ValueError(f"{path} is of nnU-Net v1; convert it with nnUNetv2_convert_old_nnUNet_dataset")
    wanted = {"channel_names": dict, "labels": dict, "file_ending": str}
    for key, kind in wanted.items():
        if not isinstance(described, dict) or not isinstance(described.get(key), kind):
            raise ValueError(f"{path} does not say {key} as nnU-Net v2 does")
    return described


def _classes(labels: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[int, int]]:
    """Class names, background first, and the class of every value."""
    for name, value in labels.items():
        if not isinstance(value, int):
            raise ValueError(
                f"the label {name!r} is a region, several values in one; regions overlap, and a mask here has one "
                "class for each pixel"
            )
    names = sorted((name for name in labels if name != "ignore"), key=lambda name: labels[name])
    values = {labels[name]: number for number, name in enumerate(names)}
    if len(names) < 2 or sorted(values) != list(range(len(names))):
        raise ValueError(f"labels of nnU-Net are 0 for the background, 1, 2 and so on, not {sorted(values)}")
    return tuple(names), values | ({labels["ignore"]: IGNORE} if "ignore" in labels else {})


def _cases(
    root: Path, part: str, ending: str, channels: int, records: Mapping[str, Written]
) -> tuple[list[ChannelPair], list[Fault]]:
    """The labelled cases of a part of the dataset, and what does not fit."""
    images, labels = find_folder(root, f"images{part}"), find_folder(root, f"labels{part}")
    if images is None or labels is None:
        return [], []
    files, faults = files_by_stem(images, (ending,))
    by_case: dict[str, dict[int, Path]] = defaultdict(dict)
    for stem, path in files.items():
        match = re.fullmatch(r"(.+)_(\d{4})", stem)
        if match is None:
            faults.append(
                Fault(str(path), f"{path} does not end in the number of its channel, as in case_0000{ending}.")
            )
        else:
            by_case[match[1]][int(match[2])] = path
    masks, more = files_by_stem(labels, (ending,))
    faults += more
    cases = []
    for case, found in by_case.items():
        path = next(iter(found.values()))
        if sorted(found) != list(range(len(found))) or len(found) not in (1, channels):
            faults.append(Fault(str(path), f"{images / case} has {len(found)} files for {channels} channels."))
        if case in masks:
            paths = tuple(found[number] for number in sorted(found))
            cases.append(ChannelPair(paths[0], masks.pop(case), case, called=case, case=case, files=paths))
        else:
            faults.append(Fault(str(path), f"{path} has no labels {case}{ending} in {labels}."))
    faults += [Fault(str(path), f"{path} holds the labels of no image in {images}.") for path in masks.values()]
    return attach_records(cases, [case.case for case in cases], records), faults


def _fold(splits: Path, fold: int, train: Sequence[ChannelPair], test: Sequence[ChannelPair]) -> dict[str, list[str]]:
    """Names by split, of a fold.

    Raises:
        ValueError: there is no such fold in that file.
    """
    names = {case.case: case.name for case in train}
    try:
        folds = json.loads(splits.read_text(encoding="utf-8"))
        listed = {part: [names.get(case, case) for case in folds[fold][part]] for part in ("train", "val")}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{splits} cannot be read as nnU-Net's splits_final.json: {error}") from error
    except IndexError as error:
        raise ValueError(f"{splits} has {len(folds)} folds, so there is no fold {fold}") from error
    return {**listed, "test": [case.name for case in test]}
