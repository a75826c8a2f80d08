import csv
import math

import numpy as np
import parity
import pytest
import torch
from torchmetrics.functional.segmentation import dice_score, mean_iou

from transeg.core.evaluation import ratios, score, summarize, write_csv

EXPECTED = parity.read("losses_metrics")["values"]["metrics"]
NAMES = ("background", "polyp")


def disk(row, column, square):
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    return ((y - row) ** 2 + (x - column) ** 2 < square).long()


def reference_scores():
    logits = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2
    masks = (disk(20, 30, 225), disk(40, 20, 100))
    return [score(str(i), logits[i], mask) for i, mask in enumerate(masks)]


def test_metrics_are_the_reference_ones():
    scores = reference_scores()
    assert [s.values()["dice"] for s in scores] == pytest.approx(EXPECTED["per_image_fg_dice"])
    assert [s.values()["iou"] for s in scores] == pytest.approx(EXPECTED["per_image_fg_iou"])
    table = summarize(scores, NAMES)
    assert table["dice"] == pytest.approx(EXPECTED["mean"])
    assert table["dice_pooled"] == pytest.approx(EXPECTED["pooled_fg_dice"])
    assert table["iou_pooled"] == pytest.approx(EXPECTED["pooled_fg_iou"])


def test_metrics_agree_with_torchmetrics_over_several_classes():
    generator = torch.Generator().manual_seed(3)
    logits, mask = torch.randn(4, 32, 32, generator=generator), torch.randint(4, (32, 32), generator=generator)
    found = score("x", logits, mask).values()
    prediction = logits.argmax(0)
    kwargs = {"num_classes": 4, "include_background": False, "input_format": "index"}
    dice = dice_score(prediction[None], mask[None], average="macro", aggregation_level="samplewise", **kwargs)
    iou = mean_iou(prediction[None], mask[None], per_class=False, **kwargs)
    assert found["dice"] == pytest.approx(dice.item())
    assert found["iou"] == pytest.approx(iou.item())


def test_precision_recall_and_error():
    mask = torch.zeros(4, 4, dtype=torch.long)
    mask[0] = 1
    logits = torch.full((1, 4, 4), -100.0)
    logits[0, :2, :2] = 100.0  # two of four hit, two elsewhere
    values = score("x", logits, mask).values()
    assert values["precision"] == 0.5
    assert values["recall"] == 0.5
    assert values["mae"] == pytest.approx(4 / 16)


def test_threshold_is_a_probability_of_one_half():
    """CUT-seg cuts the logit at one half, which is a probability of 0.62."""
    mask = torch.ones(2, 2, dtype=torch.long)
    assert score("x", torch.full((1, 2, 2), 0.1), mask).values()["dice"] == 1
    assert score("x", torch.full((1, 2, 2), -0.1), mask).values()["dice"] == 0


def test_empty_masks_are_defined():
    empty = torch.zeros(4, 4, dtype=torch.long)
    nothing, something = torch.full((1, 4, 4), -9.0), torch.full((1, 4, 4), 9.0)
    both = score("both", nothing, empty).values()
    assert math.isnan(both["dice"])
    assert math.isnan(both["iou"])
    false_alarm = score("false", something, empty).values()
    assert false_alarm["dice"] == 0
    assert false_alarm["precision"] == 0
    assert math.isnan(false_alarm["recall"])
    missed = score("missed", nothing, torch.ones_like(empty)).values()
    assert missed["dice"] == missed["recall"] == missed["precision"] == 0


def test_summary_leaves_out_what_is_undefined():
    empty, full = torch.zeros(4, 4, dtype=torch.long), torch.ones(4, 4, dtype=torch.long)
    nothing, something = torch.full((1, 4, 4), -9.0), torch.full((1, 4, 4), 9.0)
    table = summarize([score("a", nothing, empty), score("b", something, full)], NAMES)
    assert table["dice"] == 1
    assert table["images"] == 2
    assert table["empty"] == 1
    assert summarize([score("a", nothing, empty)], NAMES)["dice"] is None


def test_classes_are_named():
    logits = torch.eye(3).reshape(3, 3, 1) * 9
    mask = torch.tensor([[0], [1], [2]])
    table = summarize([score("x", logits, mask)], ("background", "axon", "myelin"))
    assert table["dice_axon"] == table["dice_myelin"] == 1


def test_ratios_of_counts():
    found = ratios(np.array([[2, 1, 1], [0, 0, 0], [0, 3, 0]]))
    assert found["dice"][0] == pytest.approx(4 / 6)
    assert found["iou"][0] == pytest.approx(0.5)
    assert np.isnan(found["dice"][1])
    assert found["dice"][2] == 0


def test_csv_has_a_line_for_each_image(tmp_path):
    path = tmp_path / "deep" / "set.csv"
    write_csv(reference_scores(), path)
    rows = list(csv.DictReader(path.open()))
    assert [row["name"] for row in rows] == ["0", "1"]
    assert float(rows[0]["dice"]) == pytest.approx(EXPECTED["per_image_fg_dice"][0], abs=1e-6)
