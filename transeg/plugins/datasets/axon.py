"""Axons and their myelin in electron microscopy, in BIDS."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np

from transeg.core.data.file_dataset import FileDataset, Pair, attach_records, choose_split, recorded_lists
from transeg.core.data.images import EXTENSIONS, read_binary_mask, read_grey
from transeg.core.data.listing import find_folder, is_left_by_system, natural_sort_key
from transeg.core.data.splits import RATIO, read_lists
from transeg.core.data.writing import (
    check_announced,
    image_suffix,
    read_about,
    read_records,
    write_about,
    write_records,
    write_table,
    write_together,
)
from transeg.core.errors import DataError
from transeg.core.files import write_json
from transeg.core.interfaces import IGNORE, About, Fault, Sample, Writer, Written

CLASSES = ("background", "myelin", "axon")
GREYS = np.array([0, 127, 255], np.uint8)
"""What stands for the classes in a mask; some masks have 128."""
LABELS = Path("derivatives", "labels")
PLACES = ("micr", "microscopy")
"""Folders of images; the second in older trees."""
MICROMETRES = {"mm": 1000.0, "um": 1.0, "µm": 1.0, "μm": 1.0, "nm": 0.001}
LEGACY_SIZE = "pixel_size_in_micrometer.txt"

logger = logging.getLogger("transeg.data")
_said: set[Path] = set()


@dataclass(frozen=True)
class Fibres(Pair):
    """An image whose axons and myelin may have masks of their own.

    Attributes:
        axon: the mask of axons, where :attr:`mask` is that of myelin alone.
    """

    axon: Path | None = None


class AxonWriter(Writer):
    """Writes BIDS microscopy: images with sidecars for the pixel size, and three masks each in `derivatives/labels/`.

    Args:
        root: the tree, which may hold images of the other domain.
        about: its samples; their classes are background, myelin and axon.
    """

    def __init__(self, root: Path, about: About) -> None:
        if about.domain not in Axon.domains:
            raise ValueError(
                f"images in BIDS are called {' or '.join(Axon.domains)}; say axon:{Axon.domains[0]}:FOLDER"
            )
        if len(about.classes) != len(CLASSES):
            raise ValueError(f"this layout holds {', '.join(CLASSES)}, not {', '.join(about.classes)}")
        self._root = root
        self._about = about

    def has(self, name: str, split: str) -> bool:
        stems = (escape(name), f"sub-*_sample-{_label(name)}_{self._about.domain}")
        return any(any(self._root.glob(f"sub-*/{PLACES[0]}/{stem}.{e}")) for stem in stems for e in ("png", "tif"))

    def add(self, sample: Sample, split: str) -> None:
        check_announced(sample, self._about)
        stem = self._stem(sample.name, sample.group)
        place = Path(stem.partition("_")[0], PLACES[0])
        files = {}
        if sample.mask is not None:
            if (sample.mask == IGNORE).any():
                raise DataError(f"{sample.name} has pixels without a label, and masks of axons have no value for that.")
            masks = {
                "axon": np.where(sample.mask == 2, 255, 0),
                "myelin": np.where(sample.mask == 1, 255, 0),
                "axonmyelin": GREYS[sample.mask],
            }
            for what, pixels in masks.items():
                files[self._root / LABELS / place / f"{stem}_seg-{what}-manual.png"] = pixels.astype(np.uint8)
        if sample.pixel_size is not None:
            sidecar = {"PixelSize": list(sample.pixel_size), "PixelSizeUnits": "um"}
            write_json(self._root / place / f"{stem}.json", sidecar)
        write_together({**files, self._root / place / f"{stem}{image_suffix(sample.image)}": sample.image})

    def finish(self, samples: Sequence[Written]) -> None:
        root = self._root
        write_records(root, {self._stem(sample.name, sample.group): sample for sample in samples})
        write_about(root, self._about)
        described = {"Name": self._about.name, "BIDSVersion": "1.7.0"}
        write_json(root / "dataset_description.json", described)
        write_json(
            root / LABELS / "dataset_description.json",
            {**described, "Name": f"{self._about.name} labels", "GeneratedBy": [{"Name": "transeg"}]},
        )
        stems = list(read_records(root))
        people = sorted({stem.partition("_")[0] for stem in stems}, key=natural_sort_key)
        write_table(root / "participants.tsv", ["participant_id"], [[person] for person in people])
        tissue = sorted({(_entity(stem, "sample"), stem.partition("_")[0], "tissue") for stem in stems})
        write_table(root / "samples.tsv", ["sample_id", "participant_id", "sample_type"], tissue)

    def _stem(self, name: str, group: str) -> str:
        """The stem of a sample's files: its name where that is one in BIDS."""
        domain = self._about.domain
        named = re.fullmatch(rf"(sub-[0-9A-Za-z]+)(_[0-9a-z]+-[0-9A-Za-z]+)*_{domain}", name)
        if named is not None and named[1] == group:
            return name
        return f"sub-{_label(group.removeprefix('sub-'))}_sample-{_label(name)}_{domain}"


