"""How long a run takes is said before it begins, from a few steps of each of its trainings."""

import json
import re
from pathlib import Path

import pytest
import torch
from conftest import BOTH, SUPERVISED, command

from transeg.core.experiment.request import complete_request
from transeg.core.pipeline import run as pipeline_run
from transeg.core.pipeline.launch import prepare
from transeg.core.pipeline.time_estimate import STEPS, WARM, WORTH, StageEstimate, estimate_times, is_worth_timing
from transeg.core.registry import Registry
from transeg.core.training.train import InterruptedRunError
from transeg.tools.run.plan_tables import describe_times

SETTINGS = {
    "segmenter": {"name": "unet", "base": 4},
    "data": {
        "size": 32,
        "source": {"name": "phantom", "domain": "clean", "count": 60, "side": 32},
        "test": {"phantom": {"name": "phantom", "domain": "scope", "count": 60, "side": 32}},
        "workers": 0,
    },
    "train": {"iterations": 100, "val_interval": 30, "batch_size": 2},
    "device": "cpu",
}
SPENT = {"training": 9.0, "waiting for data": 1.0, "validation": 4.0, "pictures": 0.5, "testing": 2.0}


@pytest.fixture
def prepared(tmp_path):
    def call(*changes, resume=False):
        settings = {**SETTINGS, **{key: value for each in changes for key, value in each.items()}}
        request = complete_request(settings, Registry(), run_dir=tmp_path / "run", resume=resume, dry_run=True)
        return prepare(request, Registry(), dry_run=True)

    return call


@pytest.fixture
def small_run(monkeypatch):
    """A run in small that has taken what a test says, and nothing besides; gives the experiments and parts of all."""
    seen = []

    def pretend(spent, steps=(*[50.0] * WARM, 1.0, *[2.0] * (STEPS - WARM - 2), 9.0)):
        def begin(folder, experiment, parts, *_):
            def trained():
                seen.append((experiment, parts))
                for name in spent:
                    place = folder.part(name)
                    place.previews.mkdir(parents=True)
                    (place.previews / "000008.png").touch()
                    lines = [{"iteration": done + 1, "seconds_per_iteration": step} for done, step in enumerate(steps)]
                    place.scalars.write_text("".join(f"{json.dumps(line)}\n" for line in [*lines, {"iteration": 8}]))
                folder.times.write_text(json.dumps(spent))

            return trained

        monkeypatch.setattr(pipeline_run, "Run", begin)
        return seen

    return pretend


def test_each_part_of_a_run_is_scaled_by_what_it_has_more_of(prepared, small_run):
    plan = prepared()
    seen = small_run({".": SPENT})
    val, tests = len(plan.parts.val), len(plan.parts.tests["phantom"])
    assert val > 4
    assert tests > 4
    (found,) = estimate_times(plan, Registry())
    ((experiment, parts),) = seen
    assert (experiment.train.iterations, len(parts.val), len(parts.tests["phantom"])) == (STEPS, 4, 4)
    assert len(parts.source) == len(plan.parts.source)
    beside = 4 * (4.0 * val / 4 + 0.5) + 2.0 * tests / 4  # validations at 30, 60, 90 and 100
    assert found.seconds == pytest.approx(200 + beside)
    assert (found.fastest, found.slowest) == (pytest.approx(100 + beside), pytest.approx(900 + beside))


def test_validations_that_see_few_images_take_as_long_as_those(prepared, small_run):
    limited = {"data": {**SETTINGS["data"], "val_limit": 2}}
    small_run({".": {"validation": 4.0}}, [0.0] * STEPS)
    (found,) = estimate_times(prepared(limited), Registry())
    assert found.seconds == pytest.approx(4 * 4.0)


def test_one_fold_stands_for_all_and_their_ensemble_is_tested_too(prepared, small_run):
    plan = prepared({"folds": 3})
    seen = small_run({".": {"testing": 2.0}}, [1.0] * STEPS)
    (found,) = estimate_times(plan, Registry())
    ((experiment, parts),) = seen
    assert (experiment.fold, parts.held) == (1, None)
    held, tests = len(plan.parts.held[0]), len(plan.parts.tests["phantom"])
    assert found.seconds == pytest.approx(3 * 100 + 2.0 * 3 * (2 * tests + held) / 8)  # 4 of the tests, 4 held out


