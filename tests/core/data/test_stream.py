import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from transeg.core.data.stream import (
    SOURCE,
    SYNTHETIC,
    TARGET,
    Collate,
    Item,
    MixedDomain,
    ResumableBatchSampler,
    TrainingDataset,
    TrainingDomain,
    to_tensor,
    training_loader,
)
from transeg.core.data.windows import Windows
from transeg.core.errors import DataError
from transeg.core.interfaces import Dataset, Sample

CPU = torch.device("cpu")


class Numbers(Dataset):
    """Image i is filled with i."""

    def __init__(self, count, bad=None):
        self.count, self.bad = count, bad

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index == self.bad:
            raise DataError(f"image {index} is bad.")
        return Sample(np.full((8, 8, 3), index, np.uint8), np.full((8, 8), index % 2, np.uint8), str(index), str(index))


def domain(count=7, stream=SOURCE, **options):
    defaults = {"seed": 0, "limit": 0, "sampling": "shuffle", "load_size": 8, "size": 8, "transforms": []}
    return TrainingDomain(Numbers(count, options.pop("bad", None)), stream, **{**defaults, **options})


def batches(first=0, workers=0, iterations=6, batch_size=4, rank=0, ranks=1, bad=None):
    stream = TrainingDataset(domain(bad=bad), domain(5, TARGET, sampling="replacement"))
    places = ResumableBatchSampler(iterations, batch_size, rank, ranks)
    places.first = first
    return list(training_loader(stream, places, Collate(0, batch_size * ranks), workers=workers, device=CPU))


def content(batch):
    return (
        batch.positions.tolist(),
        batch.seed,
        batch.source[:, 0, 0, 0].tolist(),
        batch.source_mask[:, 0, 0].tolist(),
        batch.target[:, 0, 0, 0].tolist(),
    )


def test_shuffling_shows_every_image_before_any_comes_again():
    d = domain(7)
    for epoch in range(3):
        assert sorted(d.index(epoch * 7 + i) for i in range(7)) == list(range(7))
    assert [d.index(i) for i in range(7)] != [d.index(7 + i) for i in range(7)]


def test_replacement_draws_anew():
    d = domain(7, sampling="replacement")
    drawn = [d.index(i) for i in range(700)]
    assert all(60 < drawn.count(i) < 140 for i in range(7))
    assert len(set(drawn[:7])) < 7


def test_a_limit_takes_the_first_images():
    assert {domain(7, limit=2).index(i) for i in range(20)} == {0, 1}
    assert {domain(7, limit=1, sampling="replacement").index(i) for i in range(20)} == {0}
    assert max(domain(3, limit=9).index(i) for i in range(20)) == 2


def test_source_and_target_are_drawn_independently():
    pairs = {(s, t) for b in batches(iterations=40) for s, t in zip(*content(b)[2::2], strict=True)}
    assert len(pairs) > 30  # of 35


@pytest.mark.parametrize("first", [0, 1, 5])
@pytest.mark.parametrize("workers", [0, 2])
def test_it_begins_at_any_iteration_with_any_number_of_workers(first, workers):
    whole = [content(batch) for batch in batches()]
    assert [content(batch) for batch in batches(first, workers)] == whole[first:]


def test_ranks_share_the_joint_batch():
    whole = [content(batch) for batch in batches(batch_size=4)]
    parts = [[content(batch) for batch in batches(batch_size=2, rank=rank, ranks=2)] for rank in range(2)]
    for joint, left, right in zip(whole, *parts, strict=True):
        assert joint[0] == left[0] + right[0]
        assert joint[1] == left[1] == right[1]
        assert joint[2] == left[2] + right[2]


def test_the_same_image_is_augmented_anew():
    """One image, drawn many times: the single real image of CUT-seg."""

    class One(Numbers):
        def __getitem__(self, index):
            image = np.zeros((8, 8, 3), np.uint8)
            image[0, 0] = 255
            return Sample(image, None, "one", "one")

    flips = [{"name": "HorizontalFlip", "p": 0.5}, {"name": "VerticalFlip", "p": 0.5}]
    one = TrainingDomain(One(1), TARGET, seed=0, limit=1, sampling="replacement", load_size=8, size=8, transforms=flips)
    assert len({one[position][0].numpy().tobytes() for position in range(50)}) == 4


def test_loading_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    batches(workers=2)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_file_is_named_whatever_the_workers(workers):
    with pytest.raises(DataError) as error:
        batches(workers=workers, bad=3)
    assert str(error.value) == "image 3 is bad."


@pytest.mark.parametrize(
    ("pixels", "tensor"),
    [
        (np.full((2, 3, 4), 255, np.uint8), torch.full((4, 2, 3), 255, dtype=torch.uint8)),
        (np.full((2, 3, 1), 0.25, np.float32), torch.full((1, 2, 3), -0.5)),
    ],
)
def test_tensors_keep_eight_bits_and_scale_the_rest(pixels, tensor):
    found = to_tensor(pixels)
    assert found.dtype == tensor.dtype
    assert torch.equal(found, tensor)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_tensors_have_their_channels_first_whatever_the_memory_looks_like(channels, dtype):
    pixels = (np.random.default_rng(0).random((7, 9, channels)) * 255).astype(dtype)
    for view in (pixels, pixels[::-1, 1:5], pixels.transpose(1, 0, 2)):
        expected = view.transpose(2, 0, 1) if dtype is np.uint8 else view.transpose(2, 0, 1) * np.float32(2) - 1
        assert np.array_equal(to_tensor(view).numpy(), expected)


