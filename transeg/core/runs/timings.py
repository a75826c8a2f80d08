"""Notes where the seconds of a run go: ``times.json``, by part of the run and by what it does there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from transeg.core.distributed.collectives import rank_and_world_size
from transeg.core.files import read_json, write_json
from transeg.core.runs.run_folder import RunFolder


def add_seconds(run: RunFolder, part: RunFolder, seconds: Mapping[str, float]) -> None:
    """Add seconds to those that were noted before.

    An interrupted run's seconds stay, and what a resumed one does again is added: this is what the result has cost.

    Args:
        run: whose file it is.
        part: the run itself, or one of its trainings.
        seconds: by what they were spent on.
    """
    if rank_and_world_size()[0] != 0:
        return
    table = read_json(run.times) if run.times.exists() else {}
    spent = table.setdefault(part.path.relative_to(run.path).as_posix(), {})
    for what, value in seconds.items():
        spent[what] = spent.get(what, 0.0) + value
    write_json(run.times, table)


def copy_seconds(
    other: RunFolder, other_part: RunFolder, run: RunFolder, part: RunFolder, activities: Sequence[str]
) -> None:
    """Note as a training's seconds those of another run, whose training it has taken over: what the result has cost.

    Args:
        other: the other run.
        other_part: its training.
        run: whose file is written.
        part: its training.
        activities: what they were spent on; the rest is left as it is.
    """
    spent = read_json(other.times) if other.times.exists() else {}
    spent = spent.get(other_part.path.relative_to(other.path).as_posix(), {})
    table = read_json(run.times) if run.times.exists() else {}
    own = table.setdefault(part.path.relative_to(run.path).as_posix(), {})
    own.update({what: spent[what] for what in activities if what in spent})
    write_json(run.times, table)


@contextmanager
def time_step(run: RunFolder, part: RunFolder, what: str) -> Iterator[None]:
    """Note how long the block takes, however it ends; see :func:`add_seconds`."""
    begin = time.perf_counter()
    try:
        yield
    finally:
        add_seconds(run, part, {what: time.perf_counter() - begin})
