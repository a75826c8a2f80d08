import json

import numpy as np
import pytest
from evaluations import evaluated

from transeg.core.errors import UsageError
from transeg.core.evaluation.comparison import compare_metric, compare_runs
from transeg.core.evaluation.metrics.table import shown_in

RNG = np.random.default_rng(0)
DICE = RNG.beta(6, 3, size=40)
GAIN = RNG.normal(0.05, 0.03, size=40)


@pytest.fixture
def runs(tmp_path):
    """Two runs, B better than A in every column."""
    a = evaluated(tmp_path / "a", dice=DICE, iou=DICE / 2, surface_dice=DICE, hd95=200 - DICE)
    b = evaluated(tmp_path / "b", dice=DICE + GAIN, iou=DICE / 2 + GAIN, surface_dice=DICE + GAIN, hd95=190 - DICE)
    return a, b


def test_distances_of_two_units_are_not_compared(tmp_path, caplog):
    a = evaluated(tmp_path / "a", dice=DICE, iou=DICE, surface_dice=DICE, hd95=DICE)
    b = evaluated(tmp_path / "b", dice=DICE, iou=DICE, surface_dice=DICE, hd95_um=DICE)
    assert list(compare_runs(a, b)["tests"]["kvasir"]["metrics"]) == ["dice", "iou", "surface_dice"]
    assert "hd95 is in pixels in some files and in micrometres in others; it is left out." in caplog.text


def test_images_are_paired(runs):
    comparison = compare_runs(*runs)
    assert set(comparison["tests"]) == {"kvasir"}
    test = comparison["tests"]["kvasir"]
    assert (test["images"], test["groups"], test["unpaired"]) == (40, 10, 0)
    absent = {"hd95_um", "cldice"}  # the runs have distances in pixels, and were not asked for centrelines
    assert list(test["metrics"]) == [name for name in shown_in("compare") if name not in absent]
    dice = test["metrics"]["dice"]
    assert dice["a"] == pytest.approx(DICE.mean(), abs=1e-6)
    assert dice["difference"] == pytest.approx(GAIN.mean(), abs=1e-6)
    assert dice["ci"][0] < GAIN.mean() < dice["ci"][1]
    assert np.ptp(dice["ci"]) < 0.03  # without pairing, the spread of Dice over images would show
    assert dice["p"] == pytest.approx(2 / 2**10)  # all ten videos changed for the better
    assert dice["better"] == (GAIN > 0).sum()
    assert dice["worse"] == (GAIN < 0).sum()


def test_a_shorter_distance_is_better(runs):
    hausdorff = compare_runs(*runs)["tests"]["kvasir"]["metrics"]["hd95"]
    assert hausdorff["difference"] == pytest.approx(-10)
    assert (hausdorff["better"], hausdorff["worse"]) == (40, 0)


def test_the_order_of_images_does_not_matter(runs, tmp_path):
    backwards = [f"image{index}" for index in range(39, -1, -1)]
    b = evaluated(tmp_path / "c", names=backwards, dice=(DICE + GAIN)[::-1])
    found = compare_runs(runs[0], b, metrics=["dice"])["tests"]["kvasir"]["metrics"]["dice"]
    assert found == compare_runs(*runs, metrics=["dice"])["tests"]["kvasir"]["metrics"]["dice"]


def test_what_one_run_alone_has_is_left_out_and_counted(runs, tmp_path):
    fewer = evaluated(tmp_path / "c", dice=DICE[:30])
    test = compare_runs(runs[0], fewer, metrics=["dice"])["tests"]["kvasir"]
    assert (test["images"], test["unpaired"]) == (30, 10)
    assert test["metrics"]["dice"]["difference"] == 0
    assert test["metrics"]["dice"]["p"] == 1


