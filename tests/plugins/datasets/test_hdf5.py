import logging
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from layouts import hdf5, pixels
from scipy.io import savemat
from torch.utils.data import DataLoader

from transeg.core.errors import DataError
from transeg.core.experiment.command_line import parse_dataset
from transeg.core.interfaces import IGNORE, Region
from transeg.core.registry import Registry
from transeg.plugins.datasets.hdf5 import HDF5

REAL = Path(os.environ.get("TRANSEG_DATA", "/nonexistent")) / "mr-t1t2"
VOLUME = np.random.default_rng(0).random((5, 6, 9), np.float32)
"""Images, widths, heights."""


def matlab(path, data=VOLUME, variable="data_fs"):
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file[variable] = data
    return path.parent


def numbered(path, **domains):
    with h5py.File(path, "w") as file:
        for domain, images in domains.items():
            for number, image in enumerate(images):
                file[f"{domain}/{number}"] = image


def names(dataset):
    return [dataset[index].name for index in range(len(dataset))]


def test_axondeepsynths_images_are_read_by_domain(tmp_path):
    greys = [pixels(index)[:, :, 0] for index in range(12)]
    numbered(tmp_path / "dataset_train.hdf5", sem=greys, tem=greys[:3])
    numbered(tmp_path / "dataset_val.hdf5", sem=greys[:1], tem=greys[:2])
    dataset = HDF5(tmp_path, "train", domain="sem")
    assert names(dataset)[9:] == [f"dataset_train-sem-{number}" for number in (9, 10, 11)]
    assert all((dataset[number].image[:, :, 0] == greys[number]).all() for number in range(12))
    assert dataset[0].mask is None
    assert [len(HDF5(tmp_path, split, domain="tem")) for split in ("train", "val", "test", "all")] == [3, 2, 0, 5]
    with pytest.raises(ValueError, match="domains sem, tem; say which"):
        HDF5(tmp_path, "train")
    with pytest.raises(ValueError, match=r"'tam'.*did you mean 'tem'"):
        HDF5(tmp_path, "train", domain="tam")


def test_labels_have_the_values_that_are_said(tmp_path):
    with h5py.File(tmp_path / "dataset_tem.hdf5", "w") as file:
        file["tem/images/0"] = np.zeros((2, 3), np.uint8)
        file["tem/labels/0"] = np.array([[0, 127, 255], [0, 9, 0]], np.uint8)
    dataset = HDF5(tmp_path, "all", classes=("background", "myelin", "axon"), values=(0, 127, 255), ignore=9)
    assert dataset[0].mask.tolist() == [[0, 1, 2], [0, IGNORE, 0]]
    with pytest.raises(DataError, match="0, 9, 127, 255; say which stand for the classes with the option values"):
        HDF5(tmp_path, "all")[0]
    with pytest.raises(DataError, match=r"values \[9\]"):
        HDF5(tmp_path, "all", classes=("background", "myelin", "axon"), values=(0, 127, 255))[0]


def test_syndiffs_volumes_are_turned_over(tmp_path):
    for split in ("train", "val", "test"):
        matlab(tmp_path / f"data_{split}_T1.mat")
        matlab(tmp_path / f"data_{split}_T2.mat", VOLUME[:2])
    dataset = HDF5(tmp_path, "val", domain="T1")
    assert dataset.size_of(3) == dataset[3].size == (9, 6)
    assert (dataset[3].image[:, :, 0] == VOLUME[3].T).all()
    assert dataset[3].image.dtype == np.float32
    part = dataset.read_region(3, Region(2, 1, 4, 3))
    assert (part.image[:, :, 0] == VOLUME[3].T[2:6, 1:4]).all()
    assert len(HDF5(tmp_path, "all", domain="T2")) == 6


def test_channels_come_first_in_matlab(tmp_path):
    many = np.random.default_rng(1).random((3, 4, 5, 6), np.float32)
    dataset = HDF5(matlab(tmp_path / "data_train_both.mat", many), "train")
    assert dataset.channels == 3
    assert (dataset[1].image == many[:, 1].transpose(2, 1, 0)).all()


