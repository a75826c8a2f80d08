import logging
import re
import time
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from layouts import CT_SLICE, dicom, save, write_dicom, write_slices_together
from PIL import Image
from rich.console import Console

from transeg.core.api.verification import verify_dataset
from transeg.core.data.dicom_frames import dicom_frames
from transeg.core.errors import DataError, UsageError
from transeg.core.evaluation.volume_agreement import VolumeAgreement
from transeg.core.registry import Registry
from transeg.plugins.datasets.dicom import Dicom

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "volumes.md"
REGISTRY = Registry()
GREYS = np.arange(240, dtype=np.uint8).reshape(12, 20)

# Of each transfer syntax files that pydicom's own wheel holds, with how many images they give.
READ = {
    "Implicit VR Little Endian": {"MR_small_implicit.dcm": 1, "rtdose.dcm": 15, "SC_rgb_jpeg_dcmd.dcm": 1},
    "Explicit VR Little Endian": {
        "CT_small.dcm": 1,
        "MR_small.dcm": 1,
        "MR_small_padded.dcm": 1,
        "SC_rgb_small_odd.dcm": 1,
        "SC_ybr_full_422_uncompressed.dcm": 1,
        "examples_overlay.dcm": 1,
        "examples_palette.dcm": 1,
        "examples_rgb_color.dcm": 1,
    },
    "Explicit VR Big Endian": {"MR_small_bigendian.dcm": 1, "ExplVR_BigEnd.dcm": 1, "rtdose_expb.dcm": 15},
    "Deflated Explicit VR Little Endian": {"image_dfl.dcm": 1},
    "RLE Lossless": {
        "MR_small_RLE.dcm": 1,
        "SC_rgb_rle_2frame.dcm": 2,
        "SC_rgb_rle_16bit_2frame.dcm": 2,
        "SC_rgb_rle_32bit.dcm": 1,
        "rtdose_rle.dcm": 15,
    },
    "JPEG Baseline (Process 1)": {
        "SC_rgb_dcmtk_+eb+cr.dcm": 1,
        "SC_rgb_dcmtk_+eb+cy+n1.dcm": 1,
        "SC_rgb_dcmtk_+eb+cy+np.dcm": 1,
        "SC_rgb_small_odd_jpeg.dcm": 1,
        "SC_jpeg_no_color_transform.dcm": 1,
        "examples_ybr_color.dcm": 30,
    },
    "JPEG Extended (Process 2 and 4)": {"JPGExtended.dcm": 1},
    "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])": {
        "SC_rgb_jpeg_gdcm.dcm": 1
    },
    "JPEG-LS Lossless Image Compression": {"MR_small_jpeg_ls_lossless.dcm": 1},
    "JPEG-LS Lossy (Near-Lossless) Image Compression": {
        "JPEGLSNearLossless_08.dcm": 1,
        "JPEGLSNearLossless_16.dcm": 1,
        "SC_rgb_jls_lossy_line.dcm": 1,
    },
    "JPEG 2000 Image Compression (Lossless Only)": {
        "MR_small_jp2klossless.dcm": 1,
        "GDCMJ2K_TextGBR.dcm": 1,
        "J2K_pixelrep_mismatch.dcm": 1,
        "examples_jpeg2k.dcm": 1,
    },
    "JPEG 2000 Image Compression": {"JPEG2000.dcm": 1, "693_J2KI.dcm": 1, "SC_rgb_gdcm_KY.dcm": 1},
}
REFUSED = {
    "MR_truncated.dcm": "cut off",
    "JPEG-lossy.dcm": r"cannot be decoded \(JPEG Extended",
    "SC_rgb_jpeg.dcm": r"cannot be decoded \(JPEG Baseline",
    "badVR.dcm": "damaged",
    "rtplan.dcm": "holds no pixels",
    "test-SR.dcm": "holds no pixels",
    "waveform_ecg.dcm": "holds no pixels",
    "liver_1frame.dcm": "is a segmentation",
    "no_meta.dcm": "is no DICOM file",
    "meta_missing_tsyntax.dcm": "holds no pixels|transfer syntax",
}


def all_of(root, **options):
    return Dicom(root, "all", **options)


def names(dataset):
    return [dataset[index].name for index in range(len(dataset))]


def verified(root, *assignments):
    return verify_dataset(f"dicom:{root}", assignments, REGISTRY, Console(quiet=True))


@pytest.mark.parametrize(
    ("syntax", "name"), [(syntax, name) for syntax, files in READ.items() for name in files], ids=lambda text: text[:40]
)
def test_real_files_of_every_transfer_syntax_verify(syntax, name):
    assert pydicom.dcmread(BUNDLED / name).file_meta.TransferSyntaxUID.name == syntax
    found = verified(BUNDLED / name)
    assert not found["faults"]
    assert found["images"] == READ[syntax][name]
    image = all_of(BUNDLED / name)[0].image
    assert image.max() > image.min()


