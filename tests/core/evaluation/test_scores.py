import csv
import math

import numpy as np
import parity
import pytest
import torch
from shapes import case, item, several
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score
from torchmetrics.functional.classification import multiclass_calibration_error
from torchmetrics.functional.segmentation import dice_score, hausdorff_distance, mean_iou

from transeg.core.evaluation.metrics.counts import count_pixels, overlap_ratios
from transeg.core.evaluation.scores import (
    SegmentationMetric,
    score,
    score_in_detail,
    score_labels,
    summarize,
    totals,
    write_csv,
)
from transeg.core.interfaces import IGNORE

EXPECTED = parity.read("losses_metrics")["values"]["metrics"]
NAMES = ("background", "polyp")
COUNTED = ("dice", "iou", "precision", "recall", "specificity", "mae")
NOTHING, SOMETHING = torch.full((1, 4, 4), -9.0), torch.full((1, 4, 4), 9.0)
EMPTY, FULL = torch.zeros(4, 4), torch.ones(4, 4)


def disk(row, column, square):
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    return (y - row) ** 2 + (x - column) ** 2 < square


def reference_scores():
    logits = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2
    masks = (disk(20, 30, 225), disk(40, 20, 100))
    return [score_in_detail(item(mask, name=str(i), group=f"g{i}"), logits[i]) for i, mask in enumerate(masks)]


def test_metrics_are_the_reference_ones():
    scores = reference_scores()
    assert [s.values["dice"] for s in scores] == pytest.approx(EXPECTED["per_image_fg_dice"])
    assert [s.values["iou"] for s in scores] == pytest.approx(EXPECTED["per_image_fg_iou"])
    table = summarize(scores, NAMES)
    assert table["dice"] == pytest.approx(EXPECTED["mean"])
    assert table["dice_pooled"] == pytest.approx(EXPECTED["pooled_fg_dice"])
    assert table["iou_pooled"] == pytest.approx(EXPECTED["pooled_fg_iou"])
    assert table["dice_with_background_pooled"] == pytest.approx(EXPECTED["pooled_macro_dice_incl_bg(zh320)"])
    assert table["iou_with_background_pooled"] == pytest.approx(EXPECTED["pooled_macro_iou_incl_bg(zh320)"])


@pytest.mark.parametrize(
    ("published_dice", "published_iou", "foreground", "background"),
    [
        (0.9515, 0.9094, 0.918, 0.985),  # DUCKNet-17 on Kvasir-SEG
        (0.9444, 0.8972, 0.906, 0.983),  # UNet-32
        (0.9113, 0.8426, 0.852, 0.971),  # ResUNet-32
        (0.8218, 0.7296, 0.661, 0.982),  # UNet-32 on ETIS
    ],
)
def test_the_table_of_zh320_follows_from_the_foreground(published_dice, published_iou, foreground, background):
    """Its Dice and IoU over all pixels average the background in."""
    hits = 10**6
    errors = 2 * hits * (1 / foreground - 1)
    counts = np.array([[errors * background / (1 - background) / 2, 0, errors, hits], [hits, errors, 0, 0]])
    pooled = overlap_ratios(np.rint(counts))
    assert pooled["dice"].tolist() == pytest.approx([background, foreground], abs=1e-4)
    assert pooled["dice"].mean() == pytest.approx(published_dice, abs=1e-3)
    assert pooled["iou"].mean() == pytest.approx(published_iou, abs=2e-3)


@pytest.mark.parametrize("seed", range(5))
def test_counts_agree_with_scikit_learn(seed):
    truth, logits = case(np.random.default_rng(seed), 30, 40)
    values = score(item(truth), torch.from_numpy(logits)[None]).values
    flat = truth.ravel(), logits.ravel() > 0
    assert values["dice"] == pytest.approx(f1_score(*flat))
    assert values["iou"] == pytest.approx(jaccard_score(*flat))
    assert values["precision"] == pytest.approx(precision_score(*flat))
    assert values["recall"] == pytest.approx(recall_score(*flat))
    assert values["specificity"] == pytest.approx(recall_score(*flat, pos_label=0))


@pytest.mark.parametrize("seed", range(3))
def test_several_classes_agree_with_torchmetrics(seed):
    truth, logits = several(np.random.default_rng(seed), 30, 40, 4)
    values = score_in_detail(item(truth), torch.from_numpy(logits)).values
    mask, prediction = torch.from_numpy(truth)[None], torch.from_numpy(logits).argmax(0)[None]
    kwargs = {"num_classes": 4, "include_background": False, "input_format": "index"}
    dice = dice_score(prediction, mask, average="macro", aggregation_level="samplewise", **kwargs)
    assert values["dice"] == pytest.approx(dice.item())
    assert values["iou"] == pytest.approx(mean_iou(prediction, mask, per_class=False, **kwargs).item())
    error = multiclass_calibration_error(torch.from_numpy(logits)[None], mask, num_classes=4, n_bins=15)
    assert values["ece"] == pytest.approx(error.item(), abs=1e-5)
    assert values["hd95"] <= hausdorff_distance(prediction, mask, **kwargs).mean().item()
    assert not [key for key in values if key.startswith("pranet")]


