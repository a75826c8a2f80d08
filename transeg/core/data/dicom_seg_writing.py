"""Masks of DICOM frames as segmentation objects (DICOM-SEG), which archives keep and viewers lay over the images.

Such an object belongs to the patient whose images it refers to, and names them as these do: it is the one output that
does. What highdicom says of files, in which there may be names, is not passed on.
"""

from __future__ import annotations

import io
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from transeg import __version__
from transeg.core.data.dicom_frames import DicomFrame
from transeg.core.data.dicom_header import pydicom_library
from transeg.core.errors import DataError, UsageError
from transeg.core.optional_packages import require

WHAT = "--format dicom-seg"
"""Needs pydicom and highdicom."""
SPACE = "FrameOfReferenceUID"
PLACE = (SPACE, "ImageOrientationPatient")
"""By what images lie in one space, in planes that are parallel."""
LACKING = {
    "PatientID": "",
    "PatientName": "",
    "PatientBirthDate": "",
    "PatientSex": "",
    "AccessionNumber": "",
    "StudyID": "",
    "StudyDate": "",
    "StudyTime": "",
    "Modality": "OT",
}
"""What highdicom copies or looks at, and files may lack: nothing, and a modality that is none of those known."""
UNICODE = "ISO_IR 192"


def segmentation_groups(frames: Sequence[DicomFrame]) -> dict[str, list[DicomFrame]]:
    """The frames that one segmentation is of, by its name, which is the series' with a number where it needs several.

    Images of a series that lie in one space, are of one size and have parallel planes belong together; a file of
    several frames, or one that does not say where it lies, has a segmentation of its own.

    Raises:
        UsageError: highdicom is not installed.
    """
    _highdicom()
    series: dict[str, dict[Any, list[DicomFrame]]] = defaultdict(lambda: defaultdict(list))
    counts: dict[Any, int] = defaultdict(int)
    for frame in frames:
        counts[frame.path] += 1
    for frame in frames:
        place = _place(frame) if counts[frame.path] == 1 else None
        series[frame.series][(frame.size, place) if place is not None else frame.path].append(frame)
    return {
        name if len(groups) == 1 else f"{name}_{number}": group
        for name, groups in series.items()
        for number, group in enumerate(groups.values(), start=1)
    }


def segment_descriptions(names: Sequence[str]) -> list[Any]:
    """What segments are called: one for each class but background.

    Raises:
        UsageError: highdicom is not installed, or a class is called as no segment may be.
    """
    highdicom = _highdicom()
    from pydicom.sr.codedict import codes

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="transeg", version=__version__, family=codes.DCM.ArtificialIntelligence
    )
    tissue = codes.SCT.Tissue  # what a class is of is not known
    found = []
    for number, name in enumerate(names[1:], start=1):
        if not 0 < len(name) <= 64 or "\\" in name or not name.isprintable():
            raise UsageError(
                f"{WHAT}: the class {name!r} cannot be a segment, whose label has up to 64 characters and no backslash."
            )
        found.append(highdicom.seg.SegmentDescription(number, name, tissue, tissue, "AUTOMATIC", algorithm))
    return found


def encode_segmentation(
    frames: Sequence[DicomFrame], masks: Mapping[DicomFrame, np.ndarray], descriptions: Sequence[Any]
) -> bytes:
    """A segmentation object, as a file.

    Args:
        frames: one of the groups of :func:`segmentation_groups`.
        masks: ``(H, W)`` of classes, of those of the frames that could be segmented; of a file of several frames, of
            all.
        descriptions: of the classes; see :func:`segment_descriptions`.

    Raises:
        DataError: the files do not say enough of themselves.
    """
    highdicom = _highdicom()
    masked = [frame for frame in frames if frame in masks]
    several = len(frames) > 1 and frames[0].path == frames[1].path
    first = frames[0].path
    if several and masked != list(frames):
        raise DataError(f"{first} gets no DICOM-SEG, as not all its frames could be segmented.", str(first))
    try:
        sources = [_source(frame) for frame in (masked[:1] if several else masked)]
        if several and not sources[0].get("PerFrameFunctionalGroupsSequence"):  # which say where each lies
            raise ValueError
        labels = np.stack([masks[frame] for frame in masked]).astype(np.uint8)
        made = highdicom.seg.Segmentation(
            sources,
            labels,
            "BINARY",
            descriptions,
            series_instance_uid=highdicom.UID(),
            series_number=1 + int(sources[0].get("SeriesNumber") or 0),
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="transeg",
            manufacturer_model_name="transeg",
            software_versions=__version__,
            device_serial_number="none",
            series_description="Segmentation by transeg",
            specific_character_set=UNICODE,
        )
        if not np.array_equal(_masks_in(made, sources, len(labels)), labels):  # of images that are not what they say
            raise ValueError
        file = io.BytesIO()
        made.save_as(file)
    except Exception:  # of whatever kind, with whatever of the files in its message
        raise DataError(
            f"{first} and what is in its series get no DICOM-SEG: some do not say where they lie, or two lie at the "
            "same place, or they do not name their study; their masks are PNG files.",
            str(first),
        ) from None
    return file.getvalue()


def _place(frame: DicomFrame) -> tuple[str, ...] | None:
    """The space that an image lies in, and how it is turned there; None where it does not say."""
    try:
        tags = pydicom_library(WHAT).dcmread(frame.path, stop_before_pixels=True, specific_tags=list(PLACE))
        said = [tags.get(tag) for tag in PLACE]
        if not all(said):
            return None
        return (str(said[0]), *(f"{float(value):.3f}" for value in said[1]))
    except Exception:  # it is told when its segmentation is made
        return None


def _source(frame: DicomFrame) -> Any:
    """What a file says of itself, its patient and study."""
    tags = pydicom_library(WHAT).dcmread(frame.path, stop_before_pixels=True)
    for tag, value in LACKING.items():
        if tag not in tags:
            setattr(tags, tag, value)
    if not tags.get(SPACE, ""):  # which highdicom would take for one
        tags.pop(SPACE, None)
    return tags


def _masks_in(made: Any, sources: Sequence[Any], count: int) -> np.ndarray:
    """``(N, H, W)`` of classes, for each image or, of a file of several frames, for each of these."""
    how = {"combine_segments": True, "assert_missing_frames_are_empty": True}
    instances = [source.SOPInstanceUID for source in sources]
    if len(instances) == count:
        return made.get_pixels_by_source_instance(instances, **how)
    return made.get_pixels_by_source_frame(instances[0], list(range(1, count + 1)), **how)


@cache
def _highdicom() -> Any:
    """highdicom, which says nothing by itself: there may be names in what it would say.

    Raises:
        UsageError: it is not installed.
    """
    pydicom_library(WHAT)
    require("highdicom", "dicom", WHAT)
    import highdicom
    import highdicom.seg

    logging.getLogger("highdicom").setLevel(logging.CRITICAL + 1)
    return highdicom
