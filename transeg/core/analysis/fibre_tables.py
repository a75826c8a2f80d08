"""What is written of measured fibres."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from transeg.core.analysis.csv_files import CsvFiles
from transeg.core.analysis.morphometry import Fibre, Morphometry

SUMMARISED = ("axon_diameter", "fibre_diameter", "myelin_thickness", "g_ratio")
"""Of which the mean and the median are given for each image."""
COLUMNS: dict[str, Callable[[Fibre], Any]] = {
    "number": lambda fibre: fibre.number,
    "centroid_x": lambda fibre: fibre.column,
    "centroid_y": lambda fibre: fibre.row,
    "axon_area_um2": lambda fibre: fibre.axon_area,
    "axon_diameter_um": lambda fibre: fibre.axon_diameter,
    "axon_minor_axis_um": lambda fibre: fibre.axon_minor_axis,
    "axon_perimeter_um": lambda fibre: fibre.axon_perimeter,
    "axon_eccentricity": lambda fibre: fibre.eccentricity,
    "axon_solidity": lambda fibre: fibre.solidity,
    "axon_orientation_deg": lambda fibre: fibre.orientation,
    "myelin_area_um2": lambda fibre: fibre.myelin_area,
    "fibre_area_um2": lambda fibre: fibre.fibre_area,
    "fibre_diameter_um": lambda fibre: fibre.fibre_diameter,
    "fibre_minor_axis_um": lambda fibre: fibre.fibre_minor_axis,
    "myelin_thickness_um": lambda fibre: fibre.myelin_thickness,
    "g_ratio": lambda fibre: fibre.g_ratio,
    "touches_border": lambda fibre: int(fibre.touches_border),
}


class FibreTables(CsvFiles):
    """Writes ``morphometry.csv``, a line for each image, and ``fibres.csv``, a line for each fibre, as images come.

    Args:
        morphometry: how fibres are measured.
        folder: gets both files.
    """

    def __init__(self, morphometry: Morphometry, folder: Path) -> None:
        super().__init__()
        self._morphometry = morphometry
        statistics = [f"{name}_{what}" for name in map(_with_unit, SUMMARISED) for what in ("mean", "median")]
        areas = ["image_area_mm2", "axon_density_per_mm2", "axon_area_fraction", "myelin_area_fraction"]
        counts = ["axon_count", "myelinated_count", "whole_count"]
        self._images = self.begin(
            folder / "morphometry.csv", ["image", *counts, *areas, "myelin_without_axon_um2", *statistics]
        )
        places = ["centroid_x_um", "centroid_y_um"]
        self._fibres = self.begin(folder / "fibres.csv", ["image", *COLUMNS, *places])

    def add(self, image: str, mask: np.ndarray) -> None:
        """Measure the fibres of an image's ``(H, W)`` label map.

        Means and medians are of fibres that lie whole in the image.
        """
        fibres, tissue = self._morphometry(mask)
        height, width = self._morphometry.pixel_size
        for fibre in fibres:
            values = [value(fibre) for value in COLUMNS.values()]
            self._fibres.writerow([image, *map(_cell, [*values, fibre.column * width, fibre.row * height])])
        whole = [fibre for fibre in fibres if not fibre.touches_border]
        area = tissue.area / 1e6
        counts = len(fibres), sum(fibre.myelin_area > 0 for fibre in fibres), len(whole)
        fractions = tissue.axon_area / tissue.area, tissue.myelin_area / tissue.area
        statistics = [
            compute(values) if (values := [v for f in whole if not math.isnan(v := getattr(f, name))]) else math.nan
            for name in SUMMARISED
            for compute in (np.mean, np.median)
        ]
        row = [*counts, area, len(fibres) / area, *fractions, tissue.myelin_without_axon, *map(float, statistics)]
        self._images.writerow([image, *map(_cell, row)])


def _with_unit(name: str) -> str:
    return name if name == "g_ratio" else f"{name}_um"


def _cell(value: float) -> str:
    """Seven digits; '' where nothing is defined."""
    return "" if math.isnan(value) else f"{value:.7g}"
