"""Opens every file of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from transeg.core.builders.datasets import (
    build_dataset,
)
from transeg.core.data.splits import SPLITS
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import DataError
from transeg.core.experiment.command_line import parse_dataset
from transeg.core.experiment.completion import complete_dataset
from transeg.core.interfaces import IGNORE, Dataset, Fault
from transeg.core.registry import Registry


def verify_dataset(text: str, assignments: Sequence[str], registry: Registry, console: Console) -> dict[str, Any]:
    """Open every image and mask of a dataset.

    Returns:
        ``dataset``; ``splits``, the number of images in each, by domain; ``images``, their sum; ``faults``, what is
        wrong with which file.
    """
    table = parse_dataset(text, registry, assignments)
    domains = [table["domain"]] if "domain" in table else registry.find("dataset", table["name"]).domains or [None]
    report: dict[str, Any] = {"dataset": text, "splits": {}, "images": 0, "faults": []}
    for domain in domains:
        in_domain = {**table, "domain": domain} if domain else table
        parts = {
            s: build_dataset(complete_dataset({**in_domain, "split": s}, "test", registry), "test", registry)
            for s in (*SPLITS, "all")
        }
        everything = parts.pop("all")
        report["splits"][domain or table["name"]] = {split: len(dataset) for split, dataset in parts.items()}
        report["images"] += len(everything)
        with progress_bar(console, f"checking {domain or table['name']}", len(everything)) as advance:
            report["faults"] += [{"file": f.file, "reason": f.reason} for f in _faults(everything, advance)]
    return report


def _faults(dataset: Dataset, advance: Callable[[], None]) -> Iterator[Fault]:
    yield from dataset.faults
    for index in range(len(dataset)):
        try:
            sample = dataset[index]
        except DataError as error:
            yield Fault(error.file or f"image {index}", str(error))
        else:
            known = sample.mask[sample.mask != IGNORE] if sample.mask is not None else np.zeros(1)
            if known.max(initial=0) >= len(dataset.classes):
                yield Fault(sample.name, f"{sample.name} has the class {known.max()} of {len(dataset.classes)}.")
        advance()