def test_one_file_is_shared_out(tmp_path):
    root = matlab(tmp_path / "T1.mat", np.zeros((20, 4, 4), np.float32))
    parts = [set(names(HDF5(root, split, seed=3))) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [16, 2, 2]
    assert len(set.union(*parts)) == 20


def test_the_scale_is_the_same_for_all_images(tmp_path):
    root = matlab(tmp_path / "CT.mat", np.array([[[-1000, 0]], [[1000, 3000]]], np.int16))
    dataset = HDF5(root, "all", range=(-1000, 1000))
    assert dataset[0].image.ravel().tolist() == [0.0, 0.5]
    assert dataset[1].image.ravel().tolist() == [1.0, 1.0]
    with pytest.raises(DataError, match="range="):
        HDF5(root, "all")[1]
    with pytest.raises(ValueError, match="must be increasing"):
        HDF5(root, "all", range=(1, 1))


def test_what_overshoots_is_cut_off_and_said(tmp_path, caplog):
    root = matlab(tmp_path / "T2.mat", np.array([[[-0.05, 0.5, 1.2]]], np.float64))
    with caplog.at_level(logging.WARNING, "transeg.data"):
        image = HDF5(root, "all")[0].image
        HDF5(root, "all")[0]
    assert image.dtype == np.float32
    assert image.ravel().tolist() == [0.0, 0.5, 1.0]
    assert sum("cut off" in message for message in caplog.messages) == 1


def test_a_given_pixel_size_counts(tmp_path):
    hdf5(tmp_path)
    assert HDF5(tmp_path, "all").pixel_size_of(0) is None
    assert HDF5(tmp_path, "all", pixel_um=0.25)[0].pixel_size == (0.25, 0.25)


class InWorkers:
    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        image = self.dataset[index].image
        return int(image.sum()), self.dataset._process == os.getpid()


def test_every_process_opens_files_for_itself(tmp_path):
    hdf5(tmp_path)
    dataset = InWorkers(HDF5(tmp_path, "all"))
    expected = [dataset[index] for index in range(len(dataset))]
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert list(map(tuple, loader)) == expected
    assert [dataset[index] for index in range(len(dataset))] == expected
    assert len(dataset.dataset._open) == 3
    copy = pickle.loads(pickle.dumps(dataset))
    assert not copy.dataset._open
    assert [copy[index] for index in range(len(copy))] == expected


def test_what_is_no_such_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no images"):
        HDF5(tmp_path, "all")
    savemat(tmp_path / "old.mat", {"data_fs": VOLUME})
    with pytest.raises(ValueError, match=r"-v7\.3"):
        HDF5(tmp_path, "all")
    (tmp_path / "old.mat").unlink()
    matlab(tmp_path / "flat.mat", VOLUME[0])
    with pytest.raises(ValueError, match="images, width, height"):
        HDF5(tmp_path, "all")


def external_link(file, secret):
    file["sem/0"] = h5py.ExternalLink(secret, "/data")


def external_group(file, secret):
    file["sem"] = h5py.ExternalLink(secret, "/group")


def link_to_a_link(file, secret):
    file["sem/.else"] = h5py.ExternalLink(secret, "/group")
    file["aside"] = np.zeros(3)
    file["a-domain/0"] = h5py.SoftLink("/sem/.else/0")


def external_labels(file, secret):
    file["sem/images/0"] = np.zeros((4, 4), np.uint8)
    file["sem/labels/0"] = h5py.ExternalLink(secret, "/data")


def external_storage(file, secret):
    file.create_group("sem").create_dataset("0", (4, 4), np.uint8, external=[(secret.with_suffix(".bin"), 0, 16)])


def virtual(file, secret):
    layout = h5py.VirtualLayout((4, 4), np.uint8)
    layout[:] = h5py.VirtualSource(secret, "data", (4, 4))
    file.create_virtual_dataset("sem/0", layout)


def external_volume(file, secret):
    file["data_fs"] = h5py.ExternalLink(secret, "/data")


@pytest.mark.parametrize(
    "write",
    [external_link, external_group, link_to_a_link, external_labels, external_storage, virtual, external_volume],
)
def test_nothing_is_read_from_another_file_than_it(tmp_path, write):
    """A file from elsewhere could point to any file of this machine."""
    folder, secret = tmp_path / "set", tmp_path / "secret.h5"
    folder.mkdir()
    with h5py.File(secret, "w") as file:
        file["data"] = file["group/0"] = np.full((4, 4), 7, np.uint8)
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    with h5py.File(folder / "a.h5", "w") as file:
        write(file, secret)
    with pytest.raises(ValueError, match="lies in another file, which is never read"):
        HDF5(folder, "all")


def test_domains_are_named_on_the_command_line(tmp_path):
    registry = Registry()
    assert parse_dataset("hdf5:T1:/data/mr", registry) == {"name": "hdf5", "domain": "T1", "root": "/data/mr"}
    assert parse_dataset("hdf5:/data/mr", registry) == {"name": "hdf5", "root": "/data/mr"}


@pytest.mark.skipif(not REAL.is_dir(), reason="TRANSEG_DATA has no mr-t1t2/")
def test_the_real_slices():
    for domain, (low, high) in (("T1", (0, 0.9)), ("T2", (0, 0.97))):
        dataset = HDF5(REAL, "all", domain=domain)
        assert len(dataset) == 25
        images = [dataset[index].image for index in range(25)]
        assert {image.shape for image in images} == {(256, 152, 1)}
        assert low <= min(image.min() for image in images)
        assert 0.5 < max(image.max() for image in images) < high
