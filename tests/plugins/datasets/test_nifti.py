import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from layouts import LYING, nifti, write_volume
from rich.console import Console

from transeg.core.api.verification import verify_dataset
from transeg.core.builders.datasets import build_dataset
from transeg.core.data import volume_file
from transeg.core.data.volume_file import LabelVolume, VolumeFile
from transeg.core.errors import DataError, UsageError
from transeg.core.experiment.completion import complete_dataset
from transeg.core.registry import Registry
from transeg.plugins.datasets.nifti import NIfTI

BUNDLED = Path(nibabel.__file__).parent / "tests" / "data"
RAS = np.diag([2.0, 3.0, 4.0, 1.0])
REGISTRY = Registry()


def all_of(root, **options):
    return NIfTI(root, "all", **options)


def names(dataset):
    return [dataset[index].name for index in range(len(dataset))]


def ramp(*shape):
    """Voxels that are all different, none of them 0."""
    return np.arange(1, np.prod(shape) + 1, dtype=np.int16).reshape(shape)


def verified(root, *assignments):
    return verify_dataset(f"nifti:{root}", assignments, REGISTRY, Console(quiet=True))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_slices_are_turned_as_radiologists_see_them(tmp_path, ending, kind):
    voxels = ramp(3, 4, 5)
    path = tmp_path / f"a{ending}"
    write_volume(path, voxels, RAS, kind)
    volume = VolumeFile(path, "this")
    x, y, z = np.meshgrid(range(3), range(4), range(5), indexing="ij")
    range_ = (0.0, 100.0)
    for axis, down, across in ((2, y, x), (1, z, x), (0, z, y)):
        # the head or the front is the first row; the right of the body, or its front, the first column
        assert volume.size_of(axis) == (down.max() + 1, across.max() + 1)
        for index in (0, 2):
            found = volume.image(axis, index, range_)[:, :, 0] * 100
            cut = np.take(voxels, index, axis)
            rows, columns = np.take(down, index, axis), np.take(across, index, axis)
            wanted = np.zeros(found.shape)
            wanted[rows.max() - rows, columns.max() - columns] = cut
            assert np.allclose(found, wanted, atol=1e-3)
    assert volume.pixel_size_of(2) == (3000, 2000)
    assert volume.pixel_size_of(1) == (4000, 2000)
    assert volume.pixel_size_of(0) == (4000, 3000)


def test_the_axes_of_the_body_count_not_those_of_the_file(tmp_path):
    voxels = ramp(3, 4, 5)
    image = nibabel.Nifti1Image(voxels, RAS)
    nibabel.save(image, tmp_path / "a.nii")
    for code in ("LPS", "SAR", "PIR", "AIL"):
        turn = nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(code)
        )
        nibabel.save(image.as_reoriented(turn), tmp_path / f"{code}.nii.gz")
        one, other = VolumeFile(tmp_path / "a.nii", "this"), VolumeFile(tmp_path / f"{code}.nii.gz", "this")
        assert one.shape == other.shape
        assert one.spacing == pytest.approx(other.spacing)
        for axis in range(3):
            assert (one.image(axis, 1) == other.image(axis, 1)).all()


def test_label_volumes_go_back_where_they_came_from(tmp_path):
    truth = (ramp(6, 7, 8) % 3).astype(np.uint8)
    for affine, kind in ((LYING, nibabel.Nifti1Image), (RAS, nibabel.Nifti2Image)):
        image = kind(truth, affine)
        image.set_qform(affine, 1)
        image.set_sform(affine, 2)
        image.header["descrip"] = b"DOE^JANE"
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"DOE^JANE"))
        nibabel.save(image, tmp_path / "a.nii")
        volume = VolumeFile(tmp_path / "a.nii", "this")
        for axis in range(3):
            labels = LabelVolume(volume, axis)
            for index in range(volume.shape[axis]):
                labels.put(index, volume.labels(axis, index))
            labels.write(tmp_path / "out.nii.gz")
            made = nibabel.load(tmp_path / "out.nii.gz")
            assert type(made) is kind
            assert (np.asarray(made.dataobj) == truth).all()
            assert made.get_data_dtype() == np.uint8
            assert np.allclose(made.affine, affine)
            assert (int(made.header["sform_code"]), int(made.header["qform_code"])) == (2, 1)
            assert b"DOE" not in gzip.decompress((tmp_path / "out.nii.gz").read_bytes())