def test_precision_recall_and_error():
    mask = torch.zeros(4, 4)
    mask[0] = 1
    logits = torch.full((1, 4, 4), -100.0)
    logits[0, :2, :2] = 100.0  # two of four hit, two elsewhere
    values = score(item(mask), logits).values
    assert values["precision"] == 0.5
    assert values["recall"] == 0.5
    assert values["specificity"] == pytest.approx(10 / 12)
    assert values["mae"] == pytest.approx(4 / 16)


def test_threshold_is_a_probability_of_one_half():
    """CUT-seg cuts the logit at one half, which is a probability of 0.62."""
    mask = torch.ones(2, 2)
    assert score(item(mask), torch.full((1, 2, 2), 0.1)).values["dice"] == 1
    assert score(item(mask), torch.full((1, 2, 2), -0.1)).values["dice"] == 0


def test_two_channels_are_measured_as_one():
    truth, logits = case(np.random.default_rng(0), 30, 40)
    one = torch.from_numpy(logits)[None]
    first, second = score_in_detail(item(truth), one), score_in_detail(item(truth), torch.cat([-one / 2, one / 2]))
    assert second.values == pytest.approx(first.values, abs=1e-3)  # the protocol's 256 levels round


def test_logits_come_to_the_size_of_the_truth():
    truth = disk(20, 30, 225)
    small = torch.nn.functional.avg_pool2d(truth[None].float() * 2 - 1, 2)
    assert score(item(truth), small).values["dice"] > 0.95


class TestUndefined:
    def test_nothing_to_find_and_nothing_found(self):
        values = score_in_detail(item(EMPTY), NOTHING).values
        undefined = {"dice", "iou", "precision", "recall", "hd95", "surface_dice"}
        assert {key for key, value in values.items() if math.isnan(value)} == undefined
        assert values["specificity"] == 1
        assert values["pranet_mdice"] == values["pranet_miou"] == values["pranet_wfm"] == 0

    def test_a_false_alarm(self):
        values = score_in_detail(item(EMPTY), SOMETHING).values
        assert values["dice"] == values["iou"] == values["precision"] == values["specificity"] == 0
        assert values["surface_dice"] == values["pranet_mdice"] == 0
        assert values["hd95"] == pytest.approx(math.hypot(4, 4))
        assert math.isnan(values["recall"])

    def test_a_miss(self):
        values = score_in_detail(item(FULL), NOTHING).values
        assert values["dice"] == values["recall"] == values["precision"] == values["surface_dice"] == 0
        assert values["hd95"] == pytest.approx(math.hypot(4, 4))
        assert math.isnan(values["specificity"])

    def test_an_image_of_which_nothing_is_known(self):
        unknown = score_in_detail(item(torch.full((4, 4), IGNORE)), SOMETHING)
        assert all(math.isnan(value) for value in unknown.values.values())
        table = summarize([unknown, score_in_detail(item(FULL), SOMETHING)], NAMES)
        assert table["dice"] == table["iou_with_background_pooled"] == 1
        assert table["ece_pooled"] == pytest.approx(1 - torch.tensor(9.0).sigmoid().item(), abs=1e-6)
        assert summarize([unknown], NAMES)["ece_pooled"] is None

    def test_classes_that_are_nowhere_are_left_out(self):
        mask = torch.zeros(8, 8)
        mask[2:5, 2:5] = 1
        logits = torch.nn.functional.one_hot(mask.long(), 4).permute(2, 0, 1) * 9.0
        values = score_in_detail(item(mask), logits).values
        assert values["dice"] == values["surface_dice"] == values["specificity"] == 1
        assert values["hd95"] == 0

    def test_the_mean_leaves_out_what_is_undefined(self):
        table = summarize([score_in_detail(item(EMPTY), NOTHING), score_in_detail(item(FULL), SOMETHING)], NAMES)
        assert table["dice"] == 1
        assert table["images"] == 2
        assert table["empty"] == 1
        assert summarize([score_in_detail(item(EMPTY), NOTHING)], NAMES)["dice"] is None


@pytest.mark.parametrize("channels", [1, 4])
def test_ignored_pixels_do_not_count(channels):
    """The same as an image without them, whatever is predicted there."""
    rng = np.random.default_rng(0)
    truth, logits = case(rng, 30, 40) if channels == 1 else several(rng, 30, 40, 4)
    wide_truth = np.full((33, 47), IGNORE)
    wide_truth[:30, :40] = truth
    wide = rng.normal(size=(channels, 33, 47)).astype(np.float32) * 9
    wide[:, :30, :40] = logits
    found = score_in_detail(item(wide_truth), torch.from_numpy(wide))
    expected = score_in_detail(item(truth), torch.from_numpy(logits).reshape(channels, 30, 40))
    assert found.values == pytest.approx(expected.values, rel=1e-5)
    assert found.counts.tolist() == expected.counts.tolist()


