"""A ladder from the command line to its table, in processes of its own; killed on the way."""

import csv
import json
import re
import subprocess
import sys
import time

import pytest
from conftest import TINY_CUT, TINY_TARGET

from transeg.core.experiment.validation import read_experiment
from transeg.core.registry import Registry
from transeg.tools.sweep.sweep_folder import read_sweep

SET = ["data.size=32", "data.source.count=10", "data.source.side=32", *TINY_TARGET, *TINY_CUT, "segmenter.base=4"]
SET += ["data.test.phantom.count=30", "data.test.phantom.side=32", "train.iterations=20", "train.batch_size=2"]
SET += ["train.checkpoint_interval=5", "train.log_interval=1", "train.val_interval=10", "train.watch_tests=3"]
ORDER = ["source-only", "fda", "joint", "self-training", "oracle"]


def start(folder, *options):
    line = [sys.executable, "-m", "transeg", "ladder", "--ladder-dir", *map(str, (folder, *options))]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def noted(cell):
    path = cell.folder.scalars
    return len(path.read_text().splitlines()) if path.exists() else 0


def dice(folder):
    with (folder / "evaluation" / "phantom.csv").open() as file:
        return {row["name"]: float(row["dice"]) for row in csv.DictReader(file)}


@pytest.mark.slow
def test_killed_finished_and_read_again(tmp_path):
    folder = tmp_path / "ladder"
    options = [
        "--segmenter",
        "unet",
        "--rungs",
        "oracle,joint,self-training,fda",
        "--device",
        "cpu",
        "--jobs",
        2,
        "--set",
        *SET,
    ]
    process = start(folder, *options)
    deadline = time.monotonic() + 100
    while process.poll() is None and time.monotonic() < deadline:
        if (folder / "sweep.toml").exists() and noted(read_sweep(folder).cells[1]) > 8:
            break
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate()
    cells = {cell.values["rung"]: cell for cell in read_sweep(folder).cells}
    assert list(cells) == ORDER
    begun = [name for name in ORDER if cells[name].folder.last.exists()]

    process = start(folder, "--device", "cpu", "--jobs", 2)
    output, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert begun
    for name in begun:  # each goes on after its checkpoint, and begins nothing again
        lines = [json.loads(line)["iteration"] for line in cells[name].folder.scalars.read_text().splitlines()]
        assert lines == sorted(lines)
        assert lines[-1] == 20
    assert max(len(line) for line in output.splitlines() if not line.startswith(("Folder: ", "Pictures: "))) <= 80
    assert [line.split()[0] for line in output.splitlines() if line.split(" ")[0] in ORDER][: len(ORDER)] == ORDER

    found = json.loads((folder / "ladder.json").read_text())
    assert list(found["rungs"]) == ORDER
    board = found["tests"]["phantom"]["dice"]
    means = {entry["entry"]: entry["mean"] for entry in board["entries"]}
    for name, entry in zip(ORDER, board["entries"], strict=True):
        of_images = dice(cells[name].folder.path)
        assert entry["mean"] == pytest.approx(sum(of_images.values()) / len(of_images), abs=1e-5)
        assert (entry["share"] is None) == bool(board["note"])
        if not board["note"]:
            gap = means["oracle"] - means["source-only"]
            assert entry["share"] == pytest.approx((entry["mean"] - means["source-only"]) / gap, abs=1e-6)
    regret = found["regret"]
    assert list(regret["rungs"]) == ORDER
    assert all(lost >= 0 for rung in regret["rungs"].values() for rule, lost in rung.items() if rule != "last average")
    assert "Dice lost by rules" in output
    assert f"toolkit report {folder}" in output
    subprocess.run([sys.executable, "-m", "transeg", "report", folder, "--device", "cpu"], check=True)
    page = (folder / "report.html").read_text()
    pictures = page.partition('id="pictures"')[2].partition('id="cells"')[0]
    strips = [strip.count("<img") for strip in pictures.split('class="pictures strip"')[1:]]
    translating = {"fda", "joint", "joint+self-training"}
    # the images, the truth, and each rung; those that translate show a source image, too
    assert strips == [4, 4, *(4 if name in translating else 3 for name in ORDER)]
    assert pictures.count("data:image/webp") == sum(strips)

    experiments = [read_experiment(cell.definition, Registry()) for cell in cells.values()]
    assert {each.baseline for each in experiments} == {"none"}  # though the phantom's preset has one
    assert {each.train for each in experiments} == {experiments[0].train}


@pytest.mark.slow
def test_a_run_notes_which_groups_it_has_drawn(toolkit, tmp_path):
    synthetic = ["data.synthetic.domain=scope", "data.synthetic.side=32", "data.synthetic_limit=3"]
    options = ["--segmenter", "unet", "--source", "phantom", "--synthetic", "phantom", "--device", "cpu"]
    own = [each for each in SET if not each.startswith(("generator", "data.target", "data.test"))]
    toolkit("run", *options, "--run-dir", tmp_path / "run", "--set", *own, *synthetic, "train.iterations=1")
    noted = json.loads((tmp_path / "run" / "parts.json").read_text())
    assert noted["images"]["synthetic"] == len(noted["drawn"]) == 3  # each image of the phantom is a group


def test_what_cannot_begin_is_said_in_a_sentence(toolkit, tmp_path):
    tiny = ["--segmenter", "unet", "--device", "cpu", "--set", *SET]
    said = toolkit("ladder", "--rungs", "fdaa", *tiny, code=2).output
    assert "There is no rung 'fdaa'" in said
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    said = toolkit("ladder", "--ladder-dir", tmp_path / "mine", "--rungs", "fda", *tiny, code=2).output
    assert "choose another folder" in " ".join(said.split())
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_a_dry_run_writes_nothing(toolkit, tmp_path):
    options = ["--rungs", "fda,oracle", "--segmenter", "unet", "--device", "cpu", "--dry-run", "--set", *SET]
    output = toolkit("ladder", "--ladder-dir", tmp_path / "new", *options).output
    assert "source, low frequencies exchanged" in output
    assert "All alike: unet" in output
    estimate = r"Estimated from a few steps and images of each rung: \S+ to \S+ hours for 3 runs"
    assert re.search(estimate, " ".join(output.split()))
    assert not (tmp_path / "new").exists()
