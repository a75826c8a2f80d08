import json

import pytest
from conftest import TINY_CUT, TINY_DATA, TINY_TEST, TINY_TRAINING

from transeg.core.errors import UsageError
from transeg.core.experiment.validation import read_experiment
from transeg.core.registry import Registry
from transeg.tools.sweep import execution
from transeg.tools.sweep.definition import parse_axis
from transeg.tools.sweep.sweep_folder import read_sweep

SETTINGS = [*TINY_DATA, *TINY_TRAINING, *TINY_TEST]


@pytest.fixture
def define(toolkit, tmp_path, monkeypatch):
    """`toolkit sweep` up to where it would begin to train."""
    monkeypatch.setattr(execution, "run_cells", lambda *arguments, **options: False)

    def call(*options, settings=SETTINGS, code=0):
        return toolkit("sweep", tmp_path / "s", *options, *(["--set", *settings] if settings else []), code=code)

    return call


def test_what_is_repeated_is_an_axis(define, tmp_path):
    define("--segmenter", "unet", "--segmenter", "resunet", "--loss", "dice", "--seed", 0, "--seed", 1)
    sweep = read_sweep(tmp_path / "s")
    assert sweep.axes == {"segmenter": ["unet", "resunet"], "seed": ["seed0", "seed1"]}
    experiment = read_experiment(sweep.cells[3].definition, Registry())
    assert (experiment.segmenter.name, experiment.seed, experiment.loss.name) == ("resunet", 1, "dice")
    assert experiment.train.iterations == 3
    assert {cell.state() for cell in sweep.cells} == {"waiting"}