def test_classes_are_named():
    logits = torch.eye(3).reshape(3, 3, 1) * 9
    table = summarize([score_in_detail(item(torch.tensor([[0], [1], [2]])), logits)], ("background", "axon", "myelin"))
    assert table["dice_axon"] == table["dice_myelin"] == 1
    assert table["classes"] == ["axon", "myelin"]


def test_every_class_has_its_own_columns(tmp_path):
    """A hit, and a class that is one pixel off and so of another distance."""
    truth, found = torch.zeros(9, 9), torch.zeros(9, 9).long()
    truth[0, :3], found[0, :3] = 1, 1
    truth[4, 4], found[4, 6] = 2, 2
    names = ("background", "axon", "myelin")
    scores = [score_labels("x", "g", found, truth.long(), 3), score_labels("y", "g", found, found, 3)]
    table = summarize(scores, names)
    assert (table["iou_axon"], table["hd95_axon"], table["dice_myelin"], table["hd95_myelin"]) == (1, 0, 0.5, 1)
    assert "ece_pooled" not in table
    write_csv(scores, names, tmp_path / "set.csv")
    first = next(csv.DictReader((tmp_path / "set.csv").open()))
    assert (first["hd95_axon"], first["hd95_myelin"], first["iou_myelin"]) == ("0.000000", "2.000000", "0.000000")


def test_ratios_of_counts():
    found = overlap_ratios(np.array([[2, 1, 1, 6], [0, 0, 0, 10], [0, 3, 0, 7]]))
    assert found["dice"][0] == pytest.approx(4 / 6)
    assert found["iou"][0] == pytest.approx(0.5)
    assert np.isnan(found["dice"][1])
    assert found["dice"][2] == 0
    assert found["specificity"].tolist() == pytest.approx([6 / 7, 1, 0.7])


def test_every_class_is_counted():
    truth, prediction = torch.tensor([[0, 1, 2, 2]]), torch.tensor([[0, 2, 2, 1]])
    assert count_pixels(prediction, truth, 3).tolist() == [[1, 0, 0, 3], [0, 1, 1, 2], [1, 1, 1, 1]]
    truth[0, 1] = IGNORE
    assert count_pixels(prediction, truth, 3).tolist() == [[1, 0, 0, 2], [0, 1, 0, 2], [1, 0, 1, 1]]
    assert not count_pixels(prediction, torch.full((1, 4), IGNORE), 3).any()


@pytest.mark.parametrize("classes", [2, 4, 5, 15, 16, 200])
def test_pixels_are_counted_as_by_hand(classes):
    rng = np.random.default_rng(classes)
    prediction, truth = rng.integers(0, classes, (2, 40, 50))
    truth[rng.random(truth.shape) < 0.2] = IGNORE
    truth[0, 0], prediction[0, 0] = classes - 1, classes - 1  # the pair with the largest number
    known = truth != IGNORE
    expected = [
        [(known & (prediction == k) & (truth == k)).sum(), (known & (prediction == k) & (truth != k)).sum(),
         (known & (prediction != k) & (truth == k)).sum(), (known & (prediction != k) & (truth != k)).sum()]
        for k in range(classes)
    ]  # fmt: skip
    found = count_pixels(torch.from_numpy(prediction), torch.from_numpy(truth), classes)
    assert found.tolist() == np.array(expected).tolist()


def test_maxima_are_of_the_mean_curve():
    scores = reference_scores()
    table = summarize(scores, NAMES)
    mean = np.mean([s.curves.dice for s in scores], 0)
    assert table["pranet_max_dice"] == pytest.approx(mean.max())
    assert table["pranet_mdice"] == pytest.approx(mean.mean())
    assert table["pranet_max_em"] > table["pranet_mean_em"]


def test_every_mean_has_an_interval():
    scores = reference_scores()
    table = summarize(scores, NAMES)
    for key in scores[0].values:
        low, high = table[f"{key}_ci"]
        assert low <= table[key] <= high
    alone = summarize(scores[:1], NAMES)
    assert alone["dice_ci"] is None


def test_validation_counts_and_no_more():
    """Distances and thresholds would take longer than many a forward pass."""
    metric = SegmentationMetric(NAMES)
    truth = item(disk(20, 30, 225))
    metric.process([truth], [torch.randn(1, 64, 64)])
    assert set(metric.results[0].values) == set(COUNTED)
    assert metric.compute_metrics(metric.results) == totals(metric.results, NAMES)
    assert all(isinstance(value, int | float) for value in totals(metric.results, NAMES).values())


def test_csv_has_a_line_for_each_image(tmp_path):
    path = tmp_path / "deep" / "set.csv"
    scores = reference_scores()
    write_csv(scores, NAMES, path)
    rows = list(csv.DictReader(path.open()))
    assert [row["name"] for row in rows] == ["0", "1"]
    assert [row["group"] for row in rows] == ["g0", "g1"]
    assert float(rows[0]["dice"]) == pytest.approx(EXPECTED["per_image_fg_dice"][0], abs=1e-6)
    assert list(rows[0]) == ["name", "group", *scores[0].values]
