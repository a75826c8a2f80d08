"""The chance that generators draw from."""

import torch

from transeg.core.interfaces import Batch, Noise


def noise(*rows):
    seeds, places = zip(*rows, strict=True)
    return Noise(torch.tensor(seeds), torch.tensor(places))


class TestNoise:
    def test_windows_share_the_field_where_they_overlap(self):
        whole = Noise(torch.tensor([7])).field(0, 2, 200, 150)
        for top, left in ((0, 0), (64, 64), (3, 17), (100, 70)):
            part = noise((7, (top, left))).field(0, 2, 80, 70)
            assert torch.equal(part, whole[:, :, top : top + 80, left : left + 70])

    def test_windows_share_the_vector(self):
        a, b, c = noise((7, (0, 0)), (7, (64, 3)), (8, (0, 0))).vector(1, 100)
        assert torch.equal(a, b)
        assert not torch.equal(a, c)

    def test_seeds_streams_and_places_draw_apart(self):
        fields = torch.cat(
            [noise((1, (0, 0)), (2, (0, 0)), (1, (128, 0))).field(0, 1, 64, 64), noise((1, (0, 0))).field(1, 1, 64, 64)]
        )
        correlations = torch.corrcoef(fields.flatten(1)) - torch.eye(4)
        assert correlations.abs().max() < 0.08

    def test_draws_are_standard_normal(self):
        field = Noise(torch.tensor([0])).field(3, 1, 256, 256)
        assert field.dtype == torch.float32
        assert abs(field.mean()) < 0.02
        assert abs(field.std() - 1) < 0.02

    def test_integers_are_alike_in_windows_and_equally_likely(self):
        a, b, c = (noise((seed, (0, 8 * i))).integers(1, 1000) for i, seed in enumerate((7, 7, 8)))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
        many = Noise(torch.arange(4000)).integers(0, 4)
        assert many.dtype == torch.int64
        assert (torch.bincount(many, minlength=4) / 4000 - 0.25).abs().max() < 0.03

    def test_a_batch_draws_by_position_on_any_rank(self):
        image = torch.zeros(2, 1, 8, 8)
        both = Batch(image, None, None, torch.tensor([4, 5]), 11).noise().vector(0, 3)
        second = Batch(image[1:], None, None, torch.tensor([5]), 11).noise().vector(0, 3)
        assert torch.equal(both[1:], second)
