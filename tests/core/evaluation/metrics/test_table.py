"""One table knows every metric."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from shapes import item

from transeg.core.analysis.agreement import agreement
from transeg.core.evaluation.metrics.image_quality import paired_image_metrics
from transeg.core.evaluation.metrics.table import (
    BESIDE,
    TABLE,
    among,
    digits_of,
    drawn_in,
    is_lower_better,
    metrics_of,
    row_of,
    shown_in,
    titles,
)
from transeg.core.evaluation.scores import score, score_in_detail, summarize, totals

ROOT = Path(__file__).parents[4]
NAMES = {2: ("background", "polyp"), 3: ("background", "axon", "myelin")}


def logits_and_truth(classes):
    draw = torch.Generator().manual_seed(classes)
    logits = torch.randn(1 if classes == 2 else classes, 12, 16, generator=draw)
    return logits, torch.randint(classes, (12, 16), generator=draw)


def unknown(table):
    return [key for key in table if key not in BESIDE and row_of(key.removesuffix("_ci")) is None]


@pytest.mark.parametrize("classes", [2, 3])
def test_all_that_is_measured_of_masks_has_a_row(classes):
    logits, truth = logits_and_truth(classes)
    sized = [item(truth, name=name)._replace(pixel_size=(0.2, 0.1)) for name in "ab"]
    scores = [score_in_detail(image, logits) for image in sized]
    assert unknown(summarize(scores, NAMES[classes])) == []
    assert unknown(scores[0].values) == []
    assert set(scores[0].of_classes) == set(metrics_of("class"))


def test_rows_say_what_a_validation_measures():
    logits, truth = logits_and_truth(2)
    measured = set(totals([score(item(truth), logits)], NAMES[2])) - set(BESIDE)
    of_masks = {name for of in ("class", "image", "set") for name in metrics_of(of)}
    assert measured == {name for name in of_masks if TABLE[name].validation}


def test_all_that_is_measured_of_made_images_has_a_row():
    image = torch.rand(3, 16, 16) * 2 - 1
    pairs = set(paired_image_metrics(image, image))
    assert pairs | {f"roundtrip_{key}" for key in pairs} <= set(metrics_of("made"))
    assert metrics_of("made set") == ["fid", "kid"]


def test_all_that_is_measured_of_counts_has_a_row():
    found = agreement(np.array([3, 5]), np.array([4, 5]))
    assert [f"counts.{key}" for key in found if key != "limits"] == metrics_of("counts")


def test_all_that_earlier_runs_have_written_has_a_row():
    for path in (ROOT / "tests" / "stored_runs").rglob("metrics.json"):
        metrics = json.loads(path.read_text())
        for part in ("tests", "quality", "baseline"):
            for table in (metrics[part] or {}).values():
                assert unknown(table) == []


def test_there_is_no_second_list():
    """Outside the functions that compute metrics, none are named side by side."""
    found = []
    for path in sorted((ROOT / "transeg").rglob("*.py")):
        if path.is_relative_to(ROOT / "transeg" / "core" / "evaluation"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Tuple, ast.List, ast.Set, ast.Dict)):
                parts = node.keys if isinstance(node, ast.Dict) else node.elts
                texts = [part.value for part in parts if isinstance(part, ast.Constant)]
                named = {str(text).removeprefix("val/") for text in texts} & set(TABLE)
                if len(named) > 1:
                    found.append(f"{path}:{node.lineno} {named}")
    assert found == []


def test_what_is_shown_is_what_always_was():
    """Tables, reports and comparisons of runs keep their columns; clDice is added where it was asked for."""
    assert shown_in("tests") == ["dice", "iou", "precision", "recall", "cldice"]
    assert shown_in("folds") == metrics_of("class") == ["dice", "iou", "hd95", "hd95_um"]
    assert shown_in("compare") == ["dice", "iou", "surface_dice", "cldice", "hd95", "hd95_um"]
    shown = ["Dice", "IoU", "precision", "recall", "surface Dice", "clDice", "HD95", "HD95 (um)"]
    assert list(titles(shown_in("report")).values()) == shown
    assert set(shown_in("card")) == {"dice", "iou", "precision", "recall", "hd95", "hd95_um", "surface_dice", "cldice"}
    assert "cldice" not in among(shown_in("report"), ["dice"])
    assert "cldice" in among(shown_in("report"), ["dice", "cldice"])
    quality = [(title, digits_of(name)) for name, title in titles(drawn_in("quality")).items()]
    assert quality == [
        ("SSIM", 3),
        ("PSNR", 1),
        ("L1", 4),
        ("LPIPS", 3),
        ("FID", 1),
        ("KID", 4),
        ("consistency", 3),
        ("on real", 3),
        ("and back: SSIM", 3),
        ("PSNR", 1),
        ("L1", 4),
    ]
    of_masks = ["dice", "iou", "precision", "recall"]
    assert drawn_in("curves") == [*of_masks, "ssim", "psnr", "l1", "lpips", "fid", "kid", "consistency_dice", "shift"]


def test_what_is_better():
    lower = {name for name in TABLE if is_lower_better(name)}
    of_masks = {"mae", "hd95", "hd95_um", "ece", "ece_pooled", "pranet_mae", "counts.mae", "counts.relative_error"}
    assert lower == of_masks | {"l1", "lpips", "fid", "kid", "shift", "roundtrip_l1"}
    assert is_lower_better("hd95_axon")
    assert not is_lower_better("dice_axon")
    assert not is_lower_better("nothing_that_is_known")
