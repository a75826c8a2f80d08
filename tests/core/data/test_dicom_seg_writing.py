"""Segmentation objects, read again by highdicom."""

import io
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from layouts import CT_SLICE, write_dicom, write_slices_together
from pydicom.data import get_testdata_file

from transeg.core.data.dicom_frames import dicom_frames
from transeg.core.data.dicom_seg_writing import encode_segmentation, segment_descriptions, segmentation_groups
from transeg.core.errors import DataError, UsageError

NAMES = ("background", "liver", "Tumör")
RNG = np.random.default_rng(0)


def write_slices(folder, heights, size=(9, 7), normal=(0, 0, 1), **tags):
    """Slices of a series, at these heights in the order of their names."""
    for index, height in enumerate(heights):
        place = {**CT_SLICE, "ImagePositionPatient": [height * step for step in normal]}
        stored = RNG.integers(0, 100, size).astype(np.int16)
        write_dicom(folder / f"IM{index}", stored, **{**place, **tags})


def encoded(place):
    """The segmentations of what is there, by their names, with the frames and masks that they are made of."""
    frames, faults = dicom_frames(place, "The test")
    assert not faults
    masks = {frame: RNG.integers(0, 3, frame.size).astype(np.uint8) for frame in frames}
    groups = segmentation_groups(frames)
    assert [frame for group in groups.values() for frame in group] == frames
    for name, group in groups.items():
        content = encode_segmentation(group, {frame: masks[frame] for frame in group}, segment_descriptions(NAMES))
        yield name, highdicom.seg.segread(io.BytesIO(content)), group, [masks[frame] for frame in group]


def instances(group):
    return [pydicom.dcmread(frame.path, stop_before_pixels=True).SOPInstanceUID for frame in group]


def test_each_slice_has_its_mask_where_it_lies(tmp_path):
    write_slices(tmp_path, [10, 0, 5, -5])
    ((name, found, group, masks),) = encoded(tmp_path)
    assert name == "series1"
    assert found.segmentation_type == highdicom.seg.SegmentationTypeValues.BINARY
    assert [found.get_segment_description(number).segment_label for number in (1, 2)] == ["liver", "Tumör"]
    pixels = found.get_pixels_by_source_instance(instances(group), combine_segments=True)
    assert np.array_equal(pixels, masks)
    volume = found.get_volume(combine_segments=True)
    assert np.array_equal(np.sort(volume.spacing), [0.25, 0.5, 5])
    by_height = [masks[index] for index in (3, 1, 2, 0)]
    assert any(np.array_equal(volume.array[::step], by_height) for step in (1, -1))
    assert found.FrameOfReferenceUID == "1.2.7"
    assert (found.StudyInstanceUID, str(found.PatientName)) == ("1.2.3", "DOE^JANE")
    assert found.SeriesInstanceUID != "1.2.3.4"
    assert not found.get("PatientBirthDate")


def test_what_does_not_lie_together_is_apart(tmp_path):
    write_slices(tmp_path / "a", [0, 5])
    write_slices(tmp_path / "b", [1, 6], size=(5, 7))
    write_slices(tmp_path / "c", [2, 7], normal=(1, 0, 0), ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    write_slices(tmp_path / "d", [3, 8], series="1.2.9")
    write_dicom(tmp_path / "e" / "photo1", np.zeros((4, 4), np.uint8), series="1.2.9")
    write_dicom(tmp_path / "e" / "photo2", np.zeros((4, 4), np.uint8), series="1.2.9")
    found = {name: (seg, group, masks) for name, seg, group, masks in encoded(tmp_path)}
    assert list(found) == [f"series{n}" for n in ("1_1", "1_2", "1_3", "2_1", "2_2", "2_3")]
    for seg, group, masks in found.values():
        pixels = seg.get_pixels_by_source_instance(instances(group), combine_segments=True)
        assert np.array_equal(pixels, masks)


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "examples_rgb_color.dcm"])
def test_files_that_pydicom_brings_along(name):
    ((_, found, group, masks),) = encoded(Path(get_testdata_file(name, download=False)))
    assert np.array_equal(found.get_pixels_by_source_instance(instances(group), combine_segments=True), masks)


def test_a_file_of_several_slices(tmp_path):
    write_slices_together(tmp_path / "many.dcm")
    ((name, found, group, masks),) = encoded(tmp_path)
    assert (name, len(group)) == ("series1", 4)
    pixels = found.get_pixels_by_source_frame("1.2.10", [1, 2, 3, 4], combine_segments=True)
    assert np.array_equal(pixels, masks)


def test_names_in_other_alphabets_stay(tmp_path):
    write_slices(tmp_path, [0, 5], patient="Müller^Jürgen", SpecificCharacterSet="ISO_IR 100")
    ((_, found, _, _),) = encoded(tmp_path)
    assert str(found.PatientName) == "Müller^Jürgen"


def test_masks_without_objects_are_written_too(tmp_path, capfd):
    write_slices(tmp_path, [0, 5])
    frames, _ = dicom_frames(tmp_path, "The test")
    empty = {frame: np.zeros(frame.size, np.uint8) for frame in frames}
    content = encode_segmentation(frames, empty, segment_descriptions(NAMES))
    assert not highdicom.seg.segread(io.BytesIO(content)).pixel_array.any()
    assert capfd.readouterr().err == ""


def test_what_cannot_be_placed_is_told_without_names(tmp_path):
    write_slices(tmp_path / "twice", [5, 5], patient="XYZZY^JANE")
    write_slices(tmp_path / "nowhere", [0, 5], patient="XYZZY^JANE", FrameOfReferenceUID="", series="1.2.8")
    write_dicom(tmp_path / "many", np.zeros((2, 4, 4), np.uint8), NumberOfFrames=2, series="1.2.9")
    frames, _ = dicom_frames(tmp_path, "The test")
    masks = {frame: np.zeros(frame.size, np.uint8) for frame in frames}
    descriptions = segment_descriptions(NAMES)
    groups = segmentation_groups(frames)
    assert list(groups) == ["series1", "series2_1", "series2_2", "series3"]
    for group in groups.values():
        with pytest.raises(DataError, match="get no DICOM-SEG: some do not say where they lie") as caught:
            encode_segmentation(group, masks, descriptions)
        assert "XYZZY" not in str(caught.value)
        assert caught.value.__suppress_context__
    many = groups["series1"]
    assert len(many) == 2
    with pytest.raises(DataError, match="gets no DICOM-SEG, as not all its frames could be segmented"):
        encode_segmentation(many, {many[1]: masks[many[1]]}, descriptions)


@pytest.mark.parametrize("name", ["", "x" * 65, "a\\b", "a\nb"])
def test_classes_that_segments_cannot_be_called_are_told(name):
    with pytest.raises(UsageError, match="cannot be a segment"):
        segment_descriptions(("background", name))