def test_intensities_are_what_the_file_means(tmp_path):
    voxels = ramp(10, 10, 4)
    image = nibabel.Nifti1Image(voxels, RAS)
    image.header.set_slope_inter(2.0, -1000.0)
    nibabel.save(image, tmp_path / "ct.nii.gz")
    meant = np.asarray(nibabel.load(tmp_path / "ct.nii.gz").dataobj)
    assert meant.min() < -900
    dataset = all_of(tmp_path, range=(-500.0, -300.0))
    assert np.allclose(dataset[1].image[:, :, 0], ((meant[:, :, 1].T[::-1, ::-1] + 500) / 200).clip(0, 1), atol=1e-6)
    low, high = np.percentile(meant[meant != 0], (0.5, 99.5))
    usual = all_of(tmp_path)
    assert np.allclose(
        usual[1].image[:, :, 0], ((meant[:, :, 1].T[::-1, ::-1] - low) / (high - low)).clip(0, 1), atol=1e-6
    )
    table = {"name": "nifti", "root": str(tmp_path), "split": "all", "range": [-500, -300]}
    built = build_dataset(complete_dataset(table, "source", REGISTRY), "source", REGISTRY)
    assert (built[1].image == dataset[1].image).all()


def test_background_does_not_decide_what_is_black(tmp_path):
    voxels = np.zeros((20, 20, 4), np.float32)
    voxels[5:8, 5:8] = np.linspace(100, 200, 36).reshape(3, 3, 4)
    write_volume(tmp_path / "mr.nii", voxels, RAS)
    assert VolumeFile(tmp_path / "mr.nii", "this").ranges[0] == pytest.approx(
        np.percentile(voxels[voxels > 0], (0.5, 99.5))
    )
    write_volume(tmp_path / "flat.nii", np.full((10, 10, 4), 7, np.int16), RAS)
    assert (VolumeFile(tmp_path / "flat.nii", "this").image(2, 0) == 0).all()


def test_channels_lie_along_the_fourth_axis(tmp_path):
    voxels = np.stack([ramp(5, 6, 7), ramp(5, 6, 7) * 10], -1)
    write_volume(tmp_path / "a.nii.gz", voxels, RAS)
    dataset = all_of(tmp_path)
    assert dataset.channels == 2
    image = dataset[0].image
    assert image.shape == (6, 5, 2)
    assert np.allclose(image[:, :, 0], image[:, :, 1], atol=1e-5)  # each channel has its own black and white
    write_volume(tmp_path / "b.nii.gz", ramp(5, 6, 7), RAS)
    assert "b.nii.gz has 1 channels, but" in all_of(tmp_path).faults[0].reason


def test_volumes_are_groups_that_no_split_cuts(tmp_path):
    nifti(tmp_path)
    dataset = all_of(tmp_path)
    assert names(dataset)[:2] == ["case0_0000", "case0_0001"]
    assert {dataset[index].group for index in range(len(dataset))} == {f"case{index}" for index in range(6)}
    assert dataset[0].pixel_size == (500, 3000)
    assert {len(all_of(tmp_path, axis=axis)) // 6 for axis in range(3)} == {20, 24, 14}
    assert len(NIfTI(tmp_path, "val")) == 24


def test_the_layouts_of_others(tmp_path):
    for index in range(3):
        write_volume(tmp_path / "imagesTr" / f"liver_{index}_0000.nii.gz", ramp(4, 5, 6), RAS)
        write_volume(tmp_path / "labelsTr" / f"liver_{index}.nii.gz", np.full((4, 5, 6), 2, np.uint8), RAS)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "tumour": 2}}))
    (tmp_path / "imagesTr" / "._liver_0_0000.nii.gz").write_bytes(b"a Mac's")
    dataset = all_of(tmp_path)
    assert not dataset.faults
    assert dataset.classes == ("background", "liver", "tumour")
    assert names(dataset)[0] == "liver_0_0000"
    assert (dataset[0].mask == 2).all()
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "a", "2": "b"}}))
    assert all_of(tmp_path).classes == ("background", "a", "b")
    write_volume(tmp_path / "imagesTs" / "liver_9.nii.gz", ramp(4, 5, 6), RAS)
    assert len(NIfTI(tmp_path, "all")) == 18  # without labels, it is not theirs
    write_volume(tmp_path / "labelsTs" / "liver_9.nii.gz", np.ones((4, 5, 6), np.uint8), RAS)
    assert {name[:7] for name in names(NIfTI(tmp_path, "test"))} == {"liver_9"}
    beside = tmp_path / "beside"
    write_volume(beside / "x.nii.gz", ramp(4, 5, 6), RAS)
    write_volume(beside / "x_seg.nii.gz", np.ones((4, 5, 6), np.uint8), RAS)
    assert names(all_of(beside))[0] == "x_0000"
    assert (all_of(beside)[3].mask == 1).all()
    assert all_of(beside / "x.nii.gz")[0].mask is None


