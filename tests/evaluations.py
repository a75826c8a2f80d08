"""Run folders as evaluations leave them, without any training, and the lines of their files."""

import csv

import numpy as np


def evaluated(run, label="kvasir", names=None, groups=None, **columns):
    """A run folder with the CSV file of a test set."""
    folder = run / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    count = len(next(iter(columns.values())))
    with (folder / f"{label}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "group", *columns])
        names = names or [f"image{index}" for index in range(count)]
        groups = groups or [f"video{index // 4}" for index in range(count)]
        for name, group, *values in zip(names, groups, *columns.values(), strict=True):
            writer.writerow([name, group, *("" if np.isnan(value) else f"{value:.6f}" for value in values)])
    return run


def read_rows(path):
    """The lines of a CSV file, each as a dict of texts."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