def test_a_file_declares_axes_and_options_replace_them(define, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[segmenter]\nname = "unet"\nbase = 8\n[sweep]\n"train.lr" = [1e-3, 1e-4]\nseed = [0, 1, 2]')
    define("--config", file, "--seed", 5, "--axis", "segmenter=unet,resunet")
    sweep = read_sweep(tmp_path / "s")
    assert sweep.axes == {"train.lr": ["lr0.001", "lr0.0001"], "segmenter": ["unet", "resunet"]}
    unet, resunet = (read_experiment(sweep.cells[place].definition, Registry()) for place in (0, 1))
    assert unet.seed == 5
    assert (unet.segmenter.options["base"], resunet.segmenter.name) == (8, "resunet")  # whose options are its own


def test_the_values_of_an_axis_may_be_tables(define, tmp_path):
    file = tmp_path / "mine.toml"
    target = 'data = {target = {name = "phantom", count = 10, side = 32}}'
    file.write_text(
        'segmenter = {name = "unet", base = 4}\n'
        "[sweep.method]\n"
        f'cut = {{generator = {{name = "cut", width = 4, blocks = 5, patches = 8}}, {target}}}\n'
        "none = {}"
    )
    define("--config", file, "--source", "phantom")
    with_cut, without = (read_experiment(cell.definition, Registry()) for cell in read_sweep(tmp_path / "s").cells)
    assert (with_cut.strategy.name, without.strategy.name) == ("joint", "supervised")


def test_datasets_are_an_axis(define, tmp_path):
    names = ["--source", "phantom:clean", "--source", "phantom:scope"]
    define("--segmenter", "unet", *names, "--test", "phantom", settings=[*TINY_TRAINING, "data.size=32"])
    cells = read_sweep(tmp_path / "s").cells
    assert [cell.name for cell in cells] == ["phantom-clean", "phantom-scope"]
    assert [read_experiment(cell.definition, Registry()).data.source.domain for cell in cells] == ["clean", "scope"]


def test_folds_are_cells(define, tmp_path):
    define("--segmenter", "unet", "--folds", 3)
    cells = read_sweep(tmp_path / "s").cells
    assert [cell.name for cell in cells] == ["fold1", "fold2", "fold3"]
    experiments = [read_experiment(cell.definition, Registry()) for cell in cells]
    assert [(each.folds, each.fold) for each in experiments] == [(3, 1), (3, 2), (3, 3)]


def test_the_same_again_changes_nothing_and_more_values_are_more_cells(define, tmp_path):
    names = ["--segmenter", "unet", "--segmenter", "resunet"]
    define(*names, "--seed", 0, "--seed", 1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("cell.toml")}
    define(*names, "--seed", 0, "--seed", 1)
    define(settings=())
    define(*names, "--seed", 0, "--seed", 1, "--seed", 2)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert len(read_sweep(tmp_path / "s").cells) == 6
    for options, sentence in (
        ([*names, "--seed", 0, "--seed", 1], "its axis seed has seed2, too"),
        ([*names], "its axes are segmenter, seed"),
        ([*names, "--seed", 0, "--seed", 1, "--seed", 2, "--set", "train.lr=1"], "train.lr is not the same"),
    ):
        said = " ".join(define(*options, code=2).stderr.split())
        assert sentence in said
        assert "Traceback" not in said


def test_what_does_not_fit_is_known_before_anything_trains(define, tmp_path):
    settings = [*SETTINGS, *TINY_CUT, "data.target.count=10", "data.target.side=32"]
    options = ["--generator", "cut", "--generator", "pix2pix", "--segmenter", "unet", "--target", "phantom"]
    options += ["--source", "phantom", "--seed", 0, "--seed", 1]
    said = " ".join(define(*options, settings=settings, code=2).stderr.split())
    assert "2 of 4 combinations cannot be trained. pix2pix_seed0 and 1 more:" in said
    assert "--skip-unfit" in said
    assert not (tmp_path / "s").exists()
    define(*options, "--skip-unfit", settings=settings)
    sweep = read_sweep(tmp_path / "s")
    assert [cell.name for cell in sweep.cells] == ["cut_seed0", "cut_seed1"]
    assert set(sweep.left_out) == {"pix2pix_seed0", "pix2pix_seed1"}
    assert "left out" in define("--status", settings=()).stdout


def test_what_none_could_do_is_said_once(define):
    said = define("--segmenter", "unet", "--seed", 0, "--seed", 1, "--set", "train.lrr=1", code=2).stderr
    assert said.strip().splitlines()[-1].startswith("Error: There is no option train.lrr.")


def test_a_plan_writes_nothing(define, tmp_path):
    output = define("--segmenter", "unet", "--seed", 0, "--seed", 1, "--dry-run").stdout
    assert "seed1" in output
    assert "2 waiting" in output
    assert not (tmp_path / "s").exists()


def test_status_needs_a_sweep(define, tmp_path):
    assert "not a sweep" in define("--status", settings=(), code=2).stderr
    define("--segmenter", "unet", "--seed", 0, "--seed", 1)
    cells = json.loads(define("--status", "--json", settings=()).stdout)["cells"]
    assert cells[0] == {"name": "seed0", "values": {"seed": "seed0"}, "state": "waiting", "reason": ""}


def test_there_must_be_an_axis(define):
    assert "no axis to sweep" in define("--segmenter", "unet", code=2).stderr


def test_ranks_are_refused(define, monkeypatch, tmp_path):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "torchrun" in define("--segmenter", "unet", "--segmenter", "resunet", code=2).stderr
    assert not (tmp_path / "s").exists()


def test_axes_of_any_option():
    assert parse_axis("train.lr=1e-3,1e-4") == {"train.lr": [1e-3, 1e-4]}
    assert parse_axis("loss=dice,dice+0.5*bce") == {"loss": ["dice", "dice+0.5*bce"]}
    assert parse_axis("train.head_weights=[1, 0.5],[1, 1]") == {"train.head_weights": [[1, 0.5], [1, 1]]}
    for wrong in ("train.lr", "=1,2", "a..b=1", "seed="):
        with pytest.raises(UsageError, match="is not of the form"):
            parse_axis(wrong)