def test_images_keep_their_own_size_where_they_are_not_resized():
    """A crop of the training size out of the image as it is; a resized one would be shrunk to it."""

    class Ramp(Numbers):
        def __getitem__(self, index):
            ramp = np.arange(40, dtype=np.uint8)[None, :, None].repeat(30, 0).repeat(3, 2)
            return Sample(ramp, ramp[:, :, 0] // 20, str(index), str(index))

    options = {"seed": 0, "limit": 0, "sampling": "shuffle", "size": 16, "transforms": []}
    image, mask, *_ = TrainingDomain(Ramp(1), SOURCE, load_size=None, **options)[0]
    assert image.shape == (3, 16, 16)
    assert (image[:, :, 1:].int() - image[:, :, :-1].int() == 1).all()
    assert (mask == (image[0] >= 20)).all()


@pytest.mark.parametrize("share", [0.0, 0.25, 1 / 3, 0.9, 1.0])
def test_a_mixture_keeps_its_share_and_shows_each_side_in_its_own_order(share):
    options = {"seed": 0, "limit": 0, "sampling": "shuffle", "load_size": 4, "size": 4, "transforms": []}
    real, synthetic = TrainingDomain(Numbers(7), SOURCE, **options), TrainingDomain(Numbers(5), SYNTHETIC, **options)

    class Marked:
        def __init__(self, domain, name):
            self.domain, self.name = domain, name

        def __getitem__(self, position):
            return self.name, position, self.domain[position].image.flatten()[0].item()

    mixture = MixedDomain(Marked(real, "real"), Marked(synthetic, "synthetic"), share)
    seen = [mixture[position] for position in range(60)]
    assert abs(sum(name == "synthetic" for name, *_ in seen) - 60 * share) < 1
    for name, domain in (("real", real), ("synthetic", synthetic)):
        own = [(position, value) for side, position, value in seen if side == name]
        assert own == [(i, domain[i].image.flatten()[0].item()) for i in range(len(own))]


def test_a_batch_with_half_of_its_masks_is_refused():
    image, mask = torch.zeros(3, 4, 4), torch.zeros(4, 4)
    items = [Item(0, image, mask, None), Item(1, image, None, None)]
    with pytest.raises(DataError, match="others have none"):
        Collate(0, 2)(items)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_batch_knows_its_iteration_wherever_it_begins_and_on_any_rank(ranks):
    for rank in range(ranks):
        assert [batch.iteration for batch in batches(first=2, rank=rank, ranks=ranks)] == [2, 3, 4, 5]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_as_it_was_when_a_tensor_was_made_of_it(dtype, channels):
    image = np.random.default_rng(0).random((5, 4, channels)).astype(dtype)
    before = image.copy()
    first = to_tensor(image)
    assert np.array_equal(image, before)
    assert torch.equal(first, to_tensor(image))


def test_a_batch_is_pinned_where_a_gpu_will_copy_from_it(monkeypatch):
    """PyTorch's loader leaves objects alone that do not say how they are pinned."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *_: pinned.append(tensor) or tensor.clone())
    (batch,) = batches(iterations=1)
    found = pin_memory(batch)
    assert {id(tensor) for tensor in pinned} == {
        id(tensor) for tensor in (batch.source, batch.source_mask, batch.target, batch.positions)
    }
    assert found.source is not batch.source
    assert content(found) == content(batch)
    assert (found.seed, found.iteration, found.instances) == (batch.seed, batch.iteration, None)


def test_workers_that_wait_for_another_round_keep_no_program_from_ending():
    code = """
from torch.utils.data import DataLoader
from transeg.core.data.stream import begin_worker
loader = DataLoader(range(4), num_workers=1, persistent_workers=True, worker_init_fn=begin_worker)
assert len(list(loader)) == 4
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


class Scenes(Dataset):
    """Bright where an image shows anything, and black elsewhere."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows, columns = np.mgrid[:24, :32]
        valid = np.hypot(rows - 12, columns - 10 - 3 * index) < 9
        return Sample(np.where(valid, 255, 0).astype(np.uint8)[:, :, None], None, str(index), "a", valid=valid)


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("bordered", [False, True])
def test_what_shows_anything_moves_with_its_image(bordered, windows):
    moves = [{"name": "D4", "p": 1.0}, {"name": "Affine", "scale": (0.6, 1.4), "rotate": (-45, 45), "p": 1.0}]
    if bordered:
        moves[1] |= {"fill_mask": 255}
    options = {"seed": 0, "limit": 0, "sampling": "shuffle", "load_size": None if windows else 32, "size": 16}
    cut = Windows([(24, 32)] * 3, 20, 10) if windows else None
    target = TrainingDomain(Scenes(), TARGET, transforms=moves, windows=cut, **options)
    items = [TrainingDataset(domain(3, load_size=16, size=16), target)[place] for place in range(8)]
    batch = Collate(0, 8)(items)
    bright = batch.target[:, 0] > 127
    assert batch.target_valid.dtype == torch.bool
    assert 0.2 < batch.target_valid.float().mean() < 0.9
    assert (bright == batch.target_valid).float().mean() > 0.93  # but for the outline, which images interpolate
    alone = TrainingDataset(None, target)[0]
    assert torch.equal(alone.target_valid, items[0].target_valid)
    assert TrainingDataset(domain(3), domain(3, TARGET))[0].target_valid is None