def test_labels_that_do_not_fit_are_named(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    for name in ("size", "place", "alone", "numbers", "fine"):
        write_volume(images / f"{name}.nii.gz", ramp(4, 5, 6), RAS)
    write_volume(labels / "size.nii.gz", np.ones((4, 5, 7), np.uint8), RAS)
    moved = RAS.copy()
    moved[:3, 3] = 1
    write_volume(labels / "place.nii.gz", np.ones((4, 5, 6), np.uint8), moved)
    write_volume(labels / "numbers.nii.gz", np.full((4, 5, 6), 4, np.uint8), RAS)
    write_volume(labels / "fine.nii.gz", np.ones((4, 5, 6), np.float64), RAS)
    write_volume(labels / "nobody.nii.gz", np.ones((4, 5, 6), np.uint8), RAS)
    said = " ".join(fault["reason"] for fault in verified(tmp_path)["faults"])
    for clause in (
        "size.nii.gz has 4 x 5 x 6 voxels, but its labels",
        "place.nii.gz have different affines, so they lie up to 1 mm apart",
        "alone.nii.gz has no labels alone.nii",
        "nobody.nii.gz holds the labels of no image",
        "numbers.nii.gz has the pixel values [4], which stand for no class of [0, 1]; see the options classes and",
    ):
        assert clause in said
    dataset = all_of(tmp_path, classes=("background", "a", "b"), values=(0, 1, 4), ignore=9)
    assert (dataset[names(dataset).index("numbers_0002")].mask == 2).all()
    fifth = build_dataset(
        complete_dataset({"name": "nifti", "root": str(images), "split": "all"}, "source", REGISTRY), "source", REGISTRY
    )
    assert fifth[0].mask is None
    with pytest.raises(ValueError, match=r"range .* must be increasing"):
        all_of(tmp_path, range=(3.0, 1.0))


BAD = {
    "empty.nii": (b"", "is empty"),
    "nothing.nii.gz": (b"", "is empty"),
    "text.nii": (b"not a volume at all" * 99, "is no NIfTI file; it may be cut off or encrypted"),
    "encrypted.nii.gz": (
        bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)),
        "it may be cut off or encrypted",
    ),
}


def damaged(root):
    """Files that are no whole volumes, and what is said of them."""
    for name, (content, clause) in BAD.items():
        (root / name).write_bytes(content)
        yield name, clause
    noise = np.random.default_rng(0).integers(0, 999, (20, 30, 40), dtype=np.int16)
    for ending, clause in ((".nii", "is cut off: it is shorter"), (".nii.gz", "is cut off or damaged")):
        write_volume(root / f"whole{ending}", noise)
        content = (root / f"whole{ending}").read_bytes()
        (root / f"whole{ending}").unlink()
        (root / f"cut{len(ending)}{ending}").write_bytes(content[: len(content) // 2])
        yield f"cut{len(ending)}{ending}", clause
        (root / f"head{len(ending)}{ending}").write_bytes(content[:100])
        yield f"head{len(ending)}{ending}", "it may be cut off or encrypted"
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 8
    (root / "flipped.nii.gz").write_bytes(flipped)
    yield "flipped.nii.gz", "is cut off or damaged"
    write_volume(root / "five.nii.gz", np.zeros((4, 5, 6, 2, 2), np.int16))
    yield "five.nii.gz", "has 5 dimensions; volumes of three are read"
    write_volume(root / "time.nii.gz", np.zeros((4, 5, 6, 9), np.int16))
    yield "time.nii.gz", "has 9 volumes along its fourth axis, too many"
    write_volume(root / "complex.nii", np.zeros((4, 5, 6), np.complex64))
    yield "complex.nii", "holds colours or complex numbers"
    write_volume(root / "nan.nii", np.full((4, 5, 6), np.nan, np.float32))
    yield "nan.nii", "not finite"
    huge = nibabel.Nifti1Header()
    huge.set_data_shape((30000, 30000, 30000))
    huge["vox_offset"], huge["magic"] = 352, b"n+1"
    (root / "huge.nii.gz").write_bytes(gzip.compress(huge.binaryblock + bytes(1000)))
    yield "huge.nii.gz", "MiB of voxels; compressed files are read up to 768 MiB"
    (root / "large.nii").write_bytes(huge.binaryblock + bytes(1000))
    yield "large.nii", "is cut off"
    flat = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), None)
    flat.header["sform_code"] = 1  # of zeros alone
    nibabel.save(flat, root / "flat.nii")
    content = bytearray((root / "flat.nii").read_bytes())
    content[254:256], content[280:328] = (1).to_bytes(2, "little"), bytes(48)
    (root / "flat.nii").write_bytes(content)
    yield "flat.nii", "its affine has no inverse"
    (root / "folder.nii").mkdir()
    yield "folder.nii", None


def test_bad_files_get_a_sentence_in_bounded_time(tmp_path):
    expected = dict(damaged(tmp_path))
    begun = time.monotonic()
    said = {}
    for fault in verified(tmp_path)["faults"]:
        said.setdefault(Path(fault["file"]).name, fault["reason"])
    assert time.monotonic() - begun < 10
    for name, clause in expected.items():
        if clause is not None:
            assert name in said[name]
            assert clause in said[name]