def test_where_one_run_is_undefined_nothing_is_compared():
    a, b = np.array([0.5, np.nan, 0.7]), np.array([0.6, 0.0, 0.6])
    found = compare_metric(a, b, ["x", "y", "z"], lower_is_better=False)
    assert (found["images"], found["better"], found["worse"]) == (2, 1, 1)
    assert found["difference"] == pytest.approx(0)
    nothing = compare_metric(a[1:2], b[1:2], ["y"], lower_is_better=False)
    assert nothing["a"] is nothing["ci"] is nothing["p"] is None
    alone = compare_metric(a[:1], b[:1], ["x"], lower_is_better=False)
    assert alone["difference"] == pytest.approx(0.1)
    assert alone["ci"] is alone["p"] is None


def test_a_folder_of_csv_files_is_as_good_as_a_run(runs):
    files = runs[1] / "evaluation"
    assert compare_runs(runs[0], files)["tests"] == compare_runs(*runs)["tests"]


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        (lambda a, b: (b / "evaluation" / "kvasir.csv").unlink(), {}, "toolkit evaluate"),
        (lambda a, b: (b / "evaluation" / "kvasir.csv").rename(b / "evaluation" / "etis.csv"), {}, "on etis"),
        (
            lambda a, b: evaluated(b, names=[f"other{i}" for i in range(9)], dice=DICE[:9]),
            {"metrics": ["dice"]},
            "no im",
        ),
        (lambda a, b: (b / "evaluation" / "kvasir.csv").write_text("name,dice\nx,1\n"), {}, "older version"),
        (lambda a, b: None, {"metrics": ["dise"]}, "Did you mean 'dice'"),
        (lambda a, b: None, {"tests": ["kvasi"]}, "Did you mean 'kvasir'"),
    ],
)
def test_what_cannot_be_compared_gets_a_sentence(runs, change, options, sentence):
    change(*runs)
    with pytest.raises(UsageError, match=sentence):
        compare_runs(*runs, **options)
    with pytest.raises(UsageError, match="There is no folder"):
        compare_runs(runs[0] / "nothing", runs[1])


def test_the_table_fits_a_terminal(runs, toolkit, tmp_path):
    evaluated(tmp_path / "a", "etis", dice=DICE, pranet_mean_em=DICE, hd95=1000 * DICE)
    evaluated(tmp_path / "b", "etis", dice=DICE - 0.5, pranet_mean_em=DICE - 0.5, hd95=9 * DICE)
    metrics = [text for name in ("dice", "pranet_mean_em", "hd95") for text in ("--metric", name)]
    output = toolkit("compare", *runs, "--test", "etis", *metrics).stdout
    table = [line for line in output.splitlines() if str(tmp_path) not in line]
    assert max(map(len, table)) <= 80
    assert len(table) == 6  # an empty line, a title, a head, and a line for each metric
    assert "-0.500 [-0.500, -0.500]" in output
    assert "<0.001" not in output  # ten videos cannot say more than 2 in 1024
    assert "0.002" in output
    assert "40 images in 10 groups" in output
    assert "kvasir" not in output


def test_undefined_numbers_have_a_dash(toolkit, tmp_path):
    a = evaluated(tmp_path / "a", dice=[0.5], iou=[np.nan])
    output = toolkit("compare", a, a, "--metric", "dice", "--metric", "iou").stdout
    assert "1 image in 1 group\n" in output
    assert "iou: 0 images" in output
    assert [line.split() for line in output.splitlines() if line.startswith("iou ")] == [["iou", *"----", "0", "0"]]


def test_a_run_against_its_baseline(joint_run, toolkit):
    document = json.loads(toolkit("compare", joint_run / "baseline", joint_run, "--json").stdout)
    metrics = json.loads((joint_run / "metrics.json").read_text())
    assert document["tests"]["phantom"]["images"] == 2
    dice = document["tests"]["phantom"]["metrics"]["dice"]
    assert dice["a"] == pytest.approx(metrics["baseline"]["phantom"]["dice"], abs=1e-6)
    assert dice["b"] == pytest.approx(metrics["tests"]["phantom"]["dice"], abs=1e-6)
    assert dice["difference"] == pytest.approx(dice["b"] - dice["a"])


def test_errors_name_the_command(toolkit, tmp_path):
    (tmp_path / "run").mkdir()
    message = toolkit("compare", tmp_path / "run", tmp_path / "run", code=2).stderr
    assert "toolkit evaluate" in message
    assert "Traceback" not in message
