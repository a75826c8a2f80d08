"""Distillation from the command line: what a teacher may be, what a run leaves, what is said when it does not fit."""

import json
import tomllib

import pytest
import torch
from conftest import BOTH, SUPERVISED, TRANSLATION, command
from safetensors.torch import save_file
from test_run import same, weights

from transeg.core.inference.trained_model import TrainedModel
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A finished supervised run."""
    from click.testing import CliRunner

    from transeg.cli import main

    folder = tmp_path_factory.mktemp("runs") / "teacher"
    result = CliRunner().invoke(main, command(SUPERVISED, "--run-dir", folder))
    assert result.exit_code == 0, result.output
    return folder


def scalars(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_teaches_soft_targets_by_default(toolkit, teacher, tmp_path):
    run = tmp_path / "run"
    result = toolkit(*command(SUPERVISED, "--run-dir", run, "--teacher", teacher, "--seed", 1))
    assert "1*kl" in result.output
    assert any("train/kl" in line for line in scalars(run))
    stored = tomllib.loads((run / "experiment.toml").read_text())["distillation"]
    assert stored["teachers"] == {"teacher": {"name": "", "run": str(teacher)}}
    assert stored["terms"] == {"kl": {"name": "kl", "temperature": 4.0, "divide_by": "pixels", "weight": 1.0}}
    assert {key.partition(".")[0] for key in weights(run)} == {"segmenter"}  # and no teacher
    TrainedModel.load(RunFolder(run), Registry())


def test_the_teacher_changes_what_is_learned(toolkit, teacher, tmp_path):
    toolkit(*command(SUPERVISED, "--run-dir", tmp_path / "alone", "--seed", 1))
    options = ("--teacher", teacher, "--seed", 1, "--distill")
    toolkit(*command(SUPERVISED, "--run-dir", tmp_path / "taught", *options, "kl:temperature=2,weight=3"))
    assert not same(weights(tmp_path / "alone"), weights(tmp_path / "taught"))


def test_projections_are_trained_and_saved(toolkit, teacher, tmp_path):
    terms = ["fitnet:layer=mid_stage", "at:layer=up_stage2", "cwd:layer=up_stage3,teacher_layer=up_stage2"]
    taught = command(SUPERVISED, "--teacher", teacher, *(word for term in terms for word in ("--distill", term)))
    toolkit(*taught, "--run-dir", tmp_path / "run")
    assert {"train/fitnet", "train/at", "train/cwd"} <= set(scalars(tmp_path / "run")[-2])
    saved = {key: value for key, value in weights(tmp_path / "run").items() if key.startswith("extra_terms.")}
    assert len(saved) == 4  # weight and bias of two projections
    toolkit(*taught, "--run-dir", tmp_path / "again")
    assert same(weights(tmp_path / "run"), weights(tmp_path / "again"))
    TrainedModel.load(RunFolder(tmp_path / "run"), Registry())


def test_a_segmenter_with_weights_teaches_another_architecture(toolkit, teacher, tmp_path):
    state = {key.removeprefix("segmenter."): value for key, value in weights(teacher, "best").items()}
    save_file(state, tmp_path / "unet.safetensors")
    run = tmp_path / "run"
    toolkit(
        *command((["--segmenter", "hardnet"], SUPERVISED[1][:-1]), "--run-dir", run),
        *("--teacher", f"unet:{tmp_path / 'unet.safetensors'}", "--set", f"distillation.teachers.unet.{SMALL}"),
        *("--set", "distillation.precision=bfloat16"),
    )
    assert any("train/kl" in line for line in scalars(run))


SMALL = SUPERVISED[1][-1].removeprefix("segmenter.")


def test_several_teachers_share_a_term(toolkit, teacher, tmp_path):
    run = tmp_path / "run"
    toolkit(*command(SUPERVISED, "--run-dir", run, "--teacher", teacher, "--teacher", teacher))
    assert list(tomllib.loads((run / "experiment.toml").read_text())["distillation"]["teachers"]) == [
        "teacher",
        "teacher-2",
    ]
    once = tmp_path / "once"
    toolkit(*command(SUPERVISED, "--run-dir", once, "--teacher", teacher))
    for two, one in zip(weights(run).values(), weights(once).values(), strict=True):
        assert torch.allclose(two.float(), one.float(), atol=1e-5)


@pytest.mark.parametrize("strategy", ["joint", "sequential"])
@pytest.mark.parametrize("sees", ["source", "student"])
def test_students_on_translated_images(toolkit, teacher, tmp_path, strategy, sees):
    run = tmp_path / "run"
    options = ["--strategy", strategy, "--teacher", teacher, "--set", f"distillation.sees={sees}"]
    toolkit(*command(BOTH, "--run-dir", run, "--set", "baseline=none", *options))
    assert any("train/kl" in line for line in scalars(run))
    assert not any(key.startswith("teacher") or "distill" in key for key in weights(run))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--teacher", "nowhere"], "neither a run folder nor a segmenter"),
        (["--teacher", "unet"], "has no weights, so it knows nothing; say unet:FILE"),
        (["--distill", "kl"], "no teacher; say --teacher RUN"),
        (["--teacher", "{teacher}", "--distill", "kll"], "Did you mean 'kl'"),
        (["--teacher", "{teacher}", "--distill", "dice"], "dice is a segmentation loss; say --loss dice"),
        (["--loss", "kl"], "kl is a distillation loss; say --distill kl"),
        (["--teacher", "{teacher}", "--distill", "kl:temprature=2"], "Did you mean 'temperature'"),
        (["--teacher", "{teacher}", "--distill", "kl:4"], "is not of the form"),
        (["--teacher", "{teacher}", "--distill", "kl:temperature=0"], "must be above 0"),
        (["--teacher", "{teacher}", "--distill", "at"], "needs a value for layer"),
        (["--teacher", "{teacher}", "--distill", "at:layer=mid_stag"], "has a layer 'mid_stag'"),
        (["--teacher", "{teacher}", "--distill", "mse:layer=mid_stage,teacher_layer=up_stage1"], "fitnet learns"),
        (["--teacher", "{teacher}", "--set", "distillation.sees=paired"], "needs a paired source dataset"),
        (["--teacher", "{teacher}", "--set", "distillation.weight=2"], "no option distillation.weight"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(toolkit, teacher, tmp_path, arguments, sentence):
    given = [argument.format(teacher=teacher) for argument in arguments]
    result = toolkit(*command(SUPERVISED, "--run-dir", tmp_path / "run", *given), code=2)
    assert sentence in " ".join(result.output.split())
    assert not (tmp_path / "run").exists()


def test_a_generator_cannot_teach(toolkit, tmp_path):
    toolkit(*command(TRANSLATION, "--run-dir", tmp_path / "cut"))
    options = ("--run-dir", tmp_path / "run", "--teacher", tmp_path / "cut")
    result = toolkit(*command(SUPERVISED, *options), code=2)
    assert "trained a generator alone" in " ".join(result.output.split())


def test_a_generator_cannot_be_taught(toolkit, teacher, tmp_path):
    options = ("--run-dir", tmp_path / "run", "--teacher", teacher)
    result = toolkit(*command(TRANSLATION, *options), code=2)
    assert "no segmenter that a teacher could teach" in " ".join(result.output.split())


def test_half_filled_teachers_are_refused(toolkit, teacher, tmp_path):
    state = {key.removeprefix("segmenter."): value for key, value in weights(teacher, "best").items()}
    del state["seg_head.weight"]
    save_file(state, tmp_path / "unet.safetensors")
    options = ["--teacher", f"unet:{tmp_path / 'unet.safetensors'}", "--set", f"distillation.teachers.unet.{SMALL}"]
    result = toolkit(*command(SUPERVISED, "--run-dir", tmp_path / "run", *options), code=1)
    assert "it lacks seg_head.weight" in " ".join(result.output.split())
