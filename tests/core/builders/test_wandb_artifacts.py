"""Weights & Biases is stood in for: nothing here may ask a server."""

from types import SimpleNamespace

import pytest
import torch
from conftest import SUPERVISED, command

from transeg.core.builders import wandb_artifacts as artifacts
from transeg.core.builders.wandb_artifacts import fetch_weights
from transeg.core.errors import TransegError, UsageError
from transeg.core.registry import Registry

NAME = "me/polyps/unet:v3"


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Artifacts by name, each a function that writes its files into a folder; and what was asked for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(artifacts, "require", lambda *_: None)
    served = SimpleNamespace(artifacts={}, asked=[])

    class Artifact:
        def __init__(self, write):
            self.download = lambda root: write(tmp_path.joinpath(root))

    def artifact(name):
        served.asked.append(name)
        if name not in served.artifacts:
            raise RuntimeError(f"artifact {name} not found.")
        return Artifact(served.artifacts[name])

    api = SimpleNamespace(artifact=artifact)
    monkeypatch.setattr(artifacts, "quiet_wandb", lambda: SimpleNamespace(Api=lambda: api))
    return served


def holds(*names):
    def write(folder):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"x")

    return write


def test_a_path_is_left_alone(tmp_path):
    assert fetch_weights(tmp_path / "none.pth") == tmp_path / "none.pth"


def test_an_artifact_is_fetched_once(server):
    server.artifacts[NAME] = holds("README.md", "deep/unet.pth")
    first = fetch_weights(f"wandb:{NAME}")
    assert first.read_bytes() == b"x"
    assert first.parts[-5:] == ("me", "polyps", "unet-v3", "deep", "unet.pth")
    assert fetch_weights(f"wandb:{NAME}") == first
    assert server.asked == [NAME]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["a.pth", "b.pt", "notes.txt"], r"it holds a\.pth, b\.pt\."),
        (["notes.txt"], r"it holds notes\.txt\."),
        ([], r"it holds nothing\."),
    ],
)
def test_an_artifact_holds_one_file_of_weights(server, files, said):
    server.artifacts[NAME] = holds(*files)
    with pytest.raises(TransegError, match=f"The artifact {NAME} must hold one file of weights .*; {said}"):
        fetch_weights(f"wandb:{NAME}")


def test_what_is_not_there_leaves_nothing_behind(server):
    with pytest.raises(TransegError, match=f"The artifact {NAME} is not available .*: artifact {NAME} not found.$"):
        fetch_weights(f"wandb:{NAME}")

    def half(folder):
        (folder / "unet.pth").write_bytes(b"ha")
        raise ConnectionError("gone")

    server.artifacts[NAME] = half
    with pytest.raises(TransegError, match="gone"):
        fetch_weights(f"wandb:{NAME}")
    server.artifacts[NAME] = holds("unet.pth")
    assert fetch_weights(f"wandb:{NAME}").read_bytes() == b"x"


def test_wandb_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("transeg.core.optional_packages.find_spec", lambda package: None)
    with pytest.raises(UsageError, match=rf"The artifact {NAME} needs wandb, .* pip install 'transeg\[wandb\]'"):
        fetch_weights(f"wandb:{NAME}")


@pytest.mark.parametrize(
    "name", ["unet:v3", "polyps/unet:v3", "me/polyps/unet", "me/polyps/unet:latest", "../../x:v1", "me/../../x:v1"]
)
def test_names_of_no_artifact(toolkit, name):
    text = " ".join(toolkit(*command(SUPERVISED, "--set", f"segmenter.weights=wandb:{name}"), code=2).stderr.split())
    assert f"Wandb:{name} names no artifact; say wandb:ENTITY/PROJECT/NAME:VERSION" in text


@pytest.mark.parametrize(
    "part", ["segmenter.weights={}", "distillation.teachers.old={{name='unet',base=4,weights='{}'}}"]
)
def test_a_run_begins_with_an_artifact(server, toolkit, tmp_path, part):
    cls = Registry().load(Registry().find("segmenter", "unet"))
    server.artifacts[NAME] = lambda folder: torch.save(cls(3, 1, base=4).state_dict(), folder / "unet.pth")
    reference = f"wandb:{NAME}"
    toolkit(*command(SUPERVISED, "--run-dir", tmp_path / "run", "--set", part.format(reference)))
    assert server.asked == [NAME]
    assert reference in (tmp_path / "run" / "experiment.toml").read_text()
    if part.startswith("segmenter"):  # using the run asks for nothing more
        toolkit("evaluate", tmp_path / "run", "--out", tmp_path)
    assert server.asked == [NAME]
