"""Measures myelinated fibres in a label map: diameters, g-ratio, shape. docs/decisions/morphometry.md says why so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from transeg.core.analysis.counting import NEIGHBOURS
from transeg.core.errors import UsageError
from transeg.core.optional_packages import require


@dataclass(frozen=True, slots=True)
class Fibre:
    """An axon, and the myelin that belongs to it; lengths in micrometres.

    Attributes:
        number: of the axon in its image, from 1 on.
        row: of the axon's centroid in pixels; 0 is the middle of the first row.
        column: likewise.
        axon_area: in square micrometres.
        axon_diameter: of the circle of that area.
        axon_minor_axis: of the ellipse with the axon's second moments; a fibre that is cut at a slant keeps it.
        axon_perimeter: see :func:`perimeters`.
        eccentricity: of that ellipse.
        solidity: share of the axon in its convex hull.
        orientation: of the ellipse's long axis, in degrees against the x axis, counter-clockwise, in (-90, 90].
        myelin_area: in square micrometres; 0 for an axon without myelin.
        fibre_area: of axon and myelin.
        fibre_diameter: of the circle of that area; NaN, as all that follows, for an axon without myelin.
        fibre_minor_axis: as the axon's.
        myelin_thickness: half of what the two diameters differ by.
        g_ratio: axon diameter by fibre diameter.
        touches_border: whether axon or myelin reach the image's border, so that more of them may lie beyond.
    """

    number: int
    row: float
    column: float
    axon_area: float
    axon_diameter: float
    axon_minor_axis: float
    axon_perimeter: float
    eccentricity: float
    solidity: float
    orientation: float
    myelin_area: float
    fibre_area: float
    fibre_diameter: float
    fibre_minor_axis: float
    myelin_thickness: float
    g_ratio: float
    touches_border: bool


@dataclass(frozen=True, slots=True)
class TissueMeasurements:
    """What there is to say of an image as a whole, areas in square micrometres."""

    area: float
    axon_area: float
    myelin_area: float
    myelin_without_axon: float


@dataclass(frozen=True)
class Morphometry:
    """How fibres are measured.

    Attributes:
        axon: class of axons.
        myelin: class of myelin.
        pixel_size: height and width of a pixel in micrometres.

    Raises:
        UsageError: the package that it takes is not installed.
    """

    axon: int
    myelin: int
    pixel_size: tuple[float, float]

    def __post_init__(self) -> None:
        require("skimage", "watershed", "--morphometry")

    def __call__(self, mask: np.ndarray) -> tuple[list[Fibre], TissueMeasurements]:
        """The fibres of an ``(H, W)`` label map, and its areas."""
        from scipy.ndimage import label
        from skimage.measure import regionprops

        pixel = math.prod(self.pixel_size)
        axons, count = label(mask == self.axon, NEIGHBOURS)
        fibres = self.assigned(axons, mask == self.myelin)
        around = np.unique(np.concatenate([fibres[0], fibres[-1], fibres[:, 0], fibres[:, -1]]))
        perimeter = perimeters(axons, count, self.pixel_size)
        whole = {region.label: region for region in regionprops(fibres, spacing=self.pixel_size)}
        found = [
            self._fibre(region, whole[region.label], perimeter[region.label - 1], region.label in around)
            for region in regionprops(axons, spacing=self.pixel_size)
        ]
        myelin = (mask == self.myelin).sum()
        lonely = (mask == self.myelin) & (fibres == 0)
        areas = (float(pixels * pixel) for pixels in (mask.size, (axons > 0).sum(), myelin, lonely.sum()))
        return found, TissueMeasurements(*areas)

    def assigned(self, axons: np.ndarray, myelin: np.ndarray) -> np.ndarray:
        """Numbers of fibres: the axons', spread over the myelin around them.

        Touching fibres are parted where they are narrow, by a watershed on the distance to what is neither axon nor
        myelin, with the axons as its markers (Zaimi et al., "AxonDeepSeg", doi:10.1038/s41598-018-22181-4).

        Args:
            axons: ``(H, W)`` numbers, 0 where there is none.
            myelin: ``(H, W)`` bool; what no axon is connected with stays 0.
        """
        from scipy.ndimage import distance_transform_edt
        from skimage.segmentation import watershed

        either = (axons > 0) | myelin
        if either.all():  # nothing to be far from, so only the distance to axons can decide
            return watershed(distance_transform_edt(axons == 0, self.pixel_size), axons, connectivity=NEIGHBOURS)
        distance = distance_transform_edt(either, self.pixel_size)
        return watershed(-distance, axons, connectivity=NEIGHBOURS, mask=either)

    def _fibre(self, axon: Any, fibre: Any, perimeter: float, touches: bool) -> Fibre:
        myelin = float(fibre.area - axon.area)
        bare = fibre.num_pixels == axon.num_pixels
        inner, outer = (2 * math.sqrt(area / math.pi) for area in (axon.area, math.nan if bare else fibre.area))
        row, column = axon.centroid
        height, width = self.pixel_size
        angle = math.degrees(math.atan2(-math.cos(axon.orientation), math.sin(axon.orientation)))
        return Fibre(
            number=axon.label,
            row=row / height,
            column=column / width,
            axon_area=float(axon.area),
            axon_diameter=inner,
            axon_minor_axis=float(axon.axis_minor_length),
            axon_perimeter=float(perimeter),
            eccentricity=float(axon.eccentricity),
            solidity=float(axon.solidity),
            orientation=90 - (90 - angle) % 180,
            myelin_area=0.0 if bare else myelin,
            fibre_area=float(fibre.area),
            fibre_diameter=outer,
            fibre_minor_axis=math.nan if bare else float(fibre.axis_minor_length),
            myelin_thickness=(outer - inner) / 2,
            g_ratio=inner / outer,
            touches_border=touches,
        )


def perimeters(numbers: np.ndarray, count: int, pixel_size: tuple[float, float]) -> np.ndarray:
    """Lengths of outlines, holes included, by Crofton's formula with lines in four directions.

    Half the integral, over all directions of parallel lines, of crossings times the lines' distance; each direction
    stands for the angles that are nearest to it, so that pixels need not be square (Ohser & Muecklich, "Statistical
    Analysis of Microstructures in Materials Science", 2000).

    Args:
        numbers: ``(H, W)`` numbers 1 to count, 0 where there is none; outside of it is none.
        count: of regions.
        pixel_size: height and width of a pixel.

    Returns:
        ``(count,)`` in the unit of the pixel size.
    """
    height, width = pixel_size
    padded = np.pad(numbers, 1)
    slope = math.atan2(height, width)
    apart = height * width / math.hypot(height, width)
    directions = (
        (padded[:, :-1], padded[:, 1:], slope, height),
        (padded[:-1], padded[1:], math.pi / 2 - slope, width),
        (padded[:-1, :-1], padded[1:, 1:], math.pi / 4, apart),
        (padded[:-1, 1:], padded[1:, :-1], math.pi / 4, apart),
    )
    total = np.zeros(count + 1)
    for first, second, angle, distance in directions:
        crossed = first != second
        crossings = sum(np.bincount(side[crossed], minlength=count + 1) for side in (first, second))
        total += angle * distance * crossings / 2
    return total[1:]


@dataclass(frozen=True)
class MorphometryOptions:
    """What a user says of `--morphometry`.

    Attributes:
        pixel_size: height and width of a pixel in micrometres.
        axon_class: name of the class of axons.
        myelin_class: likewise.
    """

    pixel_size: tuple[float, float]
    axon_class: str | None = None
    myelin_class: str | None = None

    def of(self, names: Sequence[str]) -> Morphometry:
        """How fibres are measured where the classes have these names, background first.

        Raises:
            UsageError: there are no such classes.
        """
        found = []
        for usual, wanted in (("axon", self.axon_class), ("myelin", self.myelin_class)):
            name = wanted or usual
            if name not in names[1:]:
                raise UsageError(
                    f"--morphometry: there is no class {name}, but {', '.join(names[1:])}; "
                    f"say which it is with --{usual}-class NAME."
                )
            found.append(names.index(name))
        axon, myelin = found
        if axon == myelin:
            raise UsageError(f"--morphometry: {names[axon]} cannot be both axon and myelin.")
        return Morphometry(axon, myelin, self.pixel_size)


def morphometry_from_options(
    morphometry: bool, pixel_size: tuple[float, float] | None, axon_class: str | None, myelin_class: str | None
) -> MorphometryOptions | None:
    """What `--morphometry`, `--pixel-size`, `--axon-class` and `--myelin-class` say; None for no morphometry.

    Raises:
        UsageError: an option is missing, wrong, or of no use.
    """
    if not morphometry:
        given = {"--axon-class": axon_class, "--myelin-class": myelin_class}
        for option, value in given.items():
            if value is not None:
                raise UsageError(f"{option} is for measuring fibres; say --morphometry, too.")
        return None
    if pixel_size is None:
        raise UsageError("--morphometry measures in micrometres; say how large a pixel is with --pixel-size UM or Y,X.")
    return MorphometryOptions(pixel_size, axon_class, myelin_class)
