"""What every writer in the registry must do: what it writes, its dataset reads as it was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transeg.core.errors import DataError, TransegError
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


@pytest.fixture
def layout(component, tmp_path):
    """The dataset's class, its options, and a function that makes a writer."""
    cls, chosen = REGISTRY.load(component), options(component)
    return cls, chosen, lambda: cls.writer(tmp_path, About(CLASSES, 1, "test", chosen.get("domain", "")))


def test_it_goes_on_where_it_was_interrupted(layout, tmp_path):
    cls, chosen, make = layout
    one, two = drawn("one", "first"), drawn("two", "second", seed=1)
    assert not make().has("one", "train")
    make().add(one, "train")
    writer = make()
    assert writer.has("one", "train")
    assert not writer.has("two", "train")
    writer.add(two, "train")
    writer.finish(told([("train", one), ("train", two)]))
    assert make().has("one", "train")
    assert make().has("two", "train")
    dataset = cls(tmp_path, "all", **chosen)
    agree(one, dataset[0])
    agree(two, dataset[1])


def test_processes_write_side_by_side(layout, tmp_path):
    cls, chosen, make = layout
    first, second = make(), make()
    samples = [("train", drawn("one", "a")), ("test", drawn("two", "b"))]
    first.add(samples[0][1], "train")
    second.add(samples[1][1], "test")
    first.finish(told(samples))
    assert len(cls(tmp_path, "train", **chosen)) == len(cls(tmp_path, "test", **chosen)) == 1


def test_what_was_not_announced_is_refused(layout, tmp_path):
    _, _, make = layout
    writer = make()
    with pytest.raises(DataError, match="channels"):
        writer.add(drawn("one", "a", channels=3), "train")
    with pytest.raises(DataError, match="class"):
        writer.add(replace(drawn("one", "a"), mask=np.full((6, 9), 7, np.uint8)), "train")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_failed_write_leaves_nothing_that_counts(layout, monkeypatch):
    _, _, make = layout
    rename, left = Path.replace, []

    def failing(self, target):
        if not left:
            raise OSError("no space left")
        left.pop()
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    files = 0
    while not make().has("one", "train"):
        left[:] = [True] * files
        try:
            make().add(drawn("one", "a"), "train")
        except (OSError, TransegError):
            assert not make().has("one", "train")
            files += 1
    assert files > 0