def test_a_resumed_run_has_the_rest_to_train(prepared, small_run, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    torch.save({"format": 1, "iteration": 60}, tmp_path / "run" / "checkpoints" / "last.pt")
    small_run({".": {"pictures": 0.5}}, [1.0] * STEPS)
    assert estimate_times(prepared(), Registry())[0].seconds == pytest.approx(100 + 4 * 0.5)
    assert estimate_times(prepared(resume=True), Registry())[0].seconds == pytest.approx(40 + 2 * 0.5)


def test_what_a_stage_makes_is_scaled_by_images_of_the_source(prepared, small_run):
    data = {**SETTINGS["data"], "target": {"name": "phantom", "domain": "scope", "count": 40, "side": 32}}
    pair = {"generator": {"name": "cut", "width": 4, "blocks": 5}, "baseline": "source-only"}
    plan = prepared({**pair, "data": data, "strategy": {"name": "sequential"}})
    seen = small_run({"translation": {"translating": 1.0}, ".": {}, "baseline": {}}, [0.0] * STEPS)
    times = {each.name: each.seconds for each in estimate_times(plan, Registry())}
    ((_, parts),) = seen
    assert len(parts.source) == 4
    whole = len(plan.parts.source) + len(plan.parts.val)
    assert times == {"translation": pytest.approx(whole / 8), "segmentation": 0, "baseline": 0}


def test_what_fails_in_small_is_left_to_the_run_but_not_a_signal(prepared, monkeypatch):
    def fail(error):
        def begin(*_):
            raise error

        monkeypatch.setattr(pipeline_run, "Run", begin)

    fail(ZeroDivisionError("of a plugin"))
    assert estimate_times(prepared(), Registry()) is None
    fail(InterruptedRunError("Stopped at iteration 3 of 8. Go on with: ..."))
    with pytest.raises(InterruptedRunError, match="nothing has been trained"):
        estimate_times(prepared(), Registry())


def test_a_run_is_timed_unasked_where_that_takes_a_small_part_of_it(prepared):
    def long(**more):
        return prepared({"train": {**SETTINGS["train"], "iterations": WORTH * STEPS, **more}})

    assert is_worth_timing(long())
    assert not is_worth_timing(long(iterations=WORTH * STEPS - 1))
    assert not is_worth_timing(long(compile=True))


def test_the_first_run_is_timed_unasked(tmp_path):
    """`toolkit run --generator cut --segmenter hardnet`."""
    settings = {"generator": {"name": "cut"}, "segmenter": {"name": "hardnet"}, "device": "cpu"}
    request = complete_request(settings, Registry(), run_dir=tmp_path / "run", resume=False, dry_run=True)
    assert is_worth_timing(prepare(request, Registry(), dry_run=True))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ([80.4], "About 80 seconds (from 8 steps)."),
        ([420, 118], "About 9 minutes: joint 7, baseline 2 (from 8 steps of each)."),
        ([36000, 1800], "About 10.5 hours: joint 10.0, baseline 0.5 (from 8 steps of each)."),
    ],
)
def test_times_are_told_in_one_unit(seconds, words):
    times = [
        StageEstimate(name, name, each, each, each) for name, each in zip(["joint", "baseline"], seconds, strict=False)
    ]
    assert describe_times(times) == words


def test_a_dry_run_times_every_stage_where_it_is_asked_to(toolkit, tmp_path):
    plan = command(
        BOTH, "--strategy", "sequential", "--baseline", "none", "--run-dir", tmp_path / "run", "--dry-run", "--json"
    )
    found = json.loads(toolkit(*plan, "--timing").stdout)["seconds"]
    assert set(found) == {"translation", "segmentation"}
    assert min(found.values()) > 0
    assert "seconds" not in json.loads(toolkit(*plan).stdout)
    assert not Path(tmp_path / "run").exists()


def test_a_run_says_how_long_it_takes_and_trains_as_it_would_without(toolkit, tmp_path):
    said = toolkit(*command(SUPERVISED, "--run-dir", tmp_path / "timed", "--timing")).stdout
    assert re.search(rf"^About \d+ seconds \(from {STEPS} steps\)\.$", said, re.MULTILINE)
    said = toolkit(*command(SUPERVISED, "--run-dir", tmp_path / "plain")).stdout
    assert "About" not in said  # its three iterations are fewer than would be tried
    timed, plain = ((tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("timed", "plain"))
    for one, other in zip(map(json.loads, timed), map(json.loads, plain), strict=True):
        assert one.keys() == other.keys()
        assert {**one, "seconds_per_iteration": 0} == {**other, "seconds_per_iteration": 0}


def test_several_processes_cannot_be_timed(toolkit):
    said = toolkit(*command(SUPERVISED, "--timing", "--devices", "2"), code=2).stderr
    assert "leave --timing out" in said
