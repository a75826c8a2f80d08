"""Pages of stacks and frames of animations as images of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from transeg.core.data.decoding import count_pages
from transeg.core.data.file_dataset import AnyPair
from transeg.core.errors import DataError
from transeg.core.interfaces import Fault

Pages = int | Literal["all"]


def choose_pages(pairs: Sequence[AnyPair], page: Pages) -> tuple[list[AnyPair], list[Fault]]:
    """Images of one page of each file, or of all pages, which are of one group then.

    Args:
        pairs: of files.
        page: which one, from 0; or `all`.

    Returns:
        Pairs whose masks and other files have the same page, or one for all; and what does not fit.
    """
    chosen: list[AnyPair] = []
    faults: list[Fault] = []
    for pair in pairs:
        try:
            chosen += _pages_of(pair, page)
        except DataError as error:
            faults.append(Fault(error.file, str(error)))
    return chosen, faults


def _pages_of(pair: AnyPair, page: Pages) -> Iterator[AnyPair]:
    count = count_pages(pair.image)
    for path in filter(None, (pair.mask, pair.instances, pair.target)):
        _check_beside(path, count_pages(path), pair.image, count, page)
    if page == "all":
        for number in range(count):
            yield replace(pair, page=number, called=f"{pair.name}-{number:04d}" if count > 1 else pair.name)
    elif page < count:
        yield replace(pair, page=page)
    else:
        raise DataError(f"{pair.image} has {count} pages, so there is no page {page}, counted from 0.", str(pair.image))


def _check_beside(path: Path, found: int, image: Path, count: int, page: Pages) -> None:
    """Whether a file has a page for each of an image's, or one where one is chosen."""
    if found != count and not (found == 1 and page != "all"):
        raise DataError(
            f"{image} has {count} pages, but {path} has {found}; give each its own, or choose one with page=NUMBER.",
            str(path),
        )
