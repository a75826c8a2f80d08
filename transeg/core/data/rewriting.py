"""Datasets written split by split, as they are or each sample changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext

from rich.console import Console

from transeg.core.distributed.collectives import all_gather, broadcast_from_first, rank_and_world_size
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import DataError, Failures
from transeg.core.interfaces import Dataset, Sample, Writer, Written


def write_splits(
    parts: Mapping[str, Dataset],
    writer: Writer,
    console: Console,
    title: str,
    change: Callable[[Sample, str], Sample] = lambda sample, _split: sample,
    failures: Failures | None = None,
) -> list[Written]:
    """Write every sample of a dataset.

    What is there already stays, so that what was interrupted goes on. Of several processes each writes its share; one
    of them finishes what is written.

    Args:
        parts: the dataset's samples by split.
        writer: takes them.
        console: for progress.
        title: of the progress.
        change: what is done to a sample of a split before it is written; its name, group and size of pixels stay.
        failures: get the samples of all processes that cannot be read, and the others are written all the same; None
            to stop at the first.

    Returns:
        What has been written, by all processes.

    Raises:
        DataError: a sample cannot be read, or the layout cannot hold it.
    """
    rank, ranks = rank_and_world_size()
    written: list[Written] = []
    places: dict[str, str] = {}
    with progress_bar(console, title, sum(map(len, parts.values()))) as advance:
        for split, dataset in parts.items():
            for index in range(rank, len(dataset), ranks):
                with nullcontext() if failures is None else failures.collect():
                    sample = dataset[index]
                    if not writer.keeps_splits_apart:
                        _check_name(sample.name, split, places)
                    if not writer.has(sample.name, split):
                        writer.add(change(sample, split), split)
                    written.append(Written(sample.name, split, sample.group, sample.pixel_size))
                advance()
        everything = all_gather(written)
        if not writer.keeps_splits_apart:
            places = {}
            for each in everything:
                _check_name(each.name, each.split, places)
        if failures is not None:
            failures.reasons = all_gather(failures.reasons)
        broadcast_from_first(lambda: writer.finish(everything))
    return everything


def _check_name(name: str, split: str, places: dict[str, str]) -> None:
    """Whether a sample has its name for itself; ``places`` are the splits of those that were looked at before.

    Raises:
        DataError: one of another split has it, too, and would count as this one, written already.
    """
    if places.setdefault(name, split) != split:
        raise DataError(
            f"Two images are called {name}, one in {places[name]} and one in {split}, and this layout has room for one "
            "of them; rename the other."
        )
