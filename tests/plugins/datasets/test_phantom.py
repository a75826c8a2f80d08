import numpy as np
import pytest

from transeg.plugins.datasets.phantom import Phantom
from transeg.plugins.datasets.phantom.scene import Scene, draw_scene, render_view


def scene(centres=(), radii=()):
    """A straight, round tube without folds."""
    return Scene(
        shift=np.zeros(2),
        bend=np.zeros(2),
        lobes=(0.0, 0.0),
        folds=(0.0, 1.0, 0.0),
        centres=np.array(centres, np.float32).reshape(-1, 3),
        radii=np.array(radii, np.float32),
        gaze=np.eye(3, dtype=np.float32),
    )


def test_the_wall_of_a_plain_tube_is_where_it_is():
    seen = render_view(scene(), 64)
    radius = np.hypot(seen.points[..., 0], seen.points[..., 1])
    near = seen.points[..., 2] < 8  # farther than that the tube is endless
    assert np.abs(radius[near] - 1).max() < 0.02
    inwards = -seen.points[..., :2] / radius[..., None]
    assert (seen.normals[..., :2] * inwards).sum(-1)[near].min() > 0.99
    assert not seen.polyp.any()


def test_a_polyp_is_seen_where_it_is():
    seen = render_view(scene([(0.5, 0.0, 1.5)], [0.3]), 96)
    rows, columns = np.nonzero(seen.polyp)
    tangent = np.tan(np.radians(60))
    assert (columns.mean() + 0.5) / 96 * 2 - 1 == pytest.approx(0.5 / 1.5 / tangent, abs=0.02)
    assert (rows.mean() + 0.5) / 96 * 2 - 1 == pytest.approx(0, abs=0.02)
    on_ball = np.linalg.norm(seen.points[seen.polyp] - np.array([0.5, 0, 1.5]), axis=-1)
    assert np.abs(on_ball - 0.3).max() < 0.01


def test_what_is_in_front_hides_what_is_behind():
    seen = render_view(scene([(0, 0, 1.0), (0, 0, 3.0)], [0.4, 0.4]), 64)
    assert seen.points[seen.polyp][:, 2].max() < 1.5


def test_depth_is_the_distance():
    sample = Phantom(None, "train", count=1, side=32, depth=True)[0]
    assert sample.depth.shape == (32, 32)
    assert sample.depth.dtype == np.float32
    assert 0.1 < sample.depth.min() < sample.depth.max() < 25
    assert Phantom(None, "train", count=1, side=32)[0].depth is None


def test_domains_splits_and_seeds_show_different_scenes():
    masks = {
        (domain, split, seed): Phantom(None, split, domain=domain, seed=seed, count=10, side=32)[0].mask.tobytes()
        for domain in ("clean", "scope")
        for split in ("train", "val", "test")
        for seed in (0, 1)
    }
    assert len(set(masks.values())) == len(masks)


def test_the_scope_is_rougher_than_the_render():
    def roughness(domain):
        images = [Phantom(None, "train", domain=domain, count=8)[i].image.astype(float) for i in range(8)]
        return np.mean([np.abs(np.diff(image, axis=0)).mean() for image in images])

    assert roughness("scope") > 1.3 * roughness("clean")


def test_most_scenes_show_a_polyp():
    dataset = Phantom(None, "train", count=60, side=48)
    shares = np.array([dataset[i].mask.mean() for i in range(60)])
    assert (shares > 0.002).mean() > 0.9
    assert 0.03 < shares.mean() < 0.15


def test_a_scene_follows_from_its_generator():
    one, two = (draw_scene(np.random.default_rng(5)) for _ in range(2))
    assert (one.centres == two.centres).all()


@pytest.mark.parametrize("changes", [{"count": 0}, {"side": 8}])
def test_impossible_phantoms_get_a_sentence(changes):
    with pytest.raises(ValueError, match="at least one image of 16 pixels"):
        Phantom(None, "train", **changes)


def test_samples_are_rendered_once():
    """For all trials of a search, too, each of which makes the dataset anew."""
    one, other = (Phantom(None, "train", count=1, side=16) for _ in range(2))
    assert one[0] is one[0] is other[0]


def test_sizes_and_depths_are_kept_apart():
    plain, smaller, deep = (Phantom(None, "train", count=1, **more)[0] for more in ({}, {"side": 24}, {"depth": True}))
    assert plain.image.shape[:2] == (96, 96)
    assert smaller.image.shape[:2] == (24, 24)
    assert plain.depth is None
    assert deep.depth is not None


def test_its_size_is_told_without_rendering(monkeypatch):
    """As plans ask for the size of every image."""
    dataset = Phantom(None, "train", count=3, side=32)
    monkeypatch.setattr("transeg.plugins.datasets.phantom.dataset._render", lambda *_: pytest.fail("rendered"))
    assert dataset.size_of(2) == (32, 32)