def test_the_page_lists_the_transfer_syntaxes_under_test():
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert all(syntax.split(" (Process")[0].split(", Non")[0] in text for syntax in READ)


@pytest.mark.parametrize("name", REFUSED)
def test_real_files_that_are_no_images_are_named(name):
    begun = time.monotonic()
    reasons = " ".join(fault["reason"] for fault in verified(BUNDLED / name)["faults"])
    assert time.monotonic() - begun < 10
    assert re.search(f"{re.escape(name)}.*({REFUSED[name]})|({REFUSED[name]}).*{re.escape(name)}", reasons)


def test_one_picture_in_many_encodings_is_one_picture():
    plain = all_of(BUNDLED / "MR_small.dcm")[0].image
    for name in ("RLE", "bigendian", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"):
        assert (all_of(BUNDLED / f"MR_small_{name}.dcm")[0].image == plain).all()
    colours = all_of(BUNDLED / "SC_rgb_rle.dcm")[0].image
    assert (all_of(BUNDLED / "SC_rgb_jpeg_gdcm.dcm")[0].image == colours).all()
    for name in ("SC_rgb_dcmtk_+eb+cy+np.dcm", "SC_ybr_full_422_uncompressed.dcm", "SC_rgb_dcmtk_+eb+cr.dcm"):
        assert np.abs(all_of(BUNDLED / name)[0].image.astype(int) - colours).mean() < 4
    deep = all_of(BUNDLED / "SC_rgb_rle_16bit.dcm")[0].image
    deepest = all_of(BUNDLED / "SC_rgb_rle_32bit.dcm")[0].image
    assert deep.dtype == np.uint16
    assert np.abs(deep / 65535 - deepest).max() < 1e-3


def test_grey_values_are_rescaled_and_windowed(tmp_path):
    stored = GREYS.astype(np.int16) * 10
    hounsfield = stored * 2.0 - 1000

    def shown(low, high):
        return ((hounsfield - low) / (high - low)).clip(0, 1)

    rescale = {"RescaleSlope": 2, "RescaleIntercept": -1000}
    window = {"WindowCenter": [40, 500], "WindowWidth": [401, 10]}
    cases = {
        "linear": (window, shown(39.5 - 200, 39.5 + 200)),
        "exact": ({**window, "VOILUTFunction": "LINEAR_EXACT"}, shown(40 - 200.5, 40 + 200.5)),
        "sigmoid": ({**window, "VOILUTFunction": "SIGMOID"}, 1 / (1 + np.exp(-4 * (hounsfield - 40) / 401))),
        "none": ({}, shown(*np.percentile(hounsfield[hounsfield != 0], (0.5, 99.5)))),
    }
    for name, (tags, wanted) in cases.items():
        write_dicom(tmp_path / name, stored, **rescale, **tags)
        assert np.allclose(all_of(tmp_path / name)[0].image[:, :, 0], wanted, atol=1e-5)
        write_dicom(tmp_path / name, stored, **rescale, **tags, PhotometricInterpretation="MONOCHROME1")
        assert np.allclose(all_of(tmp_path / name)[0].image[:, :, 0], 1 - wanted, atol=1e-5)
        ranged = all_of(tmp_path / name, range=(-160.0, 240.0))[0].image
        assert np.allclose(ranged[:, :, 0], 1 - shown(-160, 240), atol=1e-5)
    write_dicom(tmp_path / "flat", stored, WindowCenter=5, WindowWidth=0)
    with pytest.raises(DataError, match="window or rescaling that cannot be used; say range="):
        all_of(tmp_path / "flat")[0]
    for photometric, wanted in (("MONOCHROME2", GREYS), ("MONOCHROME1", 255 - GREYS)):
        write_dicom(tmp_path / "eight", GREYS, PhotometricInterpretation=photometric)
        assert (all_of(tmp_path / "eight")[0].image[:, :, 0] == wanted).all()


def test_a_series_without_window_has_one_scale(tmp_path):
    for index in range(3):
        write_dicom(tmp_path / f"{index}", GREYS.astype(np.uint16) + 1 + 500 * index)
    means = [all_of(tmp_path)[index].image.mean() for index in range(3)]
    assert means[0] < 0.2 < means[1] < 0.8 < means[2]


def test_frames_are_images_of_one_group_with_their_own_tags(tmp_path):
    measures, window = pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing = [0.5, 0.25]
    window.WindowCenter, window.WindowWidth = 100.5, 101
    shared, frame = pydicom.Dataset(), pydicom.Dataset()
    shared.PixelMeasuresSequence, frame.FrameVOILUTSequence = [measures], [window]
    write_dicom(
        tmp_path / "many.dcm",
        np.stack([GREYS, GREYS]).astype(np.uint16),
        NumberOfFrames=2,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[frame, frame],
    )
    dataset = all_of(tmp_path)
    assert names(dataset) == ["many_0000", "many_0001"]
    assert dataset[1].pixel_size == (500, 250)
    assert np.allclose(dataset[1].image[:, :, 0], ((GREYS - 50.0) / 100).clip(0, 1), atol=1e-6)
    assert dataset[0].group == dataset[1].group == "patient1"


def test_groups_are_patients_studies_or_series_by_number(tmp_path):
    for index, (patient, study, series) in enumerate(
        [
            ("A", "1.1", "1.1.1"),
            ("A", "1.1", "1.1.2"),
            ("A", "1.2", "1.2.1"),
            ("B", "1.3", "1.3.1"),
            ("", "1.4", "1.4.1"),
        ]
    ):
        write_dicom(tmp_path / f"{index}", GREYS, patient=patient, study=study, series=series)
    (tmp_path / "README").write_text("no picture")
    (tmp_path / "DICOMDIR").write_bytes((BUNDLED / "dicomdirtests" / "DICOMDIR").read_bytes())

    def groups(**options):
        dataset = all_of(tmp_path, **options)
        assert not dataset.faults
        return [dataset[index].group for index in range(len(dataset))]

    assert groups() == ["patient1"] * 3 + ["patient2", "patient3"]
    assert groups(group="study") == ["study1", "study1", "study2", "study3", "study4"]
    assert groups(group="series") == [f"series{number}" for number in range(1, 6)]


def test_even_slices_of_a_series_are_a_volume(tmp_path):
    def write(prefix, index, series="1.2.3.4", **tags):
        lying = {**CT_SLICE, "ImagePositionPatient": [3, 4, -2.5 * index], **tags}
        write_dicom(tmp_path / f"{prefix}{index}", GREYS, series=series, **lying)

    def distances(**options):
        dataset = all_of(tmp_path, **options)
        return {dataset.slice_distance_of(index) for index in range(len(dataset))}

    for index in range(12):
        write("IM", index)  # of which IM10 comes after IM9
    assert distances() == {2500}
    assert VolumeAgreement.of(all_of(tmp_path), ("background", "foreground")) is not None
    for index in range(12):
        write("T2_", index, series="1.2.3.5")
    assert distances() == {None}  # a patient is not one volume
    assert distances(group="series") == {2500}
    for tags in (
        {"ImagePositionPatient": [3, 4, 9]},
        {"ImagePositionPatient": [13, 4, -12.5]},
        {"ImageOrientationPatient": [1, 0, 0, 0, 0.8, 0.6]},
        {"PixelSpacing": [0.5, 0.5]},
        {"ImagePositionPatient": None},
    ):
        write("T2_", 5, series="1.2.3.5", **tags)
        assert distances(group="series") == {2500, None}
    for path in tmp_path.glob("T2_*"):
        path.unlink()
    (tmp_path / "IM0").rename(tmp_path / "IM99")
    assert distances() == {None}  # names are in another order
    (tmp_path / "IM99").unlink()
    assert distances() == {2500}
    (tmp_path / "IM6").unlink()
    assert distances() == {None}  # a slice is missing


def test_slices_in_one_file_are_a_volume(tmp_path):
    write_slices_together(tmp_path / "ct.dcm")
    assert all_of(tmp_path).slice_distance_of(3) == 5000


def test_masks_are_matched_by_name(tmp_path):
    dicom(tmp_path)
    dataset = all_of(tmp_path)
    assert not dataset.faults
    assert names(dataset)[:3] == ["000_IM0", "000_IM1", "001_IM0"]
    (tmp_path / "masks" / "000" / "IM0.png").rename(tmp_path / "masks" / "000" / "other.png")
    said = " ".join(fault.reason for fault in all_of(tmp_path).faults)
    assert "IM0 has no mask 000_IM0.png in" in said
    assert "other.png is the mask of no image" in said
    save(tmp_path / "masks" / "001" / "IM0.png", np.zeros((4, 4), np.uint8))
    assert "they must agree" in " ".join(fault["reason"] for fault in verified(tmp_path)["faults"])


def test_nothing_of_a_patient_is_said(tmp_path, caplog, recwarn, capfd):
    secret = "XYZZY"
    tags = {
        "PatientBirthDate": "19XYZZY",
        "ReferringPhysicianName": "XYZZY^DOC",
        "InstitutionName": "XYZZY hospital",
        "AccessionNumber": "XYZZY1",
        "ImageComments": "XYZZY was here",
        "StudyInstanceUID": "1.2.XYZZY",
    }
    fine = {"patient": "XYZZY^JANE", "series": "1.2.XYZZY.4"}
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        write_dicom(tmp_path / "fine", GREYS, **fine, **tags)
        write_dicom(tmp_path / "window", GREYS.astype(np.int16), **fine, **tags, WindowCenter=3, WindowWidth=0)
        write_dicom(tmp_path / "kind", GREYS, **fine, **tags, PhotometricInterpretation="XYZZY")
        write_dicom(tmp_path / "frames", GREYS, **fine, **tags, NumberOfFrames=9)
    finally:
        pydicom.config.settings.writing_validation_mode = pydicom.config.RAISE
    whole = (tmp_path / "fine").read_bytes()
    assert whole.count(secret.encode()) > 7
    for length in range(300, len(whole), 97):
        (tmp_path / f"cut{length}").write_bytes(whole[:length])
    with caplog.at_level(logging.DEBUG):
        found = verified(tmp_path)
        dataset = all_of(tmp_path)
        origins = [repr((dataset.origin_of(index), dataset.group_of(index))) for index in range(len(dataset))]
    assert len(found["faults"]) > 4
    out = capfd.readouterr()
    said = [repr(found), caplog.text, out.out, out.err, *origins, *(str(warning.message) for warning in recwarn)]
    assert not [text for text in said if secret in text]


def damaged(root):
    """Files that are no whole images, and what is said of them."""
    write_dicom(root / "whole", GREYS)
    content = (root / "whole").read_bytes()
    (root / "whole").unlink()
    for name, data, clause in (
        ("empty.dcm", b"", "is empty"),
        ("text.dcm", b"no picture" * 99, "is no DICOM file; it may be cut off or encrypted"),
        ("head.dcm", content[:140], "holds no pixels"),
        ("cut.dcm", content[:-100], "cut off"),
    ):
        (root / name).write_bytes(data)
        yield name, clause
    for name, tags, clause in (
        ("wide.dcm", {"Rows": 65535, "Columns": 65535}, "which is not read"),
        ("many.dcm", {"NumberOfFrames": 2**31 - 1}, "is cut off"),
        ("none.dcm", {"Rows": 0}, "which is not read"),
    ):
        write_dicom(root / name, GREYS, **tags)
        yield name, clause
    deflated = pydicom.dcmread(BUNDLED / "image_dfl.dcm")
    deflated.save_as(root / "bomb.dcm")
    begin = 144 + deflated.file_meta.FileMetaInformationGroupLength
    packing = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    with (root / "bomb.dcm").open("r+b") as file:
        file.truncate(begin)
        file.seek(begin)
        for _ in range(600):
            file.write(packing.compress(bytes(2**20)))
        file.write(packing.flush())
    yield "bomb.dcm", "unpacks to more than 512 MiB"


def test_bad_files_get_a_sentence_in_bounded_time(tmp_path):
    expected = dict(damaged(tmp_path))
    begun = time.monotonic()
    said = {}
    for fault in verified(tmp_path)["faults"]:
        said.setdefault(Path(fault["file"]).name, fault["reason"])
    assert time.monotonic() - begun < 10
    for name, clause in expected.items():
        assert name in said[name]
        assert clause in said[name]


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_RLE.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm", "image_dfl.dcm"])
def test_whatever_is_damaged_gives_pixels_or_a_sentence(tmp_path, name):
    random = np.random.default_rng(5)
    whole = (BUNDLED / name).read_bytes()
    path = tmp_path / name
    begun, said = time.monotonic(), []
    for _ in range(60):
        content = bytearray(whole[: int(random.integers(len(whole))) if random.random() < 0.3 else len(whole)])
        for place in random.integers(0, len(content), 4):
            content[place] = int(random.integers(256))
        path.write_bytes(content)
        said += [fault["reason"] for fault in verified(path)["faults"]]
    assert len(said) > 5
    assert all(str(path) in sentence for sentence in said if "All 1" not in sentence)
    assert time.monotonic() - begun < 60


def test_it_says_what_is_missing(tmp_path, monkeypatch):
    write_dicom(tmp_path / "a", GREYS)
    monkeypatch.setattr("transeg.core.optional_packages.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"Something needs pydicom.*pip install 'transeg\[dicom\]'"):
        dicom_frames(tmp_path, "Something")
    with pytest.raises(UsageError, match=r"compressed DICOM files needs pylibjpeg"):
        all_of(BUNDLED / "MR_small_RLE.dcm")[0]


def test_a_folder_without_dicom_is_refused(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="holds no DICOM file"):
        all_of(tmp_path)