def test_a_bomb_is_not_unpacked(tmp_path):
    """More than a gigabyte of zeros in some megabytes, before the voxels and behind them."""
    header = nibabel.Nifti1Header()
    header.set_data_shape((10, 10, 10))
    header["magic"] = b"n+1"
    packed = {}
    for name, offset in (("before", 2**30 + 2**27), ("behind", 352)):
        header["vox_offset"] = offset
        packed[name] = header.binaryblock
    with gzip.open(tmp_path / "before.nii.gz", "wb", compresslevel=1) as file:
        file.write(packed["before"])
        for _ in range(2**10 + 2**7):
            file.write(bytes(2**20))
    content = (tmp_path / "before.nii.gz").read_bytes()
    assert len(content) < 2**24
    (tmp_path / "behind.nii.gz").write_bytes(gzip.compress(packed["behind"]) + content)
    code = f"""
from pathlib import Path
from transeg.core.data.volume_file import VolumeFile
from transeg.core.errors import DataError
try:
    VolumeFile(Path({str(tmp_path / "before.nii.gz")!r}), "this")
    raise SystemExit("nothing was said")
except DataError as error:
    assert "damaged header" in str(error)
VolumeFile(Path({str(tmp_path / "behind.nii.gz")!r}), "this").image(2, 0)
# not ru_maxrss, which is at least that of the process that began this one
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))
"""
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2**20  # KiB
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_whatever_is_damaged_gives_pixels_or_a_sentence(tmp_path, ending):
    random = np.random.default_rng(7)
    path = tmp_path / f"a{ending}"
    write_volume(path, random.integers(0, 999, (12, 13, 14), dtype=np.int16))
    whole = path.read_bytes()
    begun, said = time.monotonic(), []
    for _ in range(400):
        content = bytearray(whole[: int(random.integers(len(whole))) if random.random() < 0.2 else len(whole)])
        for place in random.integers(0, max(1, min(len(content), 352 if random.random() < 0.8 else len(content))), 3):
            if place < len(content):
                content[place] = int(random.integers(256))
        path.write_bytes(content)
        try:
            volume = VolumeFile(path, "this")
            image = volume.image(2, 0)
            assert image.dtype == np.float32
            assert image.min() >= 0
            assert image.max() <= 1
            assert np.isfinite(volume.pixel_size_of(2)).all()
        except DataError as error:
            said.append(str(error))
    assert len(said) > 50
    assert all(str(path) in sentence for sentence in said)
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(
    "name", ["anatomical.nii", "example_nifti2.nii.gz", "standard.nii.gz", "reoriented_anat_moved.nii"]
)
def test_real_volumes_verify(tmp_path, name):
    (tmp_path / name).write_bytes((BUNDLED / name).read_bytes())
    image = nibabel.load(BUNDLED / name)
    found = verified(tmp_path)
    assert not found["faults"]
    assert found["images"] == nibabel.as_closest_canonical(image).shape[2]
    volume = VolumeFile(tmp_path / name, "this")
    canonical = nibabel.as_closest_canonical(image)
    assert volume.spacing == pytest.approx(np.multiply(canonical.header.get_zooms()[:3], 1000), rel=1e-4)
    low, high = volume.ranges[0]
    middle = volume.shape[2] // 2
    voxels = np.asarray(canonical.dataobj).reshape(*volume.shape, -1)[:, :, middle, 0]
    wanted = ((voxels - low) / (high - low)).clip(0, 1).T[::-1, ::-1]
    assert np.allclose(volume.image(2, middle)[:, :, 0], wanted, atol=1e-5)


def test_a_series_in_time_is_refused(tmp_path):
    (tmp_path / "functional.nii").write_bytes((BUNDLED / "functional.nii").read_bytes())
    assert "has 20 volumes along its fourth axis" in verified(tmp_path)["faults"][1]["reason"]


def test_a_volume_is_unpacked_once(tmp_path, monkeypatch):
    nifti(tmp_path)
    count = []
    monkeypatch.setattr(volume_file.gzip, "open", lambda path: count.append(path) or gzip.GzipFile(path))
    dataset = all_of(tmp_path)
    for index in range(len(dataset)):
        dataset[index]
    assert len(count) == len(set(count)) * 2  # for the header, and for the voxels


def test_it_says_what_is_missing(tmp_path, monkeypatch):
    nifti(tmp_path)
    monkeypatch.setattr("transeg.core.optional_packages.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"The dataset nifti needs nibabel.*pip install 'transeg\[nifti\]'"):
        VolumeFile(tmp_path / "images" / "case0.nii.gz", "The dataset nifti")
