import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import BOTH, SUPERVISED, TRANSLATION, command

from transeg.cli import Later, main
from transeg.core.errors import TransegError

SLOW_TO_IMPORT = {"torchvision", "timm", "albumentations", "torchmetrics", "mmengine", "matplotlib", "optuna"}
SLOW_TO_IMPORT |= {"skimage", "sklearn", "pandas", "onnx", "tensorboard", "sympy", "torch._dynamo"}
KEYS = {"kind", "name", "package", "status", "summary", "params", "paper", "tags"}


def test_list_shows_every_kind(toolkit):
    output = toolkit("list").stdout
    for title in ("Generators", "Segmenters", "Losses", "Datasets", "hardnet", "17,423,837", "arXiv:2101.07172"):
        assert title in output


@pytest.mark.parametrize("kind", ["segmenters", "segmenter", "losses", "loss", "datasets", "generators"])
def test_list_takes_a_kind_in_either_number(toolkit, kind):
    rows = json.loads(toolkit("list", kind, "--json").stdout)
    assert len({row["kind"] for row in rows}) == 1


def test_list_as_json(toolkit):
    rows = json.loads(toolkit("list", "--json").stdout)
    assert all(set(row) >= KEYS for row in rows)
    (hardnet,) = (row for row in rows if row["name"] == "hardnet")
    assert {key: hardnet[key] for key in KEYS - {"summary"}} == {
        "kind": "segmenter",
        "name": "hardnet",
        "package": "transeg",
        "status": "ok",
        "params": 17_423_837,
        "paper": "arXiv:2101.07172",
        "tags": [],
    }


def test_list_of_an_unknown_kind(toolkit):
    assert "There is no kind 'models'" in toolkit("list", "models", code=2).stderr


@pytest.mark.parametrize("name", ["generator/cut", "cut", "segmenter/hardnet", "losses/focal", "dataset/folder"])
def test_info(toolkit, name):
    output = toolkit("info", name).stdout
    assert "Example" in output
    assert "toolkit run" in output


def test_info_tells_options(toolkit):
    document = json.loads(toolkit("info", "generator/cut", "--json").stdout)
    assert {"name": "width", "type": "int", "default": 64, "help": document["options"][1]["help"]} in document[
        "options"
    ]
    assert all(option["help"] for option in document["options"])
    assert {"segmenter.weights", "segmenter.num_classes"} <= set(toolkit("info", "hardnet").stdout.split())
    assert {"data.source.root", "data.source.split"} <= set(toolkit("info", "kvasir").stdout.split())


@pytest.mark.parametrize("name", ["generator/cut", "segmenter/unet", "loss/dice", "dataset/phantom"])
def test_the_example_of_info_can_be_run(toolkit, name):
    words = toolkit("info", name).stdout.partition("Example")[2].split()
    assert words[0] == "toolkit"
    toolkit(*words[1:], "--dry-run")


def test_info_of_nothing(toolkit):
    assert "Did you mean 'cut'" in toolkit("info", "generator/cuts", code=2).stderr
    assert "which kind" in toolkit("info", "nothing", code=2).stderr


@pytest.mark.parametrize(
    "arguments", [["list"], ["--help"], ["run", "--help"], ["benchmark", "--help"], ["list", "--json"]]
)
def test_browsing_imports_nothing_heavy(arguments):
    code = f"""
import sys
from transeg.cli import Later, main
try:
    main({arguments!r})
except SystemExit as end:
    assert end.code == 0
heavy = {{"torch", "numpy", "mmengine", "albumentations", "cv2", "PIL", "timm", "torchmetrics"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("run --generator cut --segmenter hardnet --dry-run", {"scipy.stats", "scipy.spatial"}),
        ("run --segmenter unet --loss focal --dry-run", {"scipy.stats", "scipy.spatial"}),
        ("predict {runs}/joint {runs}/images --out masks", {"scipy"}),
        ("translate {runs}/joint {runs}/images --out translated", {"scipy"}),
        ("compare {runs}/joint {runs}/joint", {"torch", "cv2", "scipy"}),
        ("plugin new my-unet --kind segmenter", {"torch", "cv2", "scipy"}),
    ],
)
def test_commands_import_what_they_use(command, more, tmp_path):
    """docs/decisions/startup.md; nothing is timed, since a machine may be busy."""
    code = """
import sys
from transeg.cli import main
try:
    main(sys.argv[2:])
