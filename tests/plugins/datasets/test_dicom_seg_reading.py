"""DICOM-SEG as masks of the dataset dicom."""

import highdicom
import numpy as np
import pydicom
import pytest
from layouts import CT_SLICE, save, write_dicom, write_slices_together
from pydicom.uid import JPEG2000Lossless

from transeg.core.data.dicom_frames import dicom_frames
from transeg.core.data.dicom_seg_writing import encode_segmentation, segment_descriptions, segmentation_groups
from transeg.core.errors import DataError
from transeg.plugins.datasets.dicom import Dicom

NAMES = ("background", "liver", "tumour")
RNG = np.random.default_rng(0)


def write_tree(root, count=4, size=(9, 7)):
    """Two series of slices, whose second mask is empty, with a DICOM-SEG object for each: their masks by name."""
    for index in range(count):
        for series in ("1.2.8", "1.2.9"):
            tags = {**CT_SLICE, "ImagePositionPatient": [0, 0, 5 * index], "SOPInstanceUID": f"{series}.{index + 1}"}
            stored = RNG.integers(0, 100, size).astype(np.int16)
            write_dicom(root / "images" / series / f"IM{index}", stored, series=series, patient="XYZZY^JANE", **tags)
    frames, _ = dicom_frames(root / "images", "The test")
    masks = {frame: RNG.integers(0, 3, size).astype(np.uint8) * (not frame.name.endswith("1")) for frame in frames}
    (root / "masks").mkdir()
    for name, group in segmentation_groups(frames).items():
        content = encode_segmentation(group, {frame: masks[frame] for frame in group}, segment_descriptions(NAMES))
        (root / "masks" / f"{name}.dcm").write_bytes(content)
    return {frame.name: mask for frame, mask in masks.items()}


def change(path, **tags):
    """Another value of tags of a segmentation; what it says of frames is given as functions."""
    segmentation = pydicom.dcmread(path)
    for tag, value in tags.items():
        if callable(value):
            value(segmentation)
        else:
            setattr(segmentation, tag, value)
    segmentation.save_as(path)


def test_what_was_written_is_read_as_masks(tmp_path):
    masks = write_tree(tmp_path)
    dataset = Dicom(tmp_path, "all")
    assert dataset.classes == NAMES
    assert not dataset.faults
    found = {sample.name: sample.mask for sample in (dataset[index] for index in range(len(dataset)))}
    assert found.keys() == masks.keys()
    assert all(np.array_equal(found[name], masks[name]) for name in masks)
    assert "XYZZY" not in repr(dataset.pairs)
    origins = {dataset.origin_of(index).how for index in range(len(dataset))}
    assert len(origins) == len(dataset)
    assert Dicom(tmp_path, "all", classes=("background", "tumour", "liver")).origin_of(0).how not in origins


def test_classes_have_the_order_that_is_said(tmp_path):
    masks = write_tree(tmp_path)
    sample = Dicom(tmp_path, "all", classes=("background", "tumour", "liver"))[0]
    assert np.array_equal(sample.mask, np.array([0, 2, 1])[masks[sample.name]])
    with pytest.raises(DataError, match=r"series1.dcm has the segment 'tumour', which is none of background, liver"):
        Dicom(tmp_path, "all", classes=("background", "liver"))[0]


def test_where_segments_overlap_the_later_class_counts(tmp_path):
    write_dicom(tmp_path / "images" / "IM0", np.zeros((4, 4), np.uint8), PixelSpacing=[1, 1])
    (frame,), _ = dicom_frames(tmp_path / "images", "The test")
    content = encode_segmentation([frame], {frame: np.full((4, 4), 2)}, segment_descriptions(NAMES))
    path = tmp_path / "masks" / "a.dcm"
    path.parent.mkdir()
    path.write_bytes(content)
    source = pydicom.dcmread(frame.path)
    for tag in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
        setattr(source, tag, "")
    source.Modality = "OT"
    both = np.zeros((1, 4, 4, 2), bool)
    both[0, :3, :, 0] = both[0, 2:, :, 1] = True
    made = highdicom.seg.Segmentation(
        [source], both, "BINARY", segment_descriptions(NAMES), "1.2.3", 1, "1.2.4", 1, "a", "b", "c", "d"
    )
    made.save_as(path)
    assert Dicom(tmp_path, "all")[0].mask[:, 0].tolist() == [1, 1, 2, 2]


