"""Strategies are components: what each will train is known before, and those of others run like the built-in."""

import json
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch
from conftest import BOTH, SUPERVISED, TINY_CUT, TINY_DATA, TINY_TARGET, TINY_TEST, TINY_TRAINING, command
from servers import forked
from test_resume import arguments, assert_same, stop_at

from transeg.core.registry import Registry

TESTS = Path(__file__).parent
STORED = TESTS / "stored_runs" / "joint"
THIRD = ["--registry", str(TESTS / "strategies" / "registry.toml")]
DATA = ["--source", "phantom:clean", "--target", "phantom:scope", "--test", "phantom:scope"]
SEGMENTER = ["--segmenter", "unet", "--set", "segmenter.base=4"]
CUT = ["--generator", "cut", *(word for setting in TINY_CUT for word in ("--set", setting))]
PAIRS = ["--generator", "pix2pix", "--set", "generator.width=4", "--set", "generator.depth=6", "--set", "data.size=64"]
TINY = [*TINY_DATA, *TINY_TRAINING, *TINY_TARGET, *TINY_TEST, "segmenter.base=4"]


def stage(name, trains, *trainings, **more):
    return {"name": name, "trains": list(trains), "begins": {}, "uses": [], "trainings": list(trainings), **more}


G, S = "generator", "segmenter"
BASELINE = stage("baseline", [S], "baseline")
FIRST, AFTER = stage("translation", [G], "translation"), stage("segmentation", [S], ".", uses=["translation"])
CASES = {
    "supervised": (SEGMENTER, [stage("segmentation", [S], ".")]),
    "supervised with folds": ([*SEGMENTER, "--folds", "2"], [stage("segmentation", [S], "fold-1", "fold-2")]),
    "translation judged by networks": (
        [*CUT, *DATA[:4], "--set", f"quality.segmenter={STORED}"],
        [stage("translation", [G], ".")],
    ),
    "sequential with folds and a baseline": (
        [*CUT, *SEGMENTER, "--strategy", "sequential", "--folds", "2"],
        [
            FIRST,
            stage("segmentation", [S], "fold-1", "fold-2", uses=["translation"]),
            stage("baseline", [S], "baseline/fold-1", "baseline/fold-2"),
        ],
    ),
    "sequential with synthesis": (
        [*PAIRS, *SEGMENTER, "--strategy", "sequential", "--set", "strategy.count=3"],
        [FIRST, AFTER, BASELINE],
    ),
    "sequential with a teacher that sees originals": (
        [*CUT, *SEGMENTER, "--strategy", "sequential", "--teacher", str(STORED), "--baseline", "none"],
        [FIRST, AFTER],
    ),
    "joint": ([*CUT, *SEGMENTER], [stage("joint", [G, S], "."), BASELINE]),
    "joint with label maps": ([*PAIRS, *SEGMENTER], [stage("joint", [G, S], "."), BASELINE]),
    "a third party's rounds of self-training": (
        [*THIRD, *SEGMENTER, *DATA, "--strategy", "rounds", "--set", "strategy.rounds=2"],
        [
            stage("teacher", [S], "teacher"),
            stage("student-1", [S], "student-1", begins={S: "teacher/segmenter"}, uses=["teacher"]),
            stage("student-2", [S], ".", begins={S: "student-1/segmenter"}, uses=["student-1"]),
        ],
    ),
    "one without a source, from another run": (
        [*THIRD, *SEGMENTER, *DATA[2:], "--strategy", "source-free", "--set", f"strategy.begin={STORED}"],
        [stage("adaptation", [S], ".", begins={S: f"{STORED}/segmenter"})],
    ),
    "self-training": (
        [*SEGMENTER, "--strategy", "self-training", "--baseline", "source-only"],
        [stage("self-training", [S], "."), BASELINE],
    ),
    "self-training with a generator": (
        [*CUT, *SEGMENTER, "--strategy", "self-training", "--baseline", "none"],
        [stage("self-training", [G, S], ".")],
    ),
    "sequential with a generator without parameters": (
        [*THIRD, "--generator", "moments", *SEGMENTER, "--strategy", "sequential", "--baseline", "none"],
        [FIRST, AFTER],
    ),
    "joint with a generator without parameters": (
        [*THIRD, "--generator", "moments", *SEGMENTER],
        [stage("joint", [G, S], "."), BASELINE],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_run_will_train_is_known_before(toolkit, tmp_path, case):
    given, stages = CASES[case]
    if "source-free" not in given:
        given = [*given, "--set", "data.source.count=10", "--set", "data.source.side=32"]
    plan = json.loads(toolkit("run", *given, "--dry-run", "--json", "--run-dir", tmp_path / "run").stdout)
    assert plan["stages"] == stages
    assert not (tmp_path / "run").exists()


def test_no_module_outside_names_a_strategy():
    """Their defaults, checks and words are theirs; the core, the tools and other plugins know what they declare."""
    names = "|".join(component.name for component in Registry().components("strategy"))
    package = TESTS.parent / "transeg"
    said = [
        f"{path.relative_to(package)}: {line.strip()}"
        for path in package.rglob("*.py")
        if "strategies" not in path.relative_to(package).parts
        for line in path.read_text().splitlines()
        if re.search(rf"""["']({names})["']""", line)
    ]
    # a note of `toolkit translate`, the title of a picture, and rungs, which are trainings that are named
    allowed = ("dataset_translation.py", "cases.py", "ladder/rungs.py", "ladder/composition.py")
    assert [line for line in said if not line.split(":")[0].endswith(allowed)] == []


def test_they_are_listed_and_shown(toolkit):
    rows = json.loads(toolkit("list", "strategies", "--json").stdout)
    assert [row["name"] for row in rows] == ["supervised", "translation", "sequential", "joint", "self-training"]
    shown = toolkit("info", "strategy/joint").stdout
    for words in ("strategy.weight", "strategy.schedule", "source, generator, segmenter", "10.1111/exsy.13137"):
        assert words in " ".join(shown.split())
    assert "rounds" in toolkit("list", "strategies", *THIRD).stdout
    combinations = toolkit("list", "combinations", *THIRD).stdout
    assert "source-free" in combinations


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--strategy", "sequental"], "There is no strategy 'sequental'. Did you mean 'sequential'?"),
        (["--strategy", "joint", "--set", "strategy.wieght=1"], "Did you mean 'weight'?"),
        (["--strategy", "joint", "--set", "strategy.weight=-1"], "strategy.weight cannot be -1"),
        (["--strategy", "sequential", "--set", "joint.weight=1"], "The strategy sequential has no use for [joint]"),
        (["--set", "joint.pseudo_labels=mean"], "or say --strategy self-training --set strategy.labels=epoch"),
        (["--strategy", "joint", "--set", "strategy.pseudo_labels=mean"], "or say --strategy self-training --set"),
        (["--strategy", "sequential", "--set", "strategy.count=2"], "generators that are given label maps"),
        (["--strategy", "supervised"], "The strategy supervised has no use for [generator]"),
        (
            ["--set", "train.scales=[0.75,1]"],
            "train.scales are for a segmenter that is trained by itself",
        ),
        (["--set", "strategy=3"], "strategy is a name or a table"),
        (["--strategy", "joint", "--synthetic", "phantom"], "no use for a synthetic data set; it makes its own"),
        ([*THIRD, "--strategy", "source-free", *DATA[2:4]], "source-free has no use for [generator]"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(toolkit, given, words):
    said = toolkit("run", *CUT, *SEGMENTER, *given, "--dry-run", code=2).stderr
    assert words in " ".join(said.split())


def test_former_tables_mean_what_they_did(toolkit, tmp_path):
    old = tmp_path / "old.toml"
    old.write_text('strategy = "joint"\n[joint]\nweight = 0.25\npseudo_labels = "off"\n[segmenter]\nname = "unet"\n')
    plan = json.loads(toolkit("run", "--config", old, *CUT, "--dry-run", "--json").stdout)
    assert plan["experiment"]["strategy"]["weight"] == 0.25
    plan = json.loads(toolkit("run", *CUT, *SEGMENTER, "--set", "joint.weight=2", "--dry-run", "--json").stdout)
    assert plan["experiment"]["strategy"] == {
        "name": "joint",
        "weight": 2.0,
        "schedule": "constant",
        "start": 0.5,
    }


def test_several_validation_sets_are_measured_and_the_first_selects(toolkit, tmp_path):
    parts = [*THIRD, *DATA, "--segmenter", "unet", "--strategy", "rounds"], TINY
    run = tmp_path / "run"
    toolkit(*command(parts, "--run-dir", run))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics = json.loads((run / "metrics.json").read_text())
    (best,) = (line for line in lines if line["iteration"] == metrics["best_iteration"] and "val/dice" in line)
    assert best["val/dice"] == best["again/dice"]  # this segmenter sees source images as they are
    assert best["val/dice"] == max(line["val/dice"] for line in lines if "val/dice" in line)
    assert best["on-tests/dice"] == pytest.approx(metrics["tests"]["phantom"]["dice"])
    assert (run / "labelled-for-student-1" / "train" / "images").is_dir()
    stages = json.loads((run / "stages.json").read_text())
    assert list(stages) == ["teacher", "student-1"]
    assert all(sorted(each) == ["folder", "identity"] for each in stages.values())


def test_one_goes_on_from_another_run_without_a_source(toolkit, tmp_path):
    begun = tmp_path / "begun"
    toolkit(*command(SUPERVISED, "--run-dir", begun))
    parts = (
        [*THIRD, *DATA[2:], "--segmenter", "unet", "--strategy", "source-free"],
        [setting for setting in TINY if not setting.startswith("data.source")],
    )
    run = tmp_path / "run"
    toolkit(*command(parts, "--set", f"strategy.begin={begun}", "--set", "train.lr=1e-9", "--run-dir", run))
    weights = [
        torch.load(each / "checkpoints" / "best.pt")["model"]["segmenter.seg_head.weight"] for each in (begun, run)
    ]
    assert torch.allclose(*weights, atol=1e-6)
    images = json.loads((run / "parts.json").read_text())["images"]
    assert "source" not in images


@pytest.mark.parametrize("strategy", ["sequential", "joint"])
def test_generators_without_parameters_are_fitted_and_used(toolkit, tmp_path, strategy):
    parts = [*THIRD, "--generator", "moments", "--segmenter", "unet", "--strategy", strategy, *DATA], TINY
    run = tmp_path / "run"
    toolkit(*command(parts, "--set", "baseline=none", "--run-dir", run))
    folder = run / "translation" if strategy == "sequential" else run
    state = torch.load(folder / "checkpoints" / "best.pt")
    assert state["model"]["generator.std"].std() > 0
    assert state["model"]["generator.std"].max() < 1
    assert state["iteration"] == 0 or strategy == "joint"
    images = TESTS / "stored_runs" / "images"
    toolkit("translate", run, images, "-o", tmp_path / "out", "--device", "cpu")  # the run remembers THIRD
    assert len(list((tmp_path / "out").glob("[!.]*"))) == len(list((TESTS / "stored_runs" / "images").iterdir()))


@pytest.mark.slow
def test_those_of_others_are_killed_between_and_inside_stages_and_resumed(tmp_path, process):
    parts = [*THIRD, *DATA, "--segmenter", "unet", "--strategy", "rounds"], TINY
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert process(*arguments(parts, whole, 0)).returncode == 0
    resume = ["run", "--run-dir", str(cut), "--resume", *THIRD]
    stop_at(arguments(parts, cut, 0), cut / "teacher", 7, signal.SIGKILL)
    stop_at(
        resume, cut / "teacher", 14, signal.SIGKILL
    )  # its last iteration: before or while target images are labelled
    stop_at(resume, cut, 5, signal.SIGKILL)
    result = forked(*resume)
    assert result.returncode == 0, result.stderr
    assert_same(whole, cut)


def test_runs_go_on_where_they_and_their_data_have_moved(toolkit, tmp_path):
    made = tmp_path / "made"
    toolkit("data", "convert", "phantom:clean", f"folder:{made}", "--set", "count=8", "--set", "side=32")
    options = [*CUT, *SEGMENTER, "--strategy", "sequential", "--target", "phantom:scope", "--baseline", "none"]
    settings = [*TINY_TARGET, *TINY_TRAINING, "data.size=32"]
    line = [*options, "--source", f"folder:{made}", *(word for each in settings for word in ("--set", each))]
    run = tmp_path / "run"
    toolkit("run", *line, "--run-dir", run)
    identities = {name: each["identity"] for name, each in json.loads((run / "stages.json").read_text()).items()}

    moved, elsewhere = tmp_path / "moved" / "run", tmp_path / "elsewhere" / "data"
    moved.parent.mkdir()
    elsewhere.parent.mkdir()
    shutil.move(run, moved)
    shutil.move(made, elsewhere)
    for name in ("last", "best"):
        (moved / "checkpoints" / f"{name}.pt").unlink()
    toolkit("run", "--run-dir", moved, "--resume", "--source", f"folder:{elsewhere}")
    after = {name: each["identity"] for name, each in json.loads((moved / "stages.json").read_text()).items()}
    assert after == identities

    image = next((elsewhere / "train" / "images").iterdir())
    for kind in ("images", "masks"):
        (elsewhere / "train" / kind / image.name).unlink()
    said = toolkit("run", "--run-dir", moved, "--resume", "--source", f"folder:{elsewhere}", code=2).stderr
    assert "belongs to another experiment: the data of source is" in " ".join(said.split())


def test_an_option_that_a_run_does_not_know_leaves_its_resume_as_it_is(toolkit, tmp_path):
    """As if `train.warmup` and `segmenter.aux` had come after it: neither its files nor its checkpoint name them."""
    run, added = tmp_path / "run", ("train.warmup", "segmenter.aux")
    toolkit(*command(SUPERVISED, "--run-dir", run))
    before = json.loads((run / "stages.json").read_text())
    experiment = run / "experiment.toml"
    lines = experiment.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(("warmup = ", "aux = "))]
    assert len(lines) == len(kept) + 2
    experiment.write_text("".join(kept))
    checkpoint = run / "checkpoints" / "last.pt"
    state = torch.load(checkpoint)
    for option in added:
        del state["options"][option]
    torch.save(state, checkpoint)
    toolkit("run", "--run-dir", run, "--resume")
    assert json.loads((run / "stages.json").read_text()) == before
    said = toolkit("run", "--run-dir", run, "--resume", "--set", "train.warmup=0.5", code=2).stderr
    assert "train.warmup is 0.0 there and 0.5 here" in " ".join(said.split())


def test_a_teacher_that_has_learned_anew_is_another(toolkit, tmp_path):
    teacher, run = tmp_path / "teacher", tmp_path / "run"
    toolkit(*command(SUPERVISED, "--run-dir", teacher))
    toolkit(*command(SUPERVISED, "--teacher", teacher, "--run-dir", run))
    shutil.move(teacher, tmp_path / "moved")
    toolkit("run", "--run-dir", run, "--resume", "--set", f"distillation.teachers.teacher.run={tmp_path / 'moved'}")
    toolkit(*command(SUPERVISED, "--seed", "1", "--run-dir", teacher))
    changed = ["--set", f"distillation.teachers.teacher.run={teacher}"]
    said = toolkit("run", "--run-dir", run, "--resume", *changed, code=2).stderr
    assert "the teacher teacher is" in " ".join(said.split())


def test_equal_stages_of_different_runs_are_recognised(toolkit, tmp_path):
    """A baseline is what the same segmenter alone would have been."""
    joint, alone = tmp_path / "joint", tmp_path / "alone"
    toolkit(*command(BOTH, "--run-dir", joint))
    toolkit("run", "--config", joint / "baseline" / "experiment.toml", "--run-dir", alone)
    one = json.loads((joint / "stages.json").read_text())["baseline"]["identity"]
    assert one == json.loads((alone / "stages.json").read_text())["segmentation"]["identity"]
    weights = [
        torch.load(folder / "checkpoints" / "last.pt")["model"]["segmenter.seg_head.weight"]
        for folder in (joint / "baseline", alone)
    ]
    assert torch.equal(*weights)
