"""Metrics of plugins: those of the example, and some that are wrong."""

import csv
import importlib
import json
import re
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SUPERVISED, command
from evaluations import evaluated
from servers import forked
from shapes import item

from transeg.core.errors import TransegError
from transeg.core.evaluation.metrics.image_metrics import ImageMetric, image_metrics
from transeg.core.evaluation.metrics.table import TABLE, BuiltInMetric, all_rows, plugin_metrics, shown_in
from transeg.core.evaluation.scores import score_in_detail
from transeg.core.interfaces import IGNORE
from transeg.core.registry import Registry

ABSENT = {"hd95_um", "cldice"}
"""What the runs below do not have: distances in micrometres, and a metric that nobody asked for."""
EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"
ROWS = """
[plugin]
contract = 2
[metric.far]
entry = "far.py:far"
summary = "How far off"
unit = "um"
digits = 1
higher_is_better = false
shown = ["tests", "folds", "compare", "report", "card"]
"""


@contextmanager
def installed(folder):
    """The example plugin on the path, with an entry point, without pip."""
    info = folder / "transeg_example-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: transeg-example\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[transeg]\nexample = transeg_example\n")
    before = list(sys.path)
    sys.path[:0] = [str(folder), str(EXAMPLE)]
    importlib.invalidate_caches()
    yield
    sys.path[:] = before
    for name in [name for name in sys.modules if name.partition(".")[0] == "transeg_example"]:
        del sys.modules[name]


@pytest.fixture
def example(tmp_path):
    with installed(tmp_path):
        yield


