"""Stain transfer, beside torchstain and where there is no stain."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from transeg.core.interfaces import Noise
from transeg.plugins.generators.stain import Stain
from transeg.plugins.generators.stain.lab import lab_to_rgb, rgb_to_lab
from transeg.plugins.generators.stain.macenko import quantile

RUIFROK = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
"""Haematoxylin and eosin after Ruifrok and Johnston."""
PURPLE = np.array([[0.56, 0.72, 0.41], [0.24, 0.82, 0.52]])
FADED = 0.8 * np.array([[0.50, 0.70, 0.51], [0.30, 0.70, 0.65]])
METHODS = pytest.mark.parametrize("method", ["macenko", "reinhard"])


def tissue(seed, stains=RUIFROK, most=(1.8, 1.1), size=(48, 40)):
    """``(H, W, 3)`` uint8: two stains that mix, with as much of each as said."""
    rng = np.random.default_rng(seed)
    amount = np.stack([gaussian_filter(rng.random(size), 3) for _ in stains])
    low, high = (edge(axis=(1, 2), keepdims=True) for edge in (amount.min, amount.max))
    amount = (amount - low) / (high - low) * np.array(most)[:, None, None] + rng.normal(0, 0.02, amount.shape)
    return (240 * np.exp(-np.einsum("sc,shw->hwc", stains, amount))).clip(0, 255).astype(np.uint8)


def signed(*images):
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def levels(tensor):
    """``(N, H, W, 3)`` uint8 as torchstain makes it, which cuts off what is behind the point."""
    return ((tensor.permute(0, 2, 3, 1) + 1) * 127.5 + 1e-3).numpy().astype(np.uint8)


def fitted(method, *targets):
    generator = Stain(3, 3, method=method, references=len(targets))
    generator.fit(signed(*targets))
    return generator


@METHODS
def test_colours_are_those_of_torchstain(method):
    torchstain = pytest.importorskip("torchstain.base.normalizers")
    build = {"macenko": torchstain.MacenkoNormalizer, "reinhard": torchstain.ReinhardNormalizer}[method]
    target = tissue(9, PURPLE, (1.3, 0.9))
    published, generator = build(backend="numpy"), fitted(method, target)
    published.fit(target)
    sources = [tissue(seed, most=(1 + seed, 1.1)) for seed in range(3)]  # each has a stain of its own
    found = levels(generator.translate(signed(*sources), "source-to-target"))
    for image, source in zip(found, sources, strict=True):
        made = published.normalize(source, **({"stains": False} if method == "macenko" else {}))
        wanted = (made[0] if method == "macenko" else made).astype(int)
        assert np.abs(image - wanted).max() <= 1
        assert np.abs(image - wanted).mean() < 0.01
        assert np.abs(source - wanted).mean() > 10


def test_the_stains_of_an_image_are_found():
    """Where some of its pixels have one stain alone."""
    parts = [tissue(0, PURPLE, most) for most in ((1.8, 0), (0, 2.0), (1.8, 2.0))]
    generator = fitted("macenko", np.concatenate(parts))
    *stains, most = generator.references[0].split((3, 3, 2))
    for found, wanted in zip(stains, PURPLE, strict=True):
        assert float(found @ torch.tensor(wanted / np.linalg.norm(wanted)).float()) > np.cos(np.radians(3))
    assert most.tolist() == pytest.approx([1.8, 2.0], rel=0.2)


def test_it_takes_the_stain_and_leaves_what_is_there():
    """Of one tissue in two stains, one becomes the other."""
    one, other = signed(tissue(0, PURPLE)), signed(tissue(0, FADED))
    generator = Stain(3, 3, references=1)
    generator.fit(other)
    moved = generator.translate(one, "source-to-target")
    assert (moved - other).abs().mean() < 0.1 * (one - other).abs().mean()


@METHODS
def test_each_image_gets_a_target_of_its_own(method):
    generator = fitted(method, *(tissue(seed, most=(0.5 + seed / 2, 1.1)) for seed in range(4)))
    image = signed(tissue(7)).repeat(8, 1, 1, 1)
    many = generator.translate(image, "source-to-target", Noise(torch.arange(8)))
    assert len({round(each.mean().item(), 4) for each in many}) > 1
    alike = generator.translate(image[:2], "source-to-target", Noise(torch.tensor([5, 5])))
    assert torch.equal(alike[0], alike[1])


@METHODS
def test_training_in_16_bits_does_not_round_it(method):
    generator, source = fitted(method, tissue(9, PURPLE)), signed(tissue(0))
    plain = generator.translate(source, "source-to-target")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(generator.translate(source, "source-to-target"), plain)


def glass():
    return np.full((48, 40, 3), 240, np.uint8)


def hardly_any_tissue():
    image = glass()
    image[:3, :3] = tissue(0)[:3, :3]
    return image


def grey():
    return tissue(0)[:, :, :1].repeat(3, 2)


@METHODS
@pytest.mark.parametrize("make", [glass, lambda: np.zeros((48, 40, 3), np.uint8), hardly_any_tissue])
def test_what_shows_no_tissue_is_left_as_it_is(method, make):
    generator = fitted(method, tissue(9, PURPLE))
    batch = signed(make(), tissue(0))
    found = generator.translate(batch, "source-to-target")
    assert torch.equal(found[0], batch[0])
    assert not torch.allclose(found[1], batch[1], atol=0.05)
    assert found.isfinite().all()


def test_what_has_no_two_stains_is_left_as_it_is_by_macenko_alone():
    batch = signed(grey())
    assert torch.equal(fitted("macenko", tissue(9)).translate(batch, "source-to-target"), batch)
    assert not torch.allclose(fitted("reinhard", tissue(9)).translate(batch, "source-to-target"), batch, atol=0.05)


@METHODS
def test_of_the_target_stained_tissue_alone_is_learned_from(method):
    generator = Stain(3, 3, method=method, references=2)
    generator.fit(signed(glass(), tissue(9), hardly_any_tissue()))
    assert torch.equal(generator.references, fitted(method, tissue(9), tissue(9)).references)
    with pytest.raises(ValueError, match="none of 2 images of the target shows stained tissue"):
        generator.fit(signed(glass(), hardly_any_tissue()))


@pytest.mark.parametrize("channels", [(1, 1), (3, 1), (1, 3), (4, 4)])
def test_other_channels_get_a_sentence(channels):
    with pytest.raises(ValueError, match=f"are {channels[0]} and {channels[1]}, for which there are histogram and fda"):
        Stain(*channels)


def test_lab_is_that_of_scikit_image():
    rgb2lab = pytest.importorskip("skimage.color").rgb2lab
    image = torch.rand(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    image[0, :, 0] = torch.linspace(0, 0.05, 8)  # where lines take the place of powers
    wanted = np.stack([rgb2lab(each.permute(1, 2, 0).numpy()) for each in image])
    assert np.abs(rgb_to_lab(image).permute(0, 2, 3, 1).numpy() - wanted).max() < 0.01
    assert torch.allclose(lab_to_rgb(rgb_to_lab(image)), image, atol=1e-4)


def test_quantiles_are_those_of_numpy():
    draws = torch.Generator().manual_seed(0)
    values, counted = torch.randn(3, 2, 50, generator=draws), torch.rand(3, 50, generator=draws) > 0.3
    for share in (0.01, 0.5, 0.99):
        found = quantile(values, share, counted)
        for row in range(3):
            wanted = np.quantile(values[row][:, counted[row]].numpy(), share, axis=1)
            assert found[row].tolist() == pytest.approx(wanted.tolist(), abs=1e-6)


def test_a_target_without_tissue_ends_a_run_with_a_sentence(toolkit, tmp_path):
    from PIL import Image

    for domain, make in (("source", tissue), ("target", lambda _: glass())):
        for kind in ("images", "masks"):
            (tmp_path / domain / kind).mkdir(parents=True)
        for number in range(10):
            Image.fromarray(make(number)).save(tmp_path / domain / "images" / f"{number}.png")
            mask = np.zeros((48, 40), np.uint8)
            mask[:20] = 255
            Image.fromarray(mask).save(tmp_path / domain / "masks" / f"{number}.png")
    parts = ["--generator", "stain", "--segmenter", "unet"]
    parts += ["--source", f"folder:{tmp_path / 'source'}", "--target", f"folder:{tmp_path / 'target'}"]
    settings = ["data.size=32", "train.iterations=1", "segmenter.base=4", "baseline=none"]
    options = [text for setting in settings for text in ("--set", setting)]
    result = toolkit("run", *parts, *options, "--run-dir", tmp_path / "run", code=2)
    said = " ".join(result.stderr.split())
    assert "generator: none of 10 images of the target shows stained tissue to learn from." in said
    assert "Traceback" not in said


@pytest.mark.parametrize("channels", [1, 5])
def test_other_images_than_rgb_are_refused(channels):
    with pytest.raises(ValueError, match=r"for RGB images"):
        Stain(channels, channels)