except SystemExit as end:
    assert end.code == 0
loaded = set(sys.argv[1].split(",")) & set(sys.modules)
assert not loaded, loaded
"""
    runs = Path(__file__).parent / "stored_runs"
    words = [word.format(runs=runs) for word in command.split()]
    unwanted = ",".join({*SLOW_TO_IMPORT, *more})
    subprocess.run([sys.executable, "-c", code, unwanted, *words], check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_browsing_takes_little_more_than_python_itself(process):
    """In seconds of the processor, which other work on the machine may double; importing torch takes more."""

    def cost(call):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        call()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    bare = min(cost(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True)) for _ in range(5))
    assert min(cost(lambda: process("list")) for _ in range(5)) - bare < 1
    assert min(cost(lambda: process("--help")) for _ in range(5)) - bare < 1


def test_info_lists_the_layers_of_a_segmenter(toolkit):
    layers = json.loads(toolkit("info", "segmenter/unet", "--json").stdout)["layers"]
    assert {"name": "mid_stage", "channels": 512, "stride": 16} in layers
    assert [layer["name"] for layer in layers][-1] == "seg_head"
    assert "mid_stage" in toolkit("info", "segmenter/unet").stdout
    assert "layers" not in json.loads(toolkit("info", "loss/dice", "--json").stdout)


def test_help_shows_commands_that_can_be_copied(toolkit):
    lines = [line.strip() for line in toolkit("run", "--help").stdout.splitlines()]
    assert "toolkit run --generator cut --segmenter hardnet" in lines
    assert not any("..." in line for line in toolkit("--help").stdout.splitlines()[1:])


def test_the_module_is_the_command(process):
    assert process("--help").stdout.startswith("Usage: toolkit")


@pytest.mark.parametrize("arguments", [["--nonsense"], ["run", "--nonsense"], ["nonsense"], ["info"]])
def test_wrong_usage_exits_with_two(process, arguments):
    result = process(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_fault_of_ours_has_no_traceback_unless_asked_for(toolkit, monkeypatch):
    import transeg.core.pipeline.launch

    def fail(*arguments, **options):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(transeg.core.pipeline.launch, "prepare", fail)
    result = toolkit("run", "--segmenter", "unet", code=1)
    assert "ZeroDivisionError: oh" in result.stderr
    assert "Traceback" not in result.stderr
    with pytest.raises(ZeroDivisionError):
        toolkit("--debug", "run", "--segmenter", "unet")


@pytest.mark.parametrize("parts", [SUPERVISED, TRANSLATION, BOTH])
def test_a_dry_run_prints_the_plan_and_writes_nothing(toolkit, tmp_path, parts):
    result = toolkit(*command(parts, "--dry-run", "--run-dir", tmp_path / "run"))
    for fact in ("strategy", "source", "3 iterations", "batch 2", "32x32 pixels", "10 images", "parameters"):
        assert fact in result.stdout
    document = json.loads(toolkit(*command(parts, "--dry-run", "--json", "--run-dir", tmp_path / "run")).stdout)
    assert document["images"]["source"] == 10
    assert document["experiment"]["train"]["iterations"] == 3
    assert not (tmp_path / "run").exists()


def test_the_demo_says_what_it_makes_smaller(toolkit):
    plan = " ".join(toolkit("run", "--generator", "cut", "--segmenter", "hardnet", "--dry-run").stdout.split())
    for fact in ("data.size 96 (published: 256)", "(published: 12500)", "generator.width 16 (published: 64)"):
        assert fact in plan
    assert "source-only baseline" in plan


def test_a_plan_says_that_the_source_is_inverted(toolkit):
    said = toolkit(*command(SUPERVISED, "--dry-run", "--set", "data.source.invert=true")).stdout
    assert "10 images, dark and bright exchanged" in " ".join(said.split())


def test_json_is_one_document_and_nothing_else(process, tmp_path):
    result = process(*command(SUPERVISED, "--json", "--run-dir", tmp_path / "run"))
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["run_dir"] == str(tmp_path / "run")
    assert set(document["tests"]["phantom"]) >= {"dice", "iou", "images"}


def test_on_a_pipe_there_are_plain_lines(process, tmp_path):
    result = process(*command(SUPERVISED, "--run-dir", tmp_path / "run"))
    assert "\x1b" not in result.stdout + result.stderr
    assert "supervised: 3/3" in result.stderr
    assert str(tmp_path / "run" / "previews" / "final.png") in result.stdout
    assert f"toolkit predict {tmp_path / 'run'} IMAGES -o masks" in result.stdout


def test_a_narrow_window_cuts_no_word_of_a_name(process):
    result = process("list", env={"COLUMNS": "60", "PATH": "/usr/bin"})
    assert "polyp-benchmark" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 60


def test_a_command_that_is_not_there(toolkit):
    assert "There is no command 'swep'. Did you mean 'sweep'?" in toolkit("swep", code=2).stderr


def test_a_plugins_command(tmp_path, monkeypatch, toolkit):
    package = tmp_path / "commanding"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import click\n@click.command()\n@click.option('--x')\n"
        "def hello(x):\n    click.echo(f'hello {x}' if x else 1 / 0)\n"
    )
    (package / "registry.toml").write_text(
        '[plugin]\ncontract = 1\n[command.hello]\nentry = "commanding:hello"\nsummary = "Greets"\n'
        '[command.list]\nentry = "commanding:hello"\n[command.text]\nentry = "commanding:__name__"\n'
        '[command.lost]\nentry = "commanding:lost"\n'
    )
    info = tmp_path / "commanding-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: commanding\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[transeg]\ncommanding = commanding\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "Greets" in toolkit("--help").stdout
    assert toolkit("hello", "--x", "you").stdout == "hello you\n"
    assert "Usage: toolkit hello [OPTIONS]" in CliRunner().invoke(main, ["hello", "-h"], prog_name="toolkit").stdout
    assert "This is a fault of the plugin commanding;" in toolkit("hello", code=1).stderr
    assert (
        "The command lost of the plugin commanding cannot be loaded: AttributeError" in toolkit("lost", code=1).stderr
    )
    assert "a str, where a Click command belongs" in toolkit("text", code=1).stderr
    assert "Generators" in toolkit("list", "generators").stdout  # a built-in name stays what it was


def test_a_benchmark_fits_the_window(process):
    arguments = ["benchmark", "unet", "--size", "16", "--threads", "1", "--device", "cpu"]
    result = process(*arguments, env={"COLUMNS": "60", "PATH": "/usr/bin"})
    assert result.returncode == 0, result.stderr
    assert "8.63" in result.stdout
    assert "Inference, 16x16 pixels, cpu, 1 thread." in " ".join(result.stdout.split())
    assert max(len(line) for line in result.stdout.splitlines()) <= 60
    assert result.stderr == "measuring: 1 segmenter\n"


def test_a_benchmark_as_json_says_what_failed(toolkit, monkeypatch):
    def refuse(request):
        raise TransegError(f"{request.segmenter} cannot be measured: no.")

    monkeypatch.setattr("transeg.tools.benchmark.benchmark.measure_in_subprocess", refuse)
    arguments = ["benchmark", "unet", "--size", "16", "--device", "cpu"]
    document = json.loads(toolkit(*arguments, "--train", "--json", code=1).stdout)
    assert document == {
        "size": 16,
        "batch": 2,
        "device": "cpu",
        "train": True,
        "segmenters": [{"name": "unet", "error": "unet cannot be measured: no."}],
    }
    assert "failed  unet cannot be measured: no." in toolkit(*arguments, code=1).stdout
    assert "Did you mean 'unet'" in toolkit("benchmark", "unett", code=2).stderr


@pytest.mark.parametrize(
    "wrong",
    [
        ["--segmenter", "hardnt"],
        ["--segmenter", "unet", "--set", "train.lrr=1"],
        ["--segmenter", "unet", "--device", "gpu"],
    ],
)
def test_what_is_wrong_with_a_run_is_said_before_torch_is_imported(wrong):
    line = [sys.executable, "-X", "importtime", "-m", "transeg", "run", *wrong]
    result = subprocess.run(line, capture_output=True, text=True)
    assert result.returncode == 2
    imported = {
        text.rpartition("|")[2].strip() for text in result.stderr.splitlines() if text.startswith("import time")
    }
    assert "click" in imported
    assert not {"torch", "numpy", "mmengine"} & imported


def test_a_full_gpu_is_no_fault_of_ours(toolkit, monkeypatch):
    def fill():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(Later, "make_context", lambda *_, **__: fill())
    said = " ".join(toolkit("list", code=1).stderr.split())
    assert "The GPU's memory is not enough." in said
    assert "fault" not in said
