import numpy as np
import pytest
import torch

from transeg.core.data.images import renumber_instances
from transeg.core.inference.conditioning import Conditioning, find_boundaries
from transeg.core.inference.sliding_window import Inference
from transeg.core.interfaces import IGNORE, Batch, Sample

MASK = torch.tensor([[[0, 0, 1, 1], [0, 2, 1, IGNORE]]])


def test_a_label_map_becomes_one_channel_for_each_class():
    planes = Conditioning("mask", 3, 3).encode(MASK, None)
    assert planes.shape == (1, 3, 2, 4)
    assert planes.dtype == torch.float32
    known = MASK[0] != IGNORE
    assert torch.equal(planes.argmax(1)[0][known], MASK[0][known])
    assert planes.sum(1)[0].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_outlines_are_where_a_neighbour_differs():
    instances = torch.tensor([[[1, 1, 2, 2], [1, 1, 2, 2], [0, 0, 0, 0], [0, 0, 0, 0]]])
    assert find_boundaries(instances)[0].int().tolist() == [[0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]]


def test_touching_objects_of_one_class_are_told_apart():
    mask = torch.ones(1, 4, 4, dtype=torch.long)
    instances = torch.tensor([[1, 1, 2, 2]]).expand(4, -1)[None]
    given = Conditioning("mask+boundary", 2, 3)
    assert given.channels == 3
    assert given.encode(mask, None)[0, 2].sum() == 0
    assert given.encode(mask, instances)[0, 2].tolist() == [[0, 1, 1, 0]] * 4


def test_of_a_batch_the_images_become_what_is_to_be_made():
    batch = Batch(torch.rand(1, 3, 2, 4), MASK, None, torch.arange(1), 0)
    seen = Conditioning("mask", 3, 3).batch(batch)
    assert torch.equal(seen.target, batch.source)
    assert seen.source.shape == (1, 3, 2, 4)
    assert Conditioning("image", 3, 3).batch(batch) is batch


def test_samples_are_resized_without_interpolation():
    mask = np.kron(np.array([[0, 2], [1, 0]], np.uint8), np.ones((15, 15), np.uint8))
    sample = Sample(np.zeros((30, 30, 3), np.uint8), mask, "x", "g", instances=mask.astype(np.int32) * 70_000)
    planes = Conditioning("mask+boundary", 3, 3).sample(sample, Inference(8))
    assert planes.shape == (4, 8, 8)
    assert set(planes.unique().tolist()) == {0, 1}
    assert torch.equal(planes[:3].sum(0), torch.ones(8, 8))
    assert planes[2, :4, 4:].all()


@pytest.mark.parametrize("top", [5, 65_535, 10_000_000])
def test_numbers_stay_apart_in_16_bits(top):
    numbers = np.array([[0, 1], [top - 1, top]], np.int64)
    result = renumber_instances(numbers)
    assert result.dtype == np.uint16
    assert result[0, 0] == 0
    assert len(np.unique(result)) == len(np.unique(numbers))
