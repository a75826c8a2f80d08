"""Which samples belong to train, val and test."""

from __future__ import annotations

import codecs
import heapq
import json
import random
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PureWindowsPath

from transeg.core.data.listing import IMAGES, find_folder, is_left_by_system
from transeg.core.errors import DataError

SPLITS = ("train", "val", "test")
FOLDERS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
"""Names that subfolders and lists of a split have, and the split."""
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
"""What texts in an encoding begin with."""
RATIO = (0.8, 0.1, 0.1)


def split_by_ratio(groups: Sequence[str], ratio: Sequence[float] = RATIO, seed: int = 0) -> dict[str, list[int]]:
    """Cut samples into train, val and test without cutting a group.

    Args:
        groups: each sample's group.
        ratio: shares of train, val and test, of the number of groups.
        seed: of the shuffle; the result depends on the set of groups, not on their order.

    Returns:
        Indices of the samples by split, ascending. Every split with a share gets a group where there are enough.
    """
    names = sorted(set(groups))
    random.Random(seed).shuffle(names)
    least = 1 if len(names) >= len(SPLITS) else 0
    counts = [max(round(len(names) * share / sum(ratio)), least) if share else 0 for share in ratio]
    counts[0] = len(names) - sum(counts[1:])
    bounds = [0, counts[0], counts[0] + counts[1], len(names)]
    member = {name: split for split, a, b in zip(SPLITS, bounds, bounds[1:], strict=False) for name in names[a:b]}
    return {split: [i for i, group in enumerate(groups) if member[group] == split] for split in SPLITS}


def group_k_fold(groups: Sequence[str], count: int, seed: int = 0) -> list[list[int]]:
    """Cut samples into folds of nearly one size without cutting a group.

    Args:
        groups: each sample's group.
        count: of folds; there are as many as groups where these are fewer, and none where there is one group alone.
        seed: of the order in which groups of one size are dealt out.

    Returns:
        Indices of the samples of each fold, ascending.
    """
    names = sorted(set(groups))
    random.Random(seed).shuffle(names)
    sizes = Counter(groups)
    loads = [(0, fold) for fold in range(min(count, len(names)) if len(names) > 1 else 0)]  # a heap
    member: dict[str, int] = {}
    for name in sorted(names, key=lambda name: -sizes[name]) if loads else ():
        load, member[name] = loads[0]
        heapq.heapreplace(loads, (load + sizes[name], member[name]))
    folds: list[list[int]] = [[] for _ in loads]
    for index, group in enumerate(groups if loads else ()):
        folds[member[group]].append(index)
    return folds


def split_by_lists(stems: Sequence[str], lists: Mapping[str, Sequence[str]], where: str) -> dict[str, list[int]]:
    """Indices by split, from lists of file names with or without extensions, and with or without folders before them.

    Raises:
        DataError: a listed name is not there, or stands in two lists.
    """
    index = {unicodedata.normalize("NFC", stem): i for i, stem in enumerate(stems)}
    taken: dict[str, str] = {}
    result: dict[str, list[int]] = {}
    for split in SPLITS:
        result[split] = []
        for name in lists.get(split, ()):
            stem = next((stem for stem in _meant(name) if stem in index), None)
            if stem is None:
                raise DataError(f"{where} lists {name!r} in {split}, but there is no such image.")
            if taken.setdefault(stem, split) != split:
                raise DataError(f"{where} lists {name!r} in both {taken[stem]} and {split}.")
            result[split].append(index[stem])
    return result


def _meant(name: str) -> Iterator[str]:
    """The samples that a listed name may mean: as it stands, without its ending, without folders, as from Windows."""
    name = unicodedata.normalize("NFC", name.strip())
    yield name
    yield Path(name).stem
    *folders, last = PureWindowsPath(name).parts or ("",)
    for first in range(len(folders) + 1):  # images/patient1/3.png is called patient1_3
        yield "_".join([*folders[first:], PureWindowsPath(last).stem])
        yield "_".join([*folders[first:], last])


def read_lists(path: Path) -> dict[str, list[str]]:
    """Lists of names by split.

    Args:
        path: a JSON file ``{"train": [...], "val": [...], "test": [...]}``; or a folder, as splits are published: with
            ``train.txt`` and its like, a name in each line, or with ``train/images/`` and its like, whose files' names
            count. There, ``validation`` is another word for ``val``.

    Raises:
        DataError: it cannot be read or holds something else.
    """
    if path.is_dir():
        return _lists_in(path)
    try:
        content = json.loads(_text(path))
    except (OSError, ValueError) as error:
        raise DataError(f"The split file {path} cannot be read: {error}.") from error
    good = (
        isinstance(content, dict) and set(content) <= set(SPLITS) and all(isinstance(v, list) for v in content.values())
    )
    if not good:
        raise DataError(f'The split file {path} must be {{"train": [...], "val": [...], "test": [...]}}.')
    return {split: [str(name) for name in names] for split, names in content.items()}


def _text(path: Path) -> str:
    """A text as its first bytes say it is encoded: Windows marks UTF-8, and its older editors write UTF-16.

    Raises:
        OSError: it cannot be read.
        UnicodeError: it is in another encoding.
    """
    content = path.read_bytes()
    marked = next((encoding for mark, encoding in MARKS if content.startswith(mark)), "utf-8")
    return content.decode(marked)


def _lists_in(folder: Path) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    texts = {path.name.lower(): path for path in sorted(folder.iterdir())}
    for name, split in FOLDERS.items():
        text = texts.get(f"{name}.txt")
        images = find_folder(folder, *(f"{name}/{usual}" for usual in IMAGES))
        if text is not None:
            try:
                lines = _text(text).splitlines()
            except (OSError, UnicodeError) as error:
                raise DataError(f"The list {text} cannot be read: {error}; save it as UTF-8.", str(text)) from error
            lists[split] = [line.strip() for line in lines if line.strip()]
        elif images is not None:
            lists[split] = sorted(file.name for file in images.iterdir() if not is_left_by_system(file.name))
    if not lists:
        raise DataError(f"The folder of splits {folder} holds neither train.txt nor train/images/.")
    return lists
