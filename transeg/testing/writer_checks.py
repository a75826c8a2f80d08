"""What every writer of a dataset's layout must do: what it writes, the dataset reads as it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest import SkipTest
from unittest.mock import patch

import numpy as np

from transeg.core.errors import DataError, TransegError
from transeg.core.interfaces import About, Dataset, Sample, Writer, Written
from transeg.testing.subject import ContractError, Subject

CLASSES = ("background", "cell", "wall")
Placed = tuple[str, Sample]
"""A split and a sample in it."""


def drawn_sample(
    name: str, group: str, *, channels: int = 1, seed: int = 0, size: tuple[int, int] = (20, 24)
) -> Sample:
    """A random sample of 8 bits and three classes."""
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (*size, channels), dtype=np.uint8)
    mask = random.integers(0, 3, size).astype(np.uint8)
    mask[0, :3] = (0, 1, 2)
    return Sample(image, mask, name, group, pixel_size=(0.1, 0.25))


def announced(subject: Subject) -> tuple[About, dict[str, str]]:
    """What a writer is told, and the option that reads what it has written."""
    domain = next(iter(subject.component.domains), "")
    chosen = {"domain": domain} if domain not in ("", "*") else {}
    return About(CLASSES, 1, "check", chosen.get("domain", "")), chosen


def _writer(subject: Subject, root: Path) -> Writer:
    writer: Writer = subject.load().writer(root, announced(subject)[0])
    return writer


def _finish(writer: Writer, samples: Sequence[Placed]) -> None:
    writer.finish([Written(sample.name, split, sample.group, sample.pixel_size) for split, sample in samples])


def _read(subject: Subject, root: Path, split: str) -> dict[str, Sample]:
    dataset: Dataset = subject.load()(root, split, **announced(subject)[1])
    return {sample.name: sample for sample in (dataset[index] for index in range(len(dataset)))}


def _expect_same(subject: Subject, read: Sample | None, written: Sample) -> None:
    for name in ("image", "mask", "group"):
        subject.expect(
            read is not None and np.array_equal(getattr(read, name), getattr(written, name)),
            f"the {name} of {written.name!r} that was written",
            "no such sample" if read is None else "another one",
            "Write losslessly (PNG, TIFF), and what the layout cannot say beside it.",
        )


def writer_keeps_samples(subject: Subject) -> None:
    """What it writes, the dataset reads as it was, whatever the names are."""
    root, names = subject.scratch(), ("plain", "a/b", "a_b", "scan 07 (left).tif", "n" * 140)
    splits = ("train", "val", "test", "train", "test")
    samples = [(s, drawn_sample(n, f"rat {s}", seed=i)) for i, (s, n) in enumerate(zip(splits, names, strict=True))]
    writer = _writer(subject, root)
    for split, sample in samples:
        writer.add(sample, split)
    _finish(writer, samples)
    for split in ("train", "val", "test"):
        found = _read(subject, root, split)
        wanted = {sample.name: sample for place, sample in samples if place == split}
        subject.expect(
            set(found) == set(wanted),
            f"{sorted(wanted)} in the split {split}",
            sorted(found),
            "Write names and splits down where the layout changes them.",
        )
        for name, sample in wanted.items():
            _expect_same(subject, found[name], sample)


def writer_goes_on_where_it_was(subject: Subject) -> None:
    """Another writer of the same folder, as after a kill, knows what is there, and goes on."""
    root = subject.scratch()
    samples = [("train", drawn_sample(n, n, seed=i)) for i, n in enumerate(("one", "two"))]
    for split, sample in samples:
        mend = "Look for the file that add() writes last."
        has = _writer(subject, root).has(sample.name, split)
        subject.expect(not has, "has() to be false before add()", "true", mend)
        _writer(subject, root).add(sample, split)
        has = _writer(subject, root).has(sample.name, split)
        subject.expect(has, "has() to be true once a sample is written", "false", mend)
    _finish(_writer(subject, root), samples)
    found = _read(subject, root, "all")
    for _, sample in samples:
        _expect_same(subject, found.get(sample.name), sample)


def writer_works_side_by_side(subject: Subject) -> None:
    """Several processes may write different samples of one folder; one of them finishes it."""
    root = subject.scratch()
    first, second = _writer(subject, root), _writer(subject, root)
    samples = [("train", drawn_sample("one", "a")), ("test", drawn_sample("two", "b"))]
    first.add(samples[0][1], "train")
    second.add(samples[1][1], "test")
    _finish(first, samples)
    for split, sample in samples:
        _expect_same(subject, _read(subject, root, split).get(sample.name), sample)


def writer_refuses_what_was_not_announced(subject: Subject) -> None:
    """A sample of other channels, or with a class that there is not, is a DataError, and nothing of it is written."""
    root = subject.scratch()
    writer, plain = _writer(subject, root), drawn_sample("one", "a")
    for what, sample in (
        ("three channels where one was announced", drawn_sample("one", "a", channels=3)),
        ("the class 7 of 3", replace(plain, mask=np.full(plain.size, 7, np.uint8))),
    ):
        try:
            writer.add(sample, "train")
        except DataError:
            continue
        raise ContractError(f"{subject}: expected a DataError for {what}, found none. Compare it with `about`.")
    left = [path.name for path in root.rglob("*") if path.is_file()]
    subject.expect(not left, "nothing written of what is refused", left, "Check a sample before it is written.")


def writer_leaves_nothing_half(subject: Subject) -> None:
    """Where writing fails, as on a full disk, what is left of a sample does not count as one."""
    root, rename = subject.scratch(), Path.replace
    left: list[bool] = []

    def failing(self: Path, target: Path) -> Path:
        if not left:
            raise OSError("no space left")
        left.pop()
        return rename(self, target)

    files = 0
    with patch.object(Path, "replace", failing):
        while not _writer(subject, root).has("one", "train"):
            left[:] = [True] * files
            try:
                _writer(subject, root).add(drawn_sample("one", "a"), "train")
            except (OSError, TransegError):
                subject.expect(
                    not _writer(subject, root).has("one", "train"),
                    "has() to be false after a write that failed",
                    "true",
                    "Write beside, and rename when it is whole: transeg.core.files.replacing.",
                )
                files += 1
    if not files:
        raise SkipTest("it renames no file, so how a write fails could not be tried")


CHECKS = (
    writer_keeps_samples,
    writer_goes_on_where_it_was,
    writer_works_side_by_side,
    writer_refuses_what_was_not_announced,
    writer_leaves_nothing_half,
)
