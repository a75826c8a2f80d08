"""MoNuSeg: nuclei of several organs, outlined by polygons."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import cv2
import numpy as np

from transeg.core.data.file_dataset import FileDataset, Pair, keep_official_test, list_pairs
from transeg.core.data.listing import find_folder
from transeg.core.errors import DataError
from transeg.core.interfaces import Fault

TRAINING = ("MoNuSeg 2018 Training Data", "MoNuSegTrainingData")
TESTS = ("MoNuSegTestData", "MoNuSeg 2018 Test Data")
TISSUE = ("Tissue Images", "Tissue Image")
PATIENT = len("TCGA-18-5592")


class MoNuSeg(FileDataset):
    """MoNuSeg: tiles of 1,000 pixels at 40x from TCGA, 37 for training, 14 for tests (Kumar et al., TMI 2017 and 2020).

    `Tissue Images/*.tif` with `Annotations/*.xml` for training, `MoNuSegTestData/*.tif` with `*.xml` beside them for
    tests, as downloaded. Outlines belong to their nucleus; where nuclei overlap, a pixel belongs to the smallest. A
    group is a patient, by the first twelve characters of a name, and validation cuts none.

    Args:
        root: the folder that holds the two unpacked downloads, or one of them.
        split: `train`, `val`, `test` or `all`.
        val_share: of the training patients, kept for validation.
        seed: of the shuffle before they are chosen.
    """

    classes = ("background", "nucleus")
    reads_pairs_alone = True

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        val_share: float = 0.1,
        seed: int = 0,
    ) -> None:
        training, tests = find_folder(root, *TRAINING) or root, find_folder(root, *TESTS)
        train, train_faults = _pairs(training) if find_folder(training, *TISSUE) else ([], [])
        test, test_faults = _pairs(tests) if tests else ([], [])
        if not train and not test:
            raise ValueError(f"{root} holds neither Tissue Images/ and Annotations/ nor MoNuSegTestData/")
        super().__init__(
            keep_official_test(train, test, split, val_share=val_share, seed=seed), [*train_faults, *test_faults]
        )

    def labels(self, pair: Pair, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        assert pair.mask is not None
        instances = fill_polygons(read_polygons(pair.mask), size)
        return (instances > 0).astype(np.uint8), instances


def read_polygons(path: Path) -> list[np.ndarray]:
    """The outlines in an annotation of Aperio ImageScope: ``(P, 2)`` float64 of x and y each, in the file's order.

    Raises:
        DataError: it is no such file.
    """
    try:
        regions = ElementTree.parse(path).getroot().iter("Region")
        polygons = [
            np.array([(float(vertex.attrib["X"]), float(vertex.attrib["Y"])) for vertex in region.iter("Vertex")])
            for region in regions
        ]
    except (OSError, ElementTree.ParseError, KeyError, ValueError) as error:
        reason = f"a vertex has no {error}" if isinstance(error, KeyError) else error
        raise DataError(f"{path} cannot be read as an annotation: {reason}.", str(path)) from error
    return [polygon for polygon in polygons if len(polygon) > 2]  # fewer points enclose nothing


def fill_polygons(polygons: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Number polygons from 1 on and fill them, the largest first, so that the smallest stays whole.

    Returns:
        ``(H, W)`` int32.
    """
    instances = np.zeros(size, np.int32)
    corners = [np.rint(polygon).astype(np.int32) for polygon in polygons]
    areas = [cv2.contourArea(polygon.astype(np.float32)) for polygon in polygons]
    for index in sorted(range(len(polygons)), key=lambda i: -areas[i]):
        cv2.fillPoly(instances, [corners[index]], index + 1)
    return instances


def _pairs(folder: Path) -> tuple[list[Pair], list[Fault]]:
    return list_pairs(
        find_folder(folder, *TISSUE) or folder,
        find_folder(folder, "Annotations", "Annotation") or folder,
        mask_endings={".xml"},
        group=lambda stem: stem[:PATIENT],
    )
