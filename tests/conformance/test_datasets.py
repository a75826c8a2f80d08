"""Every built-in dataset keeps the contract that is checked for those of others, on a small tree in its own layout."""

from functools import partial

import pytest
from layouts import write

from transeg.core.registry import Registry
from transeg.testing import parametrize_with_checks

REGISTRY = Registry()
COMPONENTS = list(REGISTRY.components("dataset"))
OPTIONS = {"phantom": {"count": 10, "side": 16}, "slides": {"region": 64}}
TREES = {c.name: partial(write, c.name) for c in COMPONENTS if REGISTRY.describe(c).needs_root}
UNLABELLED = {"aligned", "unitopatho", "video"}
NOT_KEPT = {"phantom", "hdf5", "pannuke"}  # made, or in files of many images that need little decoding
NUMBERED = {"pannuke", "consep", "glas", "monuseg", "labelme", "geojson", "imagej", "coco", "cvat", "slides"}


@parametrize_with_checks(
    "transeg",
    kind="dataset",
    options={f"dataset/{name}": options for name, options in OPTIONS.items()},
    trees=TREES,
)
def test_contract(check):
    check()


@pytest.mark.parametrize("component", COMPONENTS, ids=str)
def test_what_its_samples_have(component, tmp_path):
    root = tmp_path / component.name
    write(component.name, root)
    dataset = REGISTRY.load(component)(root, "all", **OPTIONS.get(component.name, {}))
    for index in (0, len(dataset) - 1):
        sample = dataset[index]
        assert (sample.mask is None) == (component.name in UNLABELLED)
        assert (sample.instances is None) == (component.name not in NUMBERED)
    assert (dataset.origin_of(0) is None) == (component.name in NOT_KEPT)