@pytest.fixture(scope="module")
def run(toolkit, tmp_path_factory):
    """A run that was trained and tested beside the example."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with installed(tmp_path_factory.mktemp("site")):
        assert "Brier" in toolkit(*command(SUPERVISED, "--run-dir", folder)).stdout
    return folder


@pytest.fixture
def local(tmp_path):
    """A manifest of a metric in a file; what the function does is given."""

    def write(body, rows=ROWS, name="far"):
        (tmp_path / "far.toml").write_text(rows)
        (tmp_path / "far.py").write_text(f"def {name}(probabilities, labels, pixel_size):\n    {body}\n")
        sys.modules.pop("transeg_local_far", None)
        return tmp_path / "far.toml"

    yield write
    sys.modules.pop("transeg_local_far", None)


class TestTheExample:
    def test_is_in_the_files_of_a_run(self, run):
        metrics = json.loads((run / "metrics.json").read_text())["tests"]["phantom"]
        with (run / "evaluation" / "phantom.csv").open() as file:
            lines = list(csv.DictReader(file))
        assert list(lines[0])[-1] == "brier"
        assert metrics["brier"] == pytest.approx(np.mean([float(line["brier"]) for line in lines]), abs=1e-6)
        low, high = metrics["brier_ci"]
        assert low <= metrics["brier"] <= high
        assert any("val/brier" in json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())

    def test_is_listed_and_described(self, example, toolkit):
        assert "brier" in toolkit("list").stdout
        rows = {row["name"]: row for row in json.loads(toolkit("list", "metrics", "--json").stdout)}
        assert set(rows) == {*TABLE, "brier"}
        assert rows["brier"]["package"] == "transeg-example"
        text = toolkit("info", "metric/brier").stdout
        assert all(word in text for word in ("Brier", "lower", "tests, compare, report", "unlike Dice"))
        found = json.loads(toolkit("info", "metric/brier", "--json").stdout)
        assert (found["digits"], found["higher_is_better"], found["validation"]) == (4, False, True)

    def test_is_in_a_comparison_and_a_leaderboard(self, example, run, toolkit):
        compared = json.loads(toolkit("compare", run, run, "--json").stdout)["tests"]["phantom"]["metrics"]
        assert list(compared) == [*(name for name in shown_in("compare") if name not in ABSENT), "brier"]
        with_copy = [run, run / "evaluation"]
        ranked = json.loads(toolkit("compare", *with_copy, "--baseline", run, "--json").stdout)
        assert [row["rank"] for row in ranked["tests"]["phantom"]["metrics"]["brier"]["rows"]] == [1, 1]

    def test_less_of_it_is_better(self, example, toolkit, tmp_path):
        values = np.linspace(0.1, 0.2, 8)
        for name, gain in (("good", 0), ("poor", 0.1)):
            evaluated(tmp_path / name, brier=values + gain)
        line = ["compare", tmp_path / "poor", tmp_path / "good", "--metric", "brier", "--baseline", tmp_path / "good"]
        rows = json.loads(toolkit(*line, "--json").stdout)["tests"]["kvasir"]["metrics"]["brier"]["rows"]
        assert [row["entry"] for row in rows] == ["good", "poor"]
        assert "0.1500" in toolkit(*line, "--format", "markdown").stdout  # four digits

    def test_older_runs_are_compared_without_it(self, example, toolkit, tmp_path):
        values = np.linspace(0.1, 0.2, 8)
        for name in ("a", "b"):
            evaluated(tmp_path / name, dice=values, iou=values, surface_dice=values, hd95=values)
        found = json.loads(toolkit("compare", tmp_path / "a", tmp_path / "b", "--json").stdout)
        assert list(found["tests"]["kvasir"]["metrics"]) == [name for name in shown_in("compare") if name not in ABSENT]

    def test_a_search_can_go_by_it(self, example, toolkit, tmp_path):
        line = command(SUPERVISED)[1:]
        line += ["--space", "train.lr=1e-4..1e-3:log", "--search-dir", tmp_path / "search", "--metric", "brier"]
        assert "for the least brier" in " ".join(toolkit("search", *line, "--dry-run").stdout.split())

    def test_is_in_the_report(self, example, run, toolkit, tmp_path):
        toolkit("report", run, "-o", tmp_path / "report.html")
        assert '<th scope="col">Brier</th>' in (tmp_path / "report.html").read_text()

    def test_a_sure_and_right_prediction_has_none(self, example):
        function = Registry().load(Registry().find("metric", "brier"))
        labels = np.array([[0, 1], [1, IGNORE]])
        right = np.stack([labels != 1, labels == 1]).astype(np.float32)
        assert function(right, labels, None) == 0
        assert function(1 - right, labels, None) == 1
        assert function(right, np.full((2, 2), IGNORE), None) is None


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ("raise ValueError('no such thing')", "failed on {image}: ValueError: no such thing"),
            ("return 'much'", "returned a str for {image}, where a number or None belongs"),
            ("return True", "returned a bool for {image}, where a number or None belongs"),
            ("return float('inf')", "returned inf for {image}, where a finite number or None belongs"),
            ("labels[:] = 0", "failed on {image}: ValueError: assignment destination is read-only"),
        ],
    )
    def test_is_a_sentence_with_plugin_and_image(self, run, local, toolkit, tmp_path, body, words):
        said = " ".join(
            toolkit("evaluate", run, "--registry", local(body), "-o", tmp_path / "out", code=1).stderr.split()
        )
        with (run / "evaluation" / "phantom.csv").open() as file:
            image = next(csv.DictReader(file))["name"]
        assert f"The metric far of far {words.format(image=image)}" in said
        assert "Traceback" not in said

    def test_ends_a_training_whose_validations_measure_it(self, local, tmp_path):
        manifest = local("raise ValueError('no such thing')", ROWS + "validation = true\n")
        result = forked(*command(SUPERVISED, "--registry", manifest, "--run-dir", tmp_path / "run"))
        said = " ".join(result.stderr.split())
        assert result.returncode == 1
        assert "The metric far of far failed on" in said
        assert "Traceback" not in said

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("higher_is_better = 3", "Expected `bool | null`, got `int`"),
            ("", "missing required field `higher_is_better`"),
            ("higher_is_better = true\nshown = ['everywhere']", "Invalid enum value 'everywhere'"),
            ("higher_is_better = true\ndigits = -1", "Expected `int` >= 0"),
        ],
    )
    def test_a_row_is_checked(self, local, toolkit, line, words):
        rows = f'[plugin]\ncontract = 2\n[metric.far]\nentry = "far.py:far"\n{line}\n'
        result = toolkit("list", "--registry", local("return 1", rows), code=2)
        assert words in " ".join(result.stderr.split())

    @pytest.mark.parametrize("name", ["dice", "hd95_axon", "images", "dice_ci"])
    def test_a_name_that_means_something_else_is_a_conflict(self, local, toolkit, caplog, name):
        manifest = local("return 1", ROWS.replace("metric.far", f"metric.{name}"))
        registry = Registry([manifest])
        assert [component.status for component in plugin_metrics(registry)] == ["conflict"]
        assert all_rows(registry) == TABLE
        assert image_metrics(registry) == []
        assert f"The metric {name} of far is left out" in caplog.text
        assert "needs another name" in " ".join(toolkit("list", "--registry", manifest).stdout.split())

    def test_what_cannot_be_loaded_is_left_out(self, local, caplog):
        registry = Registry([local("return 1", name="near")])
        assert image_metrics(registry) == []
        assert "The metric far of far is left out: far.py has no 'far'." in caplog.text


def test_the_metric_in_the_documentation_is_one(tmp_path):
    text = (EXAMPLE.parents[1] / "docs" / "plugins" / "metric.md").read_text()
    for language, name in (("python", "area.py"), ("toml", "area.toml")):
        (tmp_path / name).write_text(re.search(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[1])
    (metric,) = image_metrics(Registry([tmp_path / "area.toml"]))
    del sys.modules["transeg_local_area"]
    labels = np.array([[0, 1, 1], [IGNORE, 1, 0]])
    probabilities = np.stack([labels == 1, labels != 1]).astype(np.float32)  # finds 2 pixels, and one that is not known
    assert metric.name == "area-error"
    assert metric("x", probabilities, labels, 0.5) == 0.25
    assert np.isnan(metric("x", probabilities, labels, None))


class TestTheFunction:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_is_given_an_image(self, channels):
        logits = torch.randn(channels, 5, 7, generator=torch.Generator().manual_seed(0))
        truth = torch.randint(max(2, channels), (5, 7))
        truth[0, 0] = IGNORE
        seen = []

        def function(*given):
            seen.append(given)

        metric = ImageMetric("seen", "test", function)
        image = item(truth)._replace(pixel_size=(0.1, 0.4))
        found = score_in_detail(image, logits, [metric])
        ((probabilities, labels, pixel_size),) = seen
        assert (probabilities.shape, probabilities.dtype) == ((max(2, channels), 5, 7), np.float32)
        assert probabilities.sum(0) == pytest.approx(1, abs=1e-6)
        foreground = logits.sigmoid() if channels == 1 else logits.softmax(0)[1:]
        assert probabilities[1:] == pytest.approx(foreground.numpy(), abs=1e-6)
        assert (labels.dtype, labels[0, 0], pixel_size) == (np.int64, IGNORE, pytest.approx(0.2))
        assert np.isnan(found.values["seen"])

    def test_changes_nothing_else(self):
        truth = torch.randint(2, (5, 7))
        logits = torch.randn(1, 5, 7)
        plain = score_in_detail(item(truth), logits).values
        measured = score_in_detail(item(truth), logits, [ImageMetric("one", "test", lambda *_: 1)]).values
        assert list(measured) == [*plain, "one"]
        assert {key: measured[key] for key in plain} == pytest.approx(plain, rel=0, abs=0, nan_ok=True)

    def test_is_all_that_a_built_in_metric_needs_besides_its_row(self, monkeypatch):
        row = BuiltInMetric(entry="math:hypot", higher_is_better=True)
        monkeypatch.setitem(TABLE, "new", row)
        assert [metric.name for metric in image_metrics(Registry()) if metric.package == "transeg"] == ["new"]

    def test_without_a_choice_a_validation_leaves_it_out(self, local):
        registry = Registry([local("return 1")])
        assert [metric.name for metric in image_metrics(registry)] == ["far"]
        assert image_metrics(registry, validation=True) == []
        with pytest.raises(TransegError, match="a str for x"):
            ImageMetric("far", "test", lambda *_: "")("x", None, None, None)
