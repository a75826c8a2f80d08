"""What is sent to others says nothing of this machine's folders, where that is wanted."""

import getpass
import json
import shutil
import socket
import tomllib
from pathlib import Path

import pytest
import tomli_w

from transeg.tools.common.anonymity import Anonymity

STORED = Path(__file__).parents[1] / "stored_runs" / "joint"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("The folder /data/a b/x.png of the set is empty.", "The folder PATH/x.png of the set is empty."),
        ('root = "/data/a b"', 'root = "PATH"'),
        (
            "--source kvasir:/mnt/set --set data.source.root=/mnt/set",
            "--source kvasir:PATH --set data.source.root=PATH",
        ),
        ("('~/set', 'C:\\\\set', D:/set)", "('PATH', 'PATH', PATH)"),
        (r"\\server\share\set was read", "PATH was read"),
        ("https://arxiv.org/abs/1 says 1/2 and/or 3 / 4, ~2", "https://arxiv.org/abs/1 says 1/2 and/or 3 / 4, ~2"),
        ("axon:SEM and /data/a bc", "axon:SEM and PATH bc"),
    ],
)
def test_absolute_paths_are_left_out_and_nothing_else(text, left):
    assert Anonymity({"data": {"source": {"root": Path("/data/a b")}}}).text(text) == left


def test_paths_are_known_in_what_users_write():
    hidden = Anonymity(["run", "--source", "folder:/data/a b", "--set", "segmenter.weights=/data/c d.pth"])
    assert hidden.page("<b>/data/a b</b></td>, /data/c d.pth") == "<b>PATH</b></td>, PATH"


@pytest.fixture
def run(tmp_path):
    """A run whose images, on which it was tested, lie in a folder with a space and a sign of HTML in its name."""
    place = tmp_path / "St Mary & sons"
    folder = place / "run"
    shutil.copytree(STORED, folder)
    experiment = tomllib.loads((folder / "experiment.toml").read_text())
    experiment["data"]["test"]["phantom"] = {"name": "folder", "root": str(place / "set"), "split": "test"}
    (folder / "experiment.toml").write_text(tomli_w.dumps(experiment))
    environment = json.loads((folder / "environment.json").read_text())
    environment["arguments"] = ["run", "--test", f"folder:{place / 'set'}", "--run-dir", str(folder)]
    (folder / "environment.json").write_text(json.dumps(environment))
    return folder


def everything(folder):
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield file.name, file.read_bytes()


def test_reports_exports_and_comparisons_name_no_folder(run, toolkit, tmp_path):
    out = tmp_path / "out"
    toolkit("report", run, "-o", out / "whole.html")
    assert (out / "whole.html").read_text().count("St Mary") > 3
    (out / "whole.html").unlink()
    toolkit("report", run, "-o", out / "report.html", "--anonymous")
    page = (out / "report.html").read_text()
    assert "cannot be shown" in page  # and why, which names the folder
    assert "toolkit run --test &#39;folder:PATH&#39; --run-dir &#39;PATH&#39;" in page
    images = ["--images", STORED.parent / "images"]
    toolkit("export", run, "-o", out / "model", "--anonymous", "--format", "safetensors", *images)
    toolkit("compare", run, run / "evaluation", "--anonymous", "-o", out / "pair.json")
    toolkit("compare", run, run / "evaluation", "--baseline", run, "--anonymous", "-o", out / "board.json")
    secrets = {str(tmp_path), str(Path.home()), "St Mary", f"/{getpass.getuser()}/"}
    secrets |= {name for name in (socket.gethostname(),) if len(name) > 5}  # a shorter one stands in any picture
    for name, content in everything(out):
        assert [secret for secret in secrets if secret.encode() in content] == [], name