class Axon(FileDataset):
    """Axons and myelin in scanning (SEM) or transmission (TEM) electron microscopy, as AxonDeepSeg learns from them
    (Zaimi et al., 2018): data_axondeepseg_sem, 10 images of rats, data_axondeepseg_tem, 158 of mice, or one's own.

    BIDS microscopy: `sub-<subject>/micr/*_SEM.png`, or `_TEM`, with a mask `*_seg-axonmyelin-manual.png` each in
    `derivatives/labels/` (black, grey and white are background, myelin and axon), or with masks `_seg-axon-manual` and
    `_seg-myelin-manual`. Pixel sizes come from `PixelSize` in the JSON files of images, subjects or the whole.
    AxonDeepSeg's old layout, too: folders with `image.png`, `mask.png` and `pixel_size_in_micrometer.txt`.

    Only images with labels count where there are any. A group is a subject.

    Args:
        root: the folder of the subjects.
        split: `train`, `val`, `test` or `all`.
        domain: `SEM` or `TEM`.
        unlabelled: take images without labels, too, and use no labels: for a domain that is to be translated to.
        channels: of the images.
        splits: a published split: a JSON file `{"train": [...], "val": [...], "test": [...]}` of subjects or of images,
            or a folder with `train.txt` and its like.
        ratio: shares of train, val and test, of the subjects, where nothing else decides.
        seed: of the shuffle before subjects are shared out.
    """

    classes = CLASSES
    domains = ("SEM", "TEM")
    writer = AxonWriter
    channels = 1
    reads_pairs_alone = True

    @classmethod
    def is_divided(cls, root: Path, _options: Mapping[str, Any], /) -> bool:
        return recorded_lists(read_records(root)) is not None

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        domain: Literal["SEM", "TEM"] = "SEM",
        unlabelled: bool = False,
        channels: int | None = None,
        splits: Path | None = None,
        ratio: tuple[float, float, float] = RATIO,
        seed: int = 0,
    ) -> None:
        about = read_about(root)
        self.channels = channels or (1 if about is None else about.channels)
        found, faults = _in_bids(root, domain)
        if not found:
            found = _in_folders(root)
        if not found:
            raise ValueError(f"{root} holds no sub-*/micr/*_{domain}.png, nor folders with image.png")
        labelled = [pair for pair in found if pair.mask is not None]
        if unlabelled or not labelled:
            pairs = [Fibres(p.image, None, p.group, called=p.called, pixel_size=p.pixel_size) for p in found]
        else:
            pairs = labelled
            _say_left_out(root, len(found) - len(labelled), len(found))
        records = read_records(root)
        stems = [pair.name for pair in pairs]
        pairs = attach_records(pairs, stems, records)
        lists = recorded_lists({stem: records[stem] for stem in stems if stem in records})
        if splits is not None:
            lists = _of_images(read_lists(splits), pairs)
        super().__init__(
            choose_split(pairs, split, lists=lists, where=str(splits or root), ratio=ratio, seed=seed), faults
        )

    def labels(self, pair: Pair, size: tuple[int, int]) -> tuple[np.ndarray | None, None]:
        assert isinstance(pair, Fibres)
        if pair.mask is None:
            return None, None
        if pair.axon is None:
            return _classes(pair.mask), None
        myelin, axon = read_binary_mask(pair.mask), read_binary_mask(pair.axon)
        if myelin.shape != axon.shape:
            raise DataError(f"{pair.mask} and {pair.axon} differ in size.", str(pair.mask))
        return np.where(axon > 0, np.uint8(2), myelin), None


def _classes(path: Path) -> np.ndarray:
    """The class whose grey is nearest, for each pixel of a mask; other greys are said once for a folder."""
    values = read_grey(path)
    if values.dtype != np.uint8 or 0 < values.max(initial=0) <= len(CLASSES) - 1:
        raise DataError(
            f"{path} is not a mask of 8 bits in which 0, 127 and 255 are {', '.join(CLASSES)}; "
            f"its values are of type {values.dtype}, up to {values.max(initial=0)}.",
            str(path),
        )
    stray = sorted(set(np.unique(values).tolist()) - {0, 127, 128, 255})
    if stray and path.parent not in _said:
        _said.add(path.parent)
        logger.warning("%s has the greys %s; they count as the nearest of 0, 127 and 255.", path, stray[:5])
    return np.digitize(values, (64, 192)).astype(np.uint8)


