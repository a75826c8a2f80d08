"""What windows do to translated images: nothing that can be seen."""

import os
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from transeg.core.evaluation.scores import evaluate
from transeg.core.inference.sliding_window import OVERLAP, Axis, Inference
from transeg.core.inference.translator import TranslatedDataset, resample_labels, to_pixels, translation_seed
from transeg.core.interfaces import Dataset, Noise, Sample
from transeg.core.registry import Registry

CPU = torch.device("cpu")
WINDOW = 48


@pytest.fixture(scope="module")
def syndiff():
    """A tiny one whose weights are large enough for its noise to count."""
    registry = Registry()
    cls = registry.load(registry.find("generator", "syndiff"))
    torch.manual_seed(0)
    tiny = {"width": 8, "multipliers": (1, 2), "blocks": 1, "discriminator_width": 4, "translator_width": 4}
    network = cls(1, 1, preset="small", **tiny).eval()
    for parameter in network.gen_diffusive_2.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=(1.5 / parameter[0].numel()) ** 0.5)
    return network


def windowed(network, image, seed=0, shared=True):
    def forward(x, places):
        seeds = torch.full((len(x),), seed) if shared else seed + places[:, 0] * 1000 + places[:, 1]
        return network.translate(x, "source-to-target", Noise(seeds, places))

    return Inference(None, WINDOW, multiple=network.size_multiple).run(forward, image, CPU)


def picture(seed):
    coarse = torch.rand(1, 1, 16, 18, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(130, 150), mode="bilinear")[0]


def steps(image):
    """Mean absolute difference between neighbouring columns, for each column but the first."""
    return image[0].diff(dim=1).abs().mean(0)


def borders(width, multiple):
    """Columns after which a window begins or ceases to count."""
    axis = Axis.along(width, WINDOW, OVERLAP, multiple)
    inner = [start + axis.margin for start in axis.starts[1:]]
    return [*inner, *(start + axis.window - axis.margin for start in axis.starts[:-1])]


def steepness(network, shared):
    """Of the borders of windows, beside what lies between them: over two images, along both sides."""
    ratios = []
    for seed in range(2):
        result = windowed(network, picture(seed), seed, shared)
        assert result.std() > 0.1
        for image in (result, result.transpose(1, 2)):
            across = steps(image)
            inside = torch.ones_like(across, dtype=torch.bool)
            seams = torch.tensor([column - 1 for column in borders(image.shape[2], network.size_multiple)])
            inside[seams] = False
            ratios.append(across[seams].mean() / across[inside].mean())
    return torch.stack(ratios).mean()


def test_borders_of_windows_are_no_steeper_than_what_lies_between(syndiff):
    """Where each window has noise of its own, they are."""
    assert steepness(syndiff, shared=True) < 1.03 < steepness(syndiff, shared=False)


def test_overlapping_windows_agree_because_they_share_their_noise(syndiff):
    """Averaging what disagrees takes from the contrast of an image that is nothing but noise and its like."""
    image = torch.zeros(1, 130, 150)
    shared, apart = (windowed(syndiff, image, shared=shared) for shared in (True, False))
    whole = syndiff.translate(image[None, :, :128, :148], "source-to-target", Noise(torch.zeros(1, dtype=torch.long)))
    inner = np.s_[:, 16:112, 16:132]
    near, far = ((result[inner] - whole[0][inner]).abs().mean() for result in (shared, apart))
    assert near < 0.5 * far


def test_the_same_window_gives_the_same_image_wherever_it_is_asked_for(syndiff):
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise = partial(Noise, torch.tensor([5]))
    whole = syndiff.translate(image, "source-to-target", noise(torch.tensor([[0, 0]])))
    again = syndiff.translate(image, "source-to-target", noise(None))
    moved = syndiff.translate(image, "source-to-target", noise(torch.tensor([[64, 0]])))
    assert torch.equal(whole, again)
    assert not torch.equal(whole, moved)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pixels_come_back_to_the_bit(dtype):
    pixels = np.random.default_rng(0).random((30, 20, 2)) * (1 if dtype == np.float32 else np.iinfo(dtype).max)
    pixels = pixels.astype(dtype)
    largest = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    tensor = torch.from_numpy(pixels.astype(np.float64) / largest * 2 - 1).permute(2, 0, 1).float()
    assert np.abs(to_pixels(tensor, dtype).astype(np.float64) - pixels).max() <= (1e-6 if dtype == np.float32 else 0)


def test_chance_follows_the_name():
    assert translation_seed("a") == translation_seed("a") != translation_seed("b")


def test_many_objects_keep_numbers_of_their_own():
    """Files and resampling hold 16 bits; larger numbers are counted anew, not cut."""
    instances = np.array([[0, 65536], [65537, 70000]], np.int32)
    sample = Sample(np.zeros((2, 2, 1), np.uint8), None, "a", "a", instances=instances)
    found = resample_labels(sample, np.zeros((4, 4, 1), np.uint8)).instances
    assert found.shape == (4, 4)
    assert len(np.unique(found)) == 4
    assert ((found > 0) == (np.kron(instances, np.ones((2, 2))) > 0)).all()


class TwoSquares(Dataset):
    """Two labelled images."""

    classes = ("background", "square")

    def __len__(self):
        return 2

    def __getitem__(self, index):
        mask = np.zeros((32, 32), np.uint8)
        mask[8:24, 8 + index : 20] = 1
        return Sample(np.repeat(mask[:, :, None] * 255, 3, 2), mask, str(index), "")


class Translating:
    """Stands for a translator, and tells in which processes it is called."""

    makes = 3

    def __init__(self, device, note):
        self.trained, self.note = SimpleNamespace(device=torch.device(device)), note

    def __call__(self, image, name):
        with self.note.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return 255 - image


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_gpu_translates_in_the_main_process(tmp_path, device):
    """Forked processes cannot use it; of a CPU they make the same."""
    note = tmp_path / "note"
    translated = TranslatedDataset(TwoSquares(), Translating(device, note))
    scores = evaluate(lambda image, _: -image[:, :1], translated, Inference(None), CPU, workers=1)
    assert [score.values["dice"] for score in scores] == [1, 1]
    assert (set(map(int, note.read_text().split())) == {os.getpid()}) == (device == "cuda")
