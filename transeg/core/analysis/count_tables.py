"""What is written of counted objects: tables of what was found, and of how that agrees with the truth."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from transeg.core.analysis import bland_altman
from transeg.core.analysis.agreement import agreement
from transeg.core.analysis.counting import CountedObject, Counting, ObjectMap
from transeg.core.analysis.csv_files import CsvFiles
from transeg.core.analysis.object_quality import UNDEFINED, ObjectQuality, Overlaps
from transeg.core.distributed.collectives import gather_in_order
from transeg.core.files import replacing
from transeg.core.interfaces import IGNORE


class ObjectTables(CsvFiles):
    """Writes ``counts.csv``, a line for each image, and ``objects.csv``, a line for each object, as images come.

    Args:
        counting: how objects are counted.
        folder: gets both files.
        names: of the classes, background first.
    """

    def __init__(self, counting: Counting, folder: Path, names: Sequence[str]) -> None:
        super().__init__()
        self._counting = counting
        self._names = names
        of_classes = [f"count_{name}" for name in names[1:]] if len(names) > 2 else []
        self._counts = self.begin(folder / "counts.csv", ["image", "count", *of_classes, "total_area", "mean_area"])
        self._objects = self.begin(
            folder / "objects.csv", ["image", "number", "class", "area", "centroid_x", "centroid_y"]
        )

    def add(self, image: str, mask: np.ndarray) -> None:
        """Count the objects of an image's ``(H, W)`` label map."""
        found = self._counting(mask)
        counts = Counter(each.label for each in found)
        of_classes = [counts[index] for index in range(1, len(self._names))] if len(self._names) > 2 else []
        total = sum(each.area for each in found)
        self._counts.writerow([image, len(found), *of_classes, total, f"{total / len(found):.2f}" if found else ""])
        for number, each in enumerate(found, start=1):
            place = f"{each.column:.2f}", f"{each.row:.2f}"
            self._objects.writerow([image, number, self._names[each.label], each.area, *place])


class _Counted(NamedTuple):
    """What is found in an image.

    Attributes:
        name: of the image.
        group: likewise.
        true: numbers of its true objects, by class.
        predicted: those of its predicted ones.
        numbered: whether its true objects are.
        quality: how well they are found, all together and, where there are several classes, those of each.
    """

    name: str
    group: str
    true: list[int]
    predicted: list[int]
    numbered: bool
    quality: list[ObjectQuality]


class CountAgreement:
    """Counts predicted objects and true ones, image by image, and says how well single ones are found.

    Args:
        counting: how they are counted; true ones that are numbered are counted by their numbers.
        names: of the classes, background first.
    """

    def __init__(self, counting: Counting, names: Sequence[str]) -> None:
        self._counting = counting
        self._names = names
        self._rows: list[_Counted] = []

    def add(
        self, name: str, group: str, prediction: np.ndarray, truth: np.ndarray, instances: np.ndarray | None
    ) -> None:
        """Count one image.

        Args:
            name: of the sample.
            group: of the sample.
            prediction: ``(H, W)`` label map.
            truth: likewise; where it is IGNORE, nothing counts.
            instances: ``(H, W)`` numbers of the true objects, or None.
        """
        known = np.where(truth == IGNORE, IGNORE, prediction)
        true = self._counting.map_of(truth) if instances is None else self._counting.numbered(instances, truth)
        predicted = self._counting.map_of(known)
        of_true = self._counting(truth) if true is None else true.objects()
        of_predicted = self._counting(known) if predicted is None else predicted.objects()
        counts = self._by_class(of_true), self._by_class(of_predicted)
        self._rows.append(_Counted(name, group, *counts, instances is not None, self._quality(true, predicted)))

    def share(self) -> None:
        """Put together what the ranks have counted, each of its share of the images."""
        self._rows = gather_in_order(self._rows)

    def _quality(self, true: ObjectMap | None, predicted: ObjectMap | None) -> list[ObjectQuality]:
        labels = [None, *(range(1, len(self._names)) if len(self._names) > 2 else [])]
        if true is None or predicted is None:
            return [UNDEFINED for _ in labels]
        overlaps = Overlaps(true, predicted)
        return [overlaps.quality(label) for label in labels]

    def _by_class(self, objects: Sequence[CountedObject]) -> list[int]:
        counts = Counter(each.label for each in objects)
        return [counts[index] for index in range(1, len(self._names))]

    def summary(self) -> dict[str, Any]:
        """How the counts agree, and how well single objects are found.

        Returns:
            ``method`` and ``min_area``; ``numbered``, how many images have numbered true objects; what
            :func:`~transeg.core.analysis.agreement.agreement` says; means of
            :class:`~transeg.core.analysis.object_quality.ObjectQuality` over the images where it is defined (None where
            it is nowhere); and for several classes the same of each in ``classes``.
        """
        (everything, *of_classes) = [
            agreement(*counts) | self._mean_quality(index) for index, counts in enumerate(self._series().values())
        ]
        numbered = sum(row.numbered for row in self._rows)
        result = {"method": self._counting.method, "min_area": self._counting.min_area, "numbered": numbered}
        result |= everything
        if of_classes:
            result["classes"] = dict(zip(self._names[1:], of_classes, strict=True))
        return result

    def _mean_quality(self, index: int) -> dict[str, float | None]:
        columns = zip(*(row.quality[index] for row in self._rows), strict=True)
        defined = [[value for value in column if not math.isnan(value)] for column in columns]
        means = [sum(values) / len(values) if values else None for values in defined]
        return dict(zip(ObjectQuality._fields, means, strict=True))

    def write(self, folder: Path, label: str) -> None:
        """A CSV file with a line for each image, and a Bland-Altman picture, named by the test set's label."""
        series = self._series()
        names = list(series)
        suffixes = ["", *(f"_{name}" for name in names[1:])]
        columns = ["true", "predicted", "error", *ObjectQuality._fields]
        with CsvFiles() as files:
            heads = [f"{column}{suffix}" for suffix in suffixes for column in columns]
            writer = files.begin(folder / f"{label}.csv", ["name", "group", *heads])
            for index, row in enumerate(self._rows):
                cells: list[Any] = []
                for (true, predicted), quality in zip(series.values(), row.quality, strict=True):
                    cells += [true[index], predicted[index], predicted[index] - true[index]]
                    cells += ["" if math.isnan(value) else f"{value:.6f}" for value in quality]
                writer.writerow([row.name, row.group, *cells])
        with replacing(folder / f"{label}.png") as unfinished:
            bland_altman.draw_bland_altman(series, unfinished)

    def _series(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """True and predicted counts ``(images,)``: of all objects, and for several classes of each."""
        true, predicted = (np.array([row[index] for row in self._rows]) for index in (2, 3))
        series = {"objects": (true.sum(1), predicted.sum(1))}
        if len(self._names) > 2:
            series |= {name: (true[:, i], predicted[:, i]) for i, name in enumerate(self._names[1:])}
        return series