def _in_bids(root: Path, domain: str) -> tuple[list[Fibres], list[Fault]]:
    """Images of a domain, with their masks and pixel sizes."""
    labels = find_folder(root, str(LABELS.as_posix())) or root / LABELS
    files = (path for path in labels.rglob("*.*") if not path.parent.name.startswith("."))
    masks = {path.stem: path for path in files if path.suffix.lower() in EXTENSIONS}
    pairs, faults = [], []
    for path in _images(root):
        stem = path.name.partition(".")[0]
        if path.suffix.lower() not in EXTENSIONS or not stem.endswith(f"_{domain}"):
            continue
        both, axon, myelin = (masks.get(f"{stem}_seg-{what}-manual") for what in ("axonmyelin", "axon", "myelin"))
        if both is None and (axon is None) != (myelin is None):
            faults.append(Fault(str(path), f"{path} has a mask of axons or of myelin, but not both."))
        apart = both is None and axon is not None and myelin is not None
        size = None
        try:
            size = _pixel_size(path, root, stem)
        except DataError as error:
            faults.append(Fault(error.file, str(error)))
        subject = path.relative_to(root).parts[0]
        mask, axon = (myelin, axon) if apart else (both, None)
        pairs.append(Fibres(path, mask, subject, called=stem, pixel_size=size, axon=axon))
    return pairs, faults


def _images(root: Path) -> list[Path]:
    sessions = [*root.glob("[sS][uU][bB]-*"), *root.glob("[sS][uU][bB]-*/[sS][eE][sS]-*")]
    places = [place for session in sessions for name in PLACES if (place := find_folder(session, name))]
    found = [path for place in places for path in place.glob("*.*") if not is_left_by_system(path.name)]
    return sorted(found, key=lambda path: natural_sort_key(str(path.relative_to(root))))


def _in_folders(root: Path) -> list[Fibres]:
    """Images in AxonDeepSeg's old layout, a folder for each."""
    pairs = []
    for image in sorted(root.glob("*/image.png"), key=lambda path: natural_sort_key(path.parent.name)):
        folder = image.parent
        mask, size = folder / "mask.png", folder / LEGACY_SIZE
        micrometres = float(size.read_text(encoding="utf-8")) if size.is_file() else None
        pairs.append(
            Fibres(
                image,
                mask if mask.is_file() else None,
                folder.name,
                called=folder.name,
                pixel_size=None if micrometres is None else (micrometres, micrometres),
            )
        )
    return pairs


def _pixel_size(image: Path, root: Path, stem: str) -> tuple[float, float] | None:
    """Height and width of a pixel in micrometres, from the JSON files that speak of an image; the nearest counts.

    Raises:
        DataError: one cannot be read.
    """
    entities = set(stem.split("_"))
    kind = stem.rpartition("_")[2]
    folders = [root, *reversed(image.relative_to(root).parents[:-1])]
    said: dict[str, Any] = {}
    source = image
    for folder in folders:
        sidecars = [p for p in (root / folder).glob(f"*{kind}.json") if set(p.stem.split("_")) <= entities]
        for path in sorted(sidecars, key=lambda path: path.stem.count("_")):
            content = _json(path)
            source = path if "PixelSize" in content else source
            said |= content
    size = said.get("PixelSize")
    if size is None:
        return None
    try:
        height, width = (float(side) for side in (size if isinstance(size, list) else [size, size])[:2])
        factor = MICROMETRES[said["PixelSizeUnits"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{source} does not say PixelSize as [height, width] with PixelSizeUnits of mm, um or nm.", str(source)
        ) from error
    if not (height > 0 and width > 0):
        raise DataError(f"{source} says a PixelSize of {size}.", str(source))
    return height * factor, width * factor


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.", str(path)) from error
    return content if isinstance(content, dict) else {}


def _of_images(lists: Mapping[str, Sequence[str]], pairs: Iterable[Fibres]) -> dict[str, list[str]]:
    """Lists of images, where subjects stand for theirs; of other domains' subjects nothing is left."""
    images: dict[str, list[str]] = {}
    for pair in pairs:
        images.setdefault(pair.group, []).append(pair.name)
    return {
        split: [
            image
            for name in names
            for image in images.get(name, [] if re.fullmatch(r"sub-[0-9A-Za-z]+", name) else [name])
        ]
        for split, names in lists.items()
    }


def _say_left_out(root: Path, count: int, of: int) -> None:
    if count and root not in _said:
        _said.add(root)
        logger.warning("%s: %d of %d images have no labels and are left out (see unlabelled).", root, count, of)


def _label(text: str) -> str:
    """A BIDS label: letters and digits, another for every text."""
    plain = re.sub(r"[^0-9A-Za-z]", "", text)[:60]
    return plain if plain == text else plain + hashlib.sha256(text.encode()).hexdigest()[:10]


def _entity(stem: str, key: str) -> str:
    """``sample-1`` of ``sub-1_sample-1_SEM``."""
    return next((part for part in stem.split("_") if part.startswith(f"{key}-")), f"{key}-none")
