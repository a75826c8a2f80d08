from contextlib import suppress

import numpy as np
import pytest
import torch
from layouts import tissue_slide, write_pyramid

from transeg.core.data.slide_file import open_slide
from transeg.core.data.tissue_map import map_tissue
from transeg.core.errors import UsageError
from transeg.core.inference import slide_masks
from transeg.core.inference.finished_squares import FinishedSquares, finishing_squares
from transeg.core.inference.slide_masks import SlideSegmenter
from transeg.core.inference.sliding_window import Inference
from transeg.core.inference.trained_model import DomainProperties

ALL = np.s_[:, :]


class Model:
    """Segments what is dark compared to the mean of its window, so that every window says something else."""

    device = torch.device("cpu")
    domains = DomainProperties(("background", "nucleus"), 3, 3)

    def __init__(self):
        self.windows = []

    def segment(self, windows, places):
        self.windows += places.tolist()
        return (windows.mean(dim=(1, 2, 3), keepdim=True) - windows.mean(dim=1, keepdim=True)).round(decimals=3)


@pytest.fixture
def view(tmp_path):
    random = np.random.default_rng(0).integers(0, 60, (256, 320, 1), dtype=np.uint8)
    write_pyramid(tmp_path / "a.tif", tissue_slide()[0] - random)
    return open_slide(tmp_path / "a.tif", "This").view((1, 1))


def segmented(view, side, monkeypatch, *, tissue=None, window=32, **options):
    monkeypatch.setattr(slide_masks, "SIDE", side)
    model = Model()
    segmenter = SlideSegmenter(model, Inference(None, window, **options), 0)
    rows = [
        np.concatenate([segmenter.mask(view, tissue, square) for square in squares], axis=1)
        for squares in segmenter.strips(view.size)
    ]
    return np.concatenate(rows), model.windows


@pytest.mark.parametrize("options", [{}, {"multiple": 8}, {"window": 40, "multiple": 16}, {"flips": True}])
def test_masks_do_not_depend_on_the_squares(view, options, monkeypatch):
    whole, _ = segmented(view, 4096, monkeypatch, **options)
    assert whole.shape == view.size
    assert 0.1 < whole.mean() < 0.9
    for side in (64, 50):
        assert (segmented(view, side, monkeypatch, **options)[0] == whole).all()


def test_only_windows_with_tissue_are_segmented(view, monkeypatch):
    whole, windows = segmented(view, 4096, monkeypatch)
    tissue = map_tissue(view.slide)
    for side in (4096, 64):
        found, fewer = segmented(view, side, monkeypatch, tissue=tissue)
        assert (found == whole * tissue.found).all()
        assert len(fewer) < len(windows) * (0.8 if side > 64 else 2)


def test_squares_are_kept_and_those_of_another_computation_are_not(tmp_path):
    path, random = tmp_path / ".a.squares", np.random.default_rng(0)
    squares = [random.integers(0, 3, (20, n), dtype=np.uint8) for n in (30, 7)]
    kept = FinishedSquares(path, b"one")
    for square in squares:
        kept.add(square)
    again = FinishedSquares(path, b"one")
    assert len(again) == 2
    assert all((a == b).all() for a, b in zip(again, squares, strict=True))
    content = path.read_bytes()
    for cut in (1, 25, 60):
        path.write_bytes(content[:-cut])
        assert len(FinishedSquares(path, b"one")) == 1
    path.write_bytes(content[:-9] + bytes(9))
    half = FinishedSquares(path, b"one")
    half.add(squares[1])
    assert all((a == b).all() for a, b in zip(FinishedSquares(path, b"one"), squares, strict=True))
    assert len(FinishedSquares(path, b"two")) == 0
    assert len(FinishedSquares(path, b"one")) == 0


def test_squares_are_gone_when_all_has_gone_well_and_one_process_adds_to_them(tmp_path):
    path = tmp_path / "masks" / ".a.squares"
    with suppress(KeyError), finishing_squares(path, b"one") as kept:
        kept.add(np.ones((3, 3), np.uint8))
        raise KeyError
    assert [left.name for left in path.parent.iterdir()] == [path.name]
    with finishing_squares(path, b"one") as kept:
        assert len(kept) == 1
        with pytest.raises(UsageError, match=r"Another process writes .*\.a\.squares"), finishing_squares(path, b"one"):
            pass
    assert not list(path.parent.iterdir())
