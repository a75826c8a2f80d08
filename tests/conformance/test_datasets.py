"""What every dataset in the registry must do, on small trees in its own layout."""

import numpy as np
import pytest
from PIL import Image

from transeg.core.interfaces import Dataset
from transeg.core.options import options
from transeg.core.registry import Registry

REGISTRY = Registry()
COMPONENTS = list(REGISTRY.components("dataset"))
LAYOUTS = {
    "cvc-clinicdb": [("Original", "Ground Truth")],
    "polyp-benchmark": [
        ("TrainDataset/image", "TrainDataset/mask"),
        *(
            (f"TestDataset/{name}/images", f"TestDataset/{name}/masks")
            for name in ("Kvasir", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB", "CVC-300")
        ),
    ],
}
OPTIONS = {"phantom": {"count": 10, "side": 16}}


@pytest.fixture(params=COMPONENTS, ids=str)
def component(request):
    return request.param


@pytest.fixture
def build(component, tmp_path):
    for images, masks in LAYOUTS.get(component.name, [("images", "masks")]):
        for index in range(1, 61):
            pixels = np.random.default_rng(index).integers(0, 256, (20, 24, 3), dtype=np.uint8)
            for folder, picture in ((images, pixels), (masks, (pixels[:, :, 0] > 200).astype(np.uint8) * 255)):
                path = tmp_path / folder / f"{index * 10}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(path)

    def make(split, **changes):
        return REGISTRY.load(component)(tmp_path, split, **{**OPTIONS.get(component.name, {}), **changes})

    return make


def test_it_is_described(component):
    cls = REGISTRY.load(component)
    assert issubclass(cls, Dataset)
    assert component.entry.summary
    assert tuple(component.domains) == cls.domains
    assert all(option.help for option in options(cls).values())


def test_its_splits_are_apart_and_cut_no_group(component, build):
    for domain in component.domains or (None,):
        changes = {"domain": domain} if domain else {}
        seen, groups = {}, {}
        for split in ("train", "val", "test"):
            dataset = build(split, **changes)
            for index in range(len(dataset)):
                sample = dataset[index]
                assert seen.setdefault(sample.name, split) == split
                assert groups.setdefault(sample.group, split) == split
        everything = build("all", **changes)
        assert {everything[i].name for i in range(len(everything))} == set(seen)


def test_its_samples_keep_the_contract(build):
    dataset = build("all")
    assert len(dataset.classes) >= 2
    for index in (0, len(dataset) - 1):
        sample = dataset[index]
        assert sample.image.ndim == 3
        assert sample.image.shape[2] == dataset.channels
        assert sample.image.dtype in (np.uint8, np.uint16, np.float32)
        assert sample.mask.shape == sample.size
        assert np.issubdtype(sample.mask.dtype, np.integer)
        assert 0 <= sample.mask.min() <= sample.mask.max() < len(dataset.classes)
        again = dataset[index]
        assert (again.image == sample.image).all()
        assert (again.mask == sample.mask).all()


def test_names_are_unique(build):
    dataset = build("all")
    names = [dataset[index].name for index in range(len(dataset))]
    assert len(set(names)) == len(names)


def test_built_again_it_is_the_same(build):
    one, two = build("train"), build("train")
    if not len(one):
        one, two = build("test"), build("test")
    assert [one[i].name for i in range(len(one))] == [two[i].name for i in range(len(two))]
    assert (one[0].image == two[0].image).all()
