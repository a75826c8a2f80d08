"""How well single objects are found: panoptic quality and the aggregated Jaccard index."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from transeg.core.analysis.counting import ObjectMap


class ObjectQuality(NamedTuple):
    """How well the objects of an image are found; all in [0, 1], NaN where they are not defined.

    Attributes:
        pq: panoptic quality, segmentation quality times recognition quality; NaN without any object, true or predicted.
        sq: segmentation quality, the mean IoU of the pairs; NaN where there is no pair.
        rq: recognition quality, F1 of the pairs; NaN as ``pq`` is.
        aji: aggregated Jaccard index; NaN as ``pq`` is.
    """

    pq: float
    sq: float
    rq: float
    aji: float


UNDEFINED = ObjectQuality(math.nan, math.nan, math.nan, math.nan)


class Overlaps:
    """Which true objects of an image share pixels with which predicted ones.

    Args:
        true: the true objects.
        predicted: the predicted ones, on as many pixels.
    """

    def __init__(self, true: ObjectMap, predicted: ObjectMap) -> None:
        from scipy.sparse import coo_array

        self._true, self._predicted = true, predicted
        both = (true.numbers > 0) & (predicted.numbers > 0)
        places = true.numbers[both] - 1, predicted.numbers[both] - 1
        ones = np.ones(len(places[0]), dtype=np.int64)
        pairs = coo_array((ones, places), (len(true.labels), len(predicted.labels))).tocsr()  # adds up what is repeated
        pairs.sort_indices()
        ordered = pairs.tocoo()
        self._rows, self._columns, self._common = ordered.row, ordered.col, ordered.data

    def quality(self, label: int | None = None) -> ObjectQuality:
        """Quality over the objects of one class, or over all of them, whatever their classes.

        Objects are a pair at an IoU above one half, so that none is in two (arXiv:1801.00868; for nuclei
        arXiv:1812.06499). For the index each true object takes the predicted one of the largest IoU, which several may
        take; what none takes adds its area to the union (doi:10.1109/TMI.2017.2677499).
        """
        of_true = np.ones(len(self._true.labels), bool) if label is None else self._true.labels == label
        of_predicted = np.ones(len(self._predicted.labels), bool) if label is None else self._predicted.labels == label
        objects = int(of_true.sum() + of_predicted.sum())
        if not objects:
            return UNDEFINED
        kept = of_true[self._rows] & of_predicted[self._columns]
        rows, columns, common = self._rows[kept], self._columns[kept], self._common[kept]
        union = self._true.areas[rows] + self._predicted.areas[columns] - common
        iou = common / union

        paired = iou[iou > 0.5]
        sq, rq = float(paired.mean()) if len(paired) else math.nan, 2 * len(paired) / objects

        best = np.lexsort((-iou, rows))
        best = best[np.unique(rows[best], return_index=True)[1]]
        of_true[rows[best]] = of_predicted[columns[best]] = False
        alone = self._true.areas[of_true].sum() + self._predicted.areas[of_predicted].sum()
        aji = float(common[best].sum() / (union[best].sum() + alone))
        return ObjectQuality(sq * rq if len(paired) else 0.0, sq, rq, aji)
