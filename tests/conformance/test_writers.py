"""Whatever a built-in writer is given, its dataset reads as it was; what else writers must do, test_datasets checks."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transeg.core.interfaces import IGNORE, About, Sample, Written
from transeg.core.registry import Registry

REGISTRY = Registry()
COMPONENTS = [c for c in REGISTRY.components("dataset") if REGISTRY.load(c).writer is not None]
CLASSES = ("background", "myelin", "axon")
CANNOT_IGNORE = {"axon"}
"""Layouts without a value for what is unknown."""
NAMES = ["plain", "a/b", "a_b", "scan 07 (left).tif", "übergroß", "sub-rat1_sample-x_SEM", ".hidden", "n" * 140]


@pytest.fixture(params=COMPONENTS, ids=str)
def component(request):
    return request.param


def options(component):
    """What a user says so that a written tree is read."""
    domain = component.domains[0] if component.domains else ""
    return {"domain": domain} if domain else {}


def told(samples):
    """What a writer is told about the written samples at the end."""
    return [Written(sample.name, split, sample.group, sample.pixel_size) for split, sample in samples]


def write(cls, root, samples, channels=1, domain=""):
    writer = cls.writer(root, About(CLASSES, channels, "test", domain))
    for split, sample in samples:
        writer.add(sample, split)
    writer.finish(told(samples))


def drawn(name, group, channels=1, dtype=np.uint8, height=6, width=9, ignored=False, seed=0):
    random = np.random.default_rng(seed)
    image = random.random((height, width, channels), dtype=np.float32)
    if dtype != np.float32:
        image = (image * np.iinfo(dtype).max).astype(dtype)
    mask = random.integers(0, len(CLASSES), (height, width)).astype(np.uint8)
    mask[0, :3] = (0, 1, 2)
    if ignored:
        mask[1, 1] = IGNORE
    return Sample(image, mask, name, group, pixel_size=(0.1, 0.25))


def agree(one, other):
    assert (one.name, one.group) == (other.name, other.group)
    assert one.image.dtype == other.image.dtype
    assert np.array_equal(one.image, other.image)
    assert np.array_equal(one.mask, other.mask)
    assert one.pixel_size == pytest.approx(other.pixel_size)


@given(
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True),
    splits=st.lists(st.sampled_from(["train", "val", "test"]), min_size=4, max_size=4),
    channels=st.sampled_from([1, 3, 4]),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    ignored=st.booleans(),
)
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_what_is_written_is_read_as_it_was(component, tmp_path_factory, names, splits, channels, dtype, ignored):
    cls, root = REGISTRY.load(component), tmp_path_factory.mktemp("tree")
    chosen = options(component)
    ignored = ignored and component.name not in CANNOT_IGNORE
    samples = [
        (split, drawn(name, f"rat {split}", channels, dtype, 5 + index, 9, ignored and not index, index))
        for index, (name, split) in enumerate(zip(names, splits, strict=False))
    ]
    write(cls, root, samples, channels, domain=chosen.get("domain", ""))
    found = {}
    for split in ("train", "val", "test"):
        dataset = cls(root, split, **chosen)
        assert not list(dataset.faults)
        assert tuple(dataset.classes) == CLASSES
        assert dataset.channels == channels
        found |= {dataset[index].name: (split, dataset[index]) for index in range(len(dataset))}
    assert set(found) == set(names)
    for split, sample in samples:
        assert found[sample.name][0] == split
        agree(sample, found[sample.name][1])
    assert len(cls(root, "all", **chosen)) == len(names)
