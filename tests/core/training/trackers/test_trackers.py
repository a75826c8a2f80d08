"""Trackers as trainings use them: begun, fed, closed, gone on with."""

import json
import logging
import time

import numpy as np
import pytest
from mmengine.visualization import BaseVisBackend

from transeg.core.errors import TransegError, UsageError
from transeg.core.experiment.completion import complete_experiment
from transeg.core.experiment.schema import TrackingOptions
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training import trackers
from transeg.core.training.trackers import Trackers, check_installed, start_trackers

PICTURE = np.zeros((8, 12, 3), dtype=np.uint8)


def experiment(*names, **options):
    tracking = {"trackers": names, **options}
    return complete_experiment({"segmenter": {"name": "unet"}, "device": "cpu", "tracking": tracking}, Registry())


def note(run, folder, *names, resume=False, steps=(2, 4), **options):
    """A training's worth of notes; gives what is stored of the trackers."""
    running = start_trackers(experiment(*names, **options), run, folder, "supervised", resume=resume)
    for step in steps:
        running.scalars({"train/dice": 1 / step}, step)
        running.image("preview", PICTURE, step)
    running.close()
    return json.loads(folder.trackers.read_text()) if folder.trackers.exists() else {}


def written(path, until):
    """A file's bytes; wandb's helper program writes them a moment after a run is finished."""
    deadline = time.monotonic() + 20
    while until not in path.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.05)
    return path.read_bytes()


class Broken(BaseVisBackend):
    calls = 0

    def __init__(self, place):
        super().__init__("")

    def _init_env(self):
        pass

    @property
    def experiment(self):
        pass

    def add_scalars(self, scalar_dict, step=0, file_path=None):
        type(self).calls += 1
        raise OSError("no server answers")


def test_a_tracker_that_fails_is_left_out(caplog):
    Broken.calls = 0
    running = Trackers({"broken": Broken(None)})
    with caplog.at_level(logging.WARNING):
        running.scalars({"a": 1.0}, 1)
        running.scalars({"a": 1.0}, 2)
        running.close()
    assert Broken.calls == 1
    assert caplog.messages == ["The tracker broken failed and is left out from here on: no server answers"]


def test_a_tracker_that_cannot_begin_stops_the_training_before_it_has_begun(tmp_path, monkeypatch):
    def refuse(place):
        raise OSError("no server answers")

    monkeypatch.setattr("transeg.core.training.trackers.wandb.WandbBackend", refuse)
    with pytest.raises(TransegError, match="The tracker wandb cannot begin: no server answers"):
        note(RunFolder(tmp_path), RunFolder(tmp_path), "wandb")


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed(name, toolkit, tmp_path, monkeypatch):
    monkeypatch.setattr("transeg.core.optional_packages.find_spec", lambda package: None)
    check_installed(TrackingOptions())
    result = toolkit("run", "--segmenter", "unet", "--tracker", name, "--run-dir", tmp_path / "run", code=2)
    said = f"The tracker {name} needs {name}, which is not installed: pip install 'transeg[{name}]'"
    assert said in " ".join(result.stderr.split())
    assert not (tmp_path / "run").exists()


def test_a_folder_that_a_tracker_left_behind_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "leftby").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(trackers.NEEDS, "wandb", ("leftby",))
    with pytest.raises(UsageError, match="needs leftby"):
        check_installed(TrackingOptions(trackers=("wandb",)))


def test_an_unknown_tracker(toolkit):
    assert "is not one of" in toolkit("run", "--segmenter", "unet", "--tracker", "diary", code=2).stderr
    settings = ["--set", "tracking.trackers=['diary']"]
    text = " ".join(toolkit("run", "--segmenter", "unet", *settings, code=2).stderr.split())
    assert "tracking.trackers.0 cannot be 'diary'" in text


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = RunFolder(tmp_path)
    assert note(folder, folder, "tensorboard") == {}
    events = EventAccumulator(str(folder.tensorboard)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/dice")] == [(2, 0.5), (4, 0.25)]
    assert [(event.step, event.width, event.height) for event in events.Images("preview")] == [(2, 12, 8), (4, 12, 8)]
    (text,) = events.Tensors("experiment/text_summary")
    assert b'name = "unet"' in text.tensor_proto.string_val[0]


def test_mlflow_goes_on_with_a_run(tmp_path):
    for package in trackers.NEEDS["mlflow"]:
        pytest.importorskip(package)
    from mlflow import MlflowClient

    run = RunFolder(tmp_path / "mine")
    first = note(run, run, "mlflow", project="polyps")
    again = note(run, run, "mlflow", project="polyps", resume=True, steps=(6,))
    assert first == again
    baseline = note(run, run.part("baseline"), "mlflow", project="polyps", steps=(2,))
    client = MlflowClient(tracking_uri=f"sqlite:///{run.path / 'mlflow' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("polyps").experiment_id])
    assert {each.info.run_id for each in runs} == {first["mlflow"], baseline["mlflow"]}  # side by side in one database
    noted = client.get_run(first["mlflow"])
    assert (noted.info.status, noted.info.run_name) == ("FINISHED", "mine supervised")
    assert noted.data.tags["group"] == "mine"
    assert noted.data.params["segmenter.name"] == "unet"
    history = client.get_metric_history(first["mlflow"], "train/dice")
    assert [(metric.step, metric.value) for metric in history] == [(2, 0.5), (4, 0.25), (6, 1 / 6)]
    pictures = [file.path for file in client.list_artifacts(first["mlflow"], "images") if file.path.endswith(".png")]
    assert len(pictures) == 3


def test_wandb_keeps_files(tmp_path):
    pytest.importorskip("wandb")
    run = RunFolder(tmp_path / "mine")
    run.path.mkdir()
    first = note(run, run, "wandb", project="polyps")
    (folder,) = (run.path / "wandb").glob(f"offline-run-*-{first['wandb']}")
    kept = written(folder / f"run-{first['wandb']}.wandb", until=b"preview")
    for text in (b"polyps", b"mine supervised", b"train/dice", b"preview", b'"unet"'):
        assert text in kept
    assert len(list((folder / "files" / "media" / "images").iterdir())) == 2
    assert not list(folder.rglob("*.py"))  # the working directory is not copied
    assert note(run, run, "wandb", project="polyps", resume=True) == first
    assert note(run, run, "wandb", project="polyps") != first
