"""What every dataset in the registry must do, on small trees in its own layout."""

import numpy as np
import pytest
from layouts import write

from transeg.core.component_options import options
from transeg.core.data.cache import CachedDataset, SampleCache
from transeg.core.data.windows import RegionReader
from transeg.core.interfaces import IGNORE, Dataset, Region
from transeg.core.registry import Registry

REGISTRY = Registry()
COMPONENTS = list(REGISTRY.components("dataset"))
OPTIONS = {"phantom": {"count": 10, "side": 16}}
UNLABELLED = {"aligned", "unitopatho", "video"}
NOT_KEPT = {"phantom", "hdf5", "pannuke"}  # made, or in files of many images that need little decoding
NUMBERED = {"pannuke", "consep", "glas", "monuseg", "labelme", "geojson", "coco", "cvat"}


@pytest.fixture(params=COMPONENTS, ids=str)
def component(request):
    return request.param


@pytest.fixture
def build(component, tmp_path):
    root = tmp_path / component.name
    write(component.name, root)

    def make(split, **changes):
        return REGISTRY.load(component)(root, split, **{**OPTIONS.get(component.name, {}), **changes})

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


def test_its_samples_keep_the_contract(component, build):
    dataset = build("all")
    assert len(dataset.classes) >= 2
    for index in (0, len(dataset) - 1):
        sample = dataset[index]
        assert sample.image.ndim == 3
        assert sample.image.shape[2] == dataset.channels
        assert sample.image.dtype in (np.uint8, np.uint16, np.float32)
        assert (sample.mask is None) == (component.name in UNLABELLED)
        assert (sample.instances is None) == (component.name not in NUMBERED)
        assert (sample.target is None) == (not dataset.paired)
        if sample.mask is not None:
            assert sample.mask.shape == sample.size
            assert np.issubdtype(sample.mask.dtype, np.integer)
            assert set(np.unique(sample.mask)) <= {*range(len(dataset.classes)), IGNORE}
        if sample.instances is not None:
            assert sample.instances.shape == sample.size
            assert np.issubdtype(sample.instances.dtype, np.integer)
            assert ((sample.instances > 0) == ((sample.mask > 0) & (sample.mask != IGNORE))).all()
        if sample.target is not None:
            assert sample.target.shape == (*sample.size, dataset.target_channels)
        again = dataset[index]
        assert (again.image == sample.image).all()
        assert np.array_equal(again.mask, sample.mask)


def test_its_parts_are_parts_of_its_samples(build):
    dataset = build("all")
    sample = dataset[0]
    assert dataset.size_of(0) == sample.size
    part = RegionReader(dataset)(0, Region(3, 2, 7, 9))
    for name in ("image", "mask", "target", "instances", "depth"):
        whole, found = getattr(sample, name), getattr(part, name)
        assert (whole is None) == (found is None)
        assert whole is None or np.array_equal(found, whole[3:10, 2:11])


def test_what_it_says_its_samples_are_made_of_decides_them(component, build, tmp_path):
    """Kept decoded, they are as they were, and those of another domain or split do not get in the way."""
    cache = SampleCache(tmp_path / "cache", 10**9)
    datasets = [build("all", domain=domain) for domain in component.domains] or [build("all")]
    for dataset in [*datasets, *datasets]:
        cached = CachedDataset(dataset, cache)
        for index in (0, len(dataset) - 1):
            sample, found = dataset[index], cached(index)
            for name in ("image", "mask", "target", "instances", "depth", "name", "group", "pixel_size"):
                assert np.array_equal(getattr(found, name), getattr(sample, name))
    assert (dataset.origin_of(0) is None) == (component.name in NOT_KEPT)
    assert bool(list((tmp_path / "cache").glob("*.sample"))) == (component.name not in NOT_KEPT)


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
