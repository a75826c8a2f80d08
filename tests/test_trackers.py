"""Trackers from the command line; none sends anything."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tomllib

import pytest
from conftest import BOTH, SUPERVISED, command

from transeg.core.experiment.identity import training_options
from transeg.core.experiment.validation import read_experiment
from transeg.core.registry import Registry
from transeg.core.training.trackers import NEEDS

WATCHED = """
import socket, sys
HERE = ("127.0.0.1", "::1", "localhost", None, "", socket.gethostname())

def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] not in HERE:
        print("SENDS TO", arguments[1], file=sys.stderr)
    if event in ("socket.getaddrinfo", "socket.gethostbyname") and arguments[0] not in HERE:
        print("LOOKS UP", arguments[0], file=sys.stderr)

sys.addaudithook(watch)
from transeg.cli import main
from transeg.core.registry import Registry
main()
"""


def installed(name):
    return all(importlib.util.find_spec(package) for package in NEEDS[name])


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_run_sends_nothing(tmp_path, name):
    """Neither from Python, where every connection is watched, nor from a helper program through the only proxy."""
    if not installed(name):
        pytest.skip(f"{name} is not installed")
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), address)
        line = command(SUPERVISED, "--run-dir", tmp_path / "run", "--tracker", name)
        environment = {**os.environ, **proxies, "NO_PROXY": "", "no_proxy": ""}
        for key in ("WANDB_ERROR_REPORTING", "MLFLOW_DISABLE_TELEMETRY", "PYTEST_CURRENT_TEST", "PYTEST_VERSION"):
            environment.pop(key, None)  # set by earlier tests in this process, or keep trackers quiet in tests alone
        result = subprocess.run(
            [sys.executable, "-c", WATCHED, *line], capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert result.returncode == 0, result.stderr
        assert "SENDS TO" not in result.stderr
        assert "LOOKS UP" not in result.stderr
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()
    assert (tmp_path / "run" / "tensorboard").exists() == (name == "tensorboard")
    assert (tmp_path / "run" / name).exists()
    assert {path.name for path in tmp_path.iterdir()} == {"run"}  # nothing beside the run folder, either


def test_a_tracker_leaves_a_training_what_it_is(toolkit, tmp_path):
    run = tmp_path / "run"
    toolkit(*command(SUPERVISED, "--run-dir", run))
    stored = read_experiment(run / "experiment.toml", Registry())
    other = stored.tracking.model_copy(update={"trackers": ("wandb",), "online": True})
    assert training_options(stored) == training_options(stored.model_copy(update={"tracking": other}))
    toolkit("run", "--run-dir", run, "--resume", "--set", "tracking.project=other")  # not refused as another experiment
    assert tomllib.loads((run / "experiment.toml").read_text())["tracking"]["project"] == "other"


@pytest.mark.skipif(not installed("mlflow"), reason="mlflow is not installed")
def test_each_training_of_a_run_is_noted_by_itself(toolkit, tmp_path):
    from mlflow import MlflowClient

    run = tmp_path / "run"
    line = command(BOTH, "--strategy", "sequential", "--baseline", "source-only", "--run-dir", run)
    toolkit(*line, "--tracker", "mlflow", "--tracker", "tensorboard")
    client = MlflowClient(tracking_uri=f"sqlite:///{run / 'mlflow' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("transeg").experiment_id])
    assert {each.info.run_name for each in runs} == {"run translation", "run sequential", "run source-only baseline"}
    assert {each.data.tags["group"] for each in runs} == {"run"}
    for part in (run, run / "translation", run / "baseline"):
        identifier = json.loads((part / "trackers.json").read_text())["mlflow"]
        assert identifier in {each.info.run_id for each in runs}
        assert list((part / "tensorboard").iterdir())