def test_a_file_of_several_slices(tmp_path):
    write_slices_together(tmp_path / "images" / "many.dcm")
    frames, _ = dicom_frames(tmp_path / "images", "The test")
    masks = {frame: RNG.integers(0, 3, frame.size).astype(np.uint8) for frame in frames}
    (tmp_path / "masks").mkdir()
    path = tmp_path / "masks" / "a.dcm"
    path.write_bytes(encode_segmentation(frames, masks, segment_descriptions(NAMES)))
    dataset = Dicom(tmp_path, "all")
    assert all(np.array_equal(dataset[index].mask, masks[frame]) for index, frame in enumerate(frames))

    def forget(segmentation):
        for groups in segmentation.PerFrameFunctionalGroupsSequence:
            del groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber

    change(path, groups=forget)
    assert "does not say which frames of" in Dicom(tmp_path, "all").faults[0].reason


def test_images_and_segmentations_without_each_other_are_named(tmp_path):
    write_tree(tmp_path)
    (tmp_path / "masks" / "series1.dcm").unlink()
    dataset = Dicom(tmp_path, "all")
    assert [len(dataset), len(dataset.faults)] == [4, 4]
    assert "No DICOM-SEG in masks/ refers to" in dataset.faults[0].reason
    for index in range(4):
        (tmp_path / "images" / "1.2.9" / f"IM{index}").unlink()
    assert "series2.dcm refers to none of the images" in Dicom(tmp_path, "all").faults[-1].reason


def test_pictures_beside_and_options_for_pictures_are_told(tmp_path):
    write_tree(tmp_path)
    with pytest.raises(ValueError, match="values and ignore are for masks as PNG"):
        Dicom(tmp_path, "all", ignore=255)
    save(tmp_path / "masks" / "a.png", np.zeros((9, 7), np.uint8))
    with pytest.raises(ValueError, match="holds masks both as pictures and as DICOM-SEG"):
        Dicom(tmp_path, "all")


def moved(segmentation):
    for groups in segmentation.PerFrameFunctionalGroupsSequence:
        groups.PlanePositionSequence[0].ImagePositionPatient = [9, 0, 0]


def turned(segmentation):
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [0, 1, 0, 1, 0, 0]


def nowhere(segmentation):
    for groups in segmentation.PerFrameFunctionalGroupsSequence:
        del groups.DerivationImageSequence


def unnamed(segmentation):
    del segmentation.SegmentSequence


REFUSED = {
    "a fraction": ({"SegmentationType": "FRACTIONAL"}, "is a segmentation of another type than BINARY"),
    "no references": ({"groups": nowhere}, "is damaged, or does not say which image each of its frames is of"),
    "no segments": ({"groups": unnamed}, "is damaged, or does not say"),
    "another place": ({"groups": moved}, "has another size, place or direction than"),
    "another direction": ({"groups": turned}, "has another size, place or direction than"),
    "another size": ({"Rows": 7, "Columns": 9}, "has another size, place or direction than"),
    "cut off": ({"PixelData": b"\0\0"}, "is cut off, damaged or compressed"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_laid_over_the_images_is_told_without_names(tmp_path, kind):
    tags, reason = REFUSED[kind]
    write_tree(tmp_path)
    change(tmp_path / "masks" / "series1.dcm", **tags)
    dataset = Dicom(tmp_path, "all", classes=NAMES)
    said = dataset.faults[0].reason if dataset.faults else ""
    if not said:
        with pytest.raises(DataError) as caught:
            dataset[2]
        said = str(caught.value)
    assert f"series1.dcm {reason}" in said
    assert "XYZZY" not in said


def test_two_segmentations_of_one_image_may_not_have_the_same_segment(tmp_path):
    write_tree(tmp_path)
    (tmp_path / "masks" / "corrected.dcm").write_bytes((tmp_path / "masks" / "series1.dcm").read_bytes())
    with pytest.raises(DataError, match=r"corrected.dcm and .*series1.dcm both have the segment 'liver' of"):
        Dicom(tmp_path, "all")[0]


def test_compressed_segmentations_are_refused(tmp_path):
    write_tree(tmp_path)

    def compress(segmentation):
        segmentation.file_meta.TransferSyntaxUID = JPEG2000Lossless
        segmentation.PixelData = pydicom.encaps.encapsulate([b"\0\0"])

    change(tmp_path / "masks" / "series1.dcm", pixels=compress)
    with pytest.raises(DataError, match=r"series1.dcm is cut off, damaged or compressed"):
        Dicom(tmp_path, "all")[0]
