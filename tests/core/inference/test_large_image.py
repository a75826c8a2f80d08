import numpy as np

from transeg.core.inference import large_image


def test_an_overview_keeps_no_more_than_it_shows(monkeypatch):
    """Every third pixel, whatever the heights of the bands; views would keep the whole image in memory."""
    monkeypatch.setattr(large_image, "OVERVIEW", 34)
    image = np.random.default_rng(0).integers(0, 256, (100, 70, 3), dtype=np.uint8)
    mask = image[:, :, 0] // 128
    overview = large_image.Overview((100, 70))
    for top, bottom in ((0, 32), (32, 33), (33, 35), (35, 100)):
        overview.add(top, image[top:bottom].copy(), mask[top:bottom].copy())
    assert np.array_equal(overview.picture, image[::3, ::3])
    assert np.array_equal(overview.mask, mask[::3, ::3])
    assert all(kept.base is None for kept in (*overview._pictures, *overview._masks))
