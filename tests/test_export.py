"""`toolkit export`: files of other formats that give the run's own numbers, and say what they are."""

import hashlib
import json
import re
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SUPERVISED, TINY_SYNDIFF, command
from huggingface_hub import ModelCard
from PIL import Image

from transeg.core.inference.trained_model import TrainedModel
from transeg.core.interfaces import Noise
from transeg.core.models.forward import translate
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.tools.export import check, exporting

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

DOCS = Path(__file__).parent.parent / "docs" / "how-to" / "export.md"
FOLDERS = re.compile(rb"/(transeg|site-packages|bin)/")
SIZES = [(1, 32, 32), (3, 45, 37), (2, 33, 70)]


@pytest.fixture(scope="module")
def run(toolkit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "supervised"
    toolkit(*command(SUPERVISED, "--set", "data.test.phantom.count=30", "--run-dir", folder))
    return folder


@pytest.fixture(scope="module")
def exported(toolkit, run, tmp_path_factory):
    """A run in every format, what the command printed, and how far each of its bars came."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    bars = {}

    @contextmanager
    def counted(_console, title, total, unit="images"):
        bars[title] = [total, 0]

        def advance():
            bars[title][1] += 1

        yield advance

    formats = ["onnx", "torchscript", "torch-export", "safetensors"]
    options = [part for name in formats for part in ("--format", name)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exporting, "progress_bar", counted)
        document = json.loads(toolkit("export", run, "-o", folder, *options, "--int8", "--fp16", "--json").stdout)
    return folder, document, bars


def trained(folder):
    return TrainedModel.load(RunFolder(folder), Registry(), "cpu")


def images(count, height, width, seed=0):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def onnx_session(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])


def test_what_is_constant_in_a_graph_is_folded(exported):
    import onnx

    kinds = {node.op_type for node in onnx.load(exported[0] / "model.onnx").graph.node}
    assert "Conv" in kinds
    assert not kinds & {"Constant", "CastLike", "Identity"}


def test_axes_have_names_and_no_folder_of_this_machine_is_in_a_graph(exported):
    for name in ("model.onnx", "model-fp16.onnx", "model-int8.onnx"):
        session = onnxruntime.InferenceSession(exported[0] / name, providers=["CPUExecutionProvider"])
        (image,), (probabilities,) = session.get_inputs(), session.get_outputs()
        assert image.shape == ["batch", 3, "height", "width"]
        assert probabilities.shape == ["batch", 1, "height", "width"]
        assert not FOLDERS.search((exported[0] / name).read_bytes())
    with zipfile.ZipFile(exported[0] / "model.pt2") as program:
        assert not any(FOLDERS.search(program.read(entry)) for entry in program.namelist())


@pytest.mark.parametrize("name", ["model.onnx", "model.torchscript", "model.pt2"])
def test_each_format_gives_the_runs_numbers_in_its_own_runtime(exported, run, name):
    path, of_run = exported[0] / name, trained(run)
    runtimes = {".onnx": onnx_session, ".torchscript": torch.jit.load, ".pt2": lambda p: torch.export.load(p).module()}
    module = runtimes[path.suffix](str(path))
    for size in SIZES:
        image = images(*size)
        with torch.inference_mode():
            expected = of_run.segment(image * 2 - 1).sigmoid()
            assert torch.allclose(module(image), expected, atol=1e-5)
        assert expected.std() > 1e-3


def test_smaller_numbers_come_with_their_dice(exported, run):
    folder, document, _ = exported
    tests = json.loads((run / "metrics.json").read_text())["tests"]
    rows = {row["file"]: row for row in document["files"]}
    sizes = [(folder / name).stat().st_size for name in ("model.onnx", "model-fp16.onnx", "model-int8.onnx")]
    assert sizes == sorted(sizes, reverse=True)
    assert document["measured_on"] == tests["phantom"]["images"] > 1
    for name in ("model-fp16.onnx", "model-int8.onnx"):
        assert rows["model.onnx"]["difference"] < rows[name]["difference"] < 0.2
        assert abs(rows[name]["dice"] - document["original"]["dice"]) < 0.2
    assert rows["model.onnx"]["dice"] is None
    assert all(row["ms"] > 0 for row in rows.values())
    assert {(row["images"], row["height"] % 16 > 0) for row in rows["model.onnx"]["compared"]} >= {(1, True), (2, True)}


def test_progress_is_told_of_each_file_and_calibration_image(exported):
    _, document, bars = exported
    assert {f"writing {row['file']}" for row in document["files"]} <= bars.keys()
    assert all(total == done for total, done in bars.values())
    assert bars["writing model-int8.onnx"][0] > 1


def test_the_dice_of_the_original_is_that_of_the_run(exported, run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert exported[1]["original"]["dice"] == pytest.approx(metrics["tests"]["phantom"]["dice"], abs=1e-3)


def test_weights_begin_a_new_run(toolkit, exported, run, tmp_path):
    path = exported[0] / "segmenter.safetensors"
    assert path.stat().st_mode & 0o444 == 0o444
    begun = tmp_path / "begun"
    lazy = ["--set", "train.iterations=1", "train.lr=1e-12", f"segmenter.weights={path}"]
    toolkit(*command(SUPERVISED, *lazy, "--run-dir", begun))
    before, after = (
        TrainedModel.load(RunFolder(folder), Registry(), "cpu", layers=True).segmenter for folder in (run, begun)
    )
    assert all(
        torch.allclose(one, two, atol=1e-6) for one, two in zip(before.parameters(), after.parameters(), strict=True)
    )


def test_the_card_says_what_the_run_says(exported, run, tmp_path_factory):
    folder, *_ = exported
    card = ModelCard.load(folder / "README.md")
    metrics = json.loads((run / "metrics.json").read_text())["tests"]["phantom"]
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert found == {key: metrics[key] for key in found}
    assert {"dice", "iou"} <= found.keys()
    low, high = metrics["dice_ci"]
    assert f"| dice | {metrics['dice']:.3f} | {low:.3f} to {high:.3f} |" in card.text
    assert card.data.library_name == "transeg"
    assert "no medical device" in card.text
    assert "phantom, domain clean | train | Apache-2.0" in card.text
    assert "arXiv:1505.04597" in card.text
    sums = dict(re.findall(r"^\| (\S+) \| `([0-9a-f]{64})` \|$", card.text, re.MULTILINE))
    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "README.md"
    }
    assert str(tmp_path_factory.getbasetemp()) not in card.content


def test_the_example_of_the_docs_finds_what_predict_finds(toolkit, exported, run, tmp_path, monkeypatch):
    (example,) = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    assert len([line for line in example.splitlines() if line]) <= 16
    monkeypatch.chdir(tmp_path)
    Path("model").symlink_to(exported[0])
    pixels = images(1, 6, 8)[0].permute(1, 2, 0).numpy()
    Image.fromarray((pixels * 255).astype(np.uint8)).resize((48, 40), Image.Resampling.BICUBIC).save("photo.png")
    exec(compile(example, "docs/how-to/export.md", "exec"), {})
    toolkit("predict", run, "photo.png", "-o", "out")
    found, expected = (np.asarray(Image.open(file)) > 0 for file in ("mask.png", "out/masks/photo.png"))
    assert found.shape == expected.shape == (40, 48)
    assert (found == expected).mean() > 0.97


def test_generator_and_segmenter_are_one_graph(toolkit, joint_run, tmp_path):
    options = ["--translate-with", joint_run, "--format", "torchscript"]
    toolkit("export", joint_run, "-o", tmp_path / "both", *options)
    of_run = trained(joint_run)
    module = torch.jit.load(str(tmp_path / "both" / "model.torchscript"))
    for size in SIZES:
        image = images(*size)
        with torch.inference_mode():
            expected = of_run.segment(of_run.translate(image * 2 - 1)).sigmoid()
            assert torch.allclose(module(image), expected, atol=1e-5)
    assert "source-to-target" in (tmp_path / "both" / "preprocessing.json").read_text()
    card = ModelCard.load(tmp_path / "both" / "README.md")
    assert card.data.eval_results is None  # the segmenter alone was tested
    assert "On translated images it has not been tested" in card.text
    assert (
        "images, as those of phantom, domain clean, and first makes images, as those of phantom, domain scope"
        in card.text
    )


def test_chance_comes_in_as_inputs(toolkit, tmp_path):
    data = ["data.size=32", "data.source.count=10", "data.source.side=32", "data.target.count=10"]
    settings = [*data, "data.target.side=32", "train.iterations=1", "train.batch_size=2", *TINY_SYNDIFF]
    parts = ["--generator", "syndiff", "--target", "phantom:scope"], settings
    toolkit(*command(parts, "--run-dir", tmp_path / "run"))
    options = ["--format", "torchscript", "--direction", "target-to-source"]
    toolkit("export", tmp_path / "run", "-o", tmp_path / "model", *options)
    about = json.loads((tmp_path / "model" / "preprocessing.json").read_text())
    assert [given["name"] for given in about["inputs"]] == ["image", "noise", "latent"]
    said = (tmp_path / "model" / "README.md").read_text()
    assert "images, as those of phantom, domain scope, and makes images, as those of phantom, domain clean" in said
    module = torch.jit.load(str(tmp_path / "model" / "model.torchscript"))
    generator = trained(tmp_path / "run").generator
    for count, height, width in ((1, 32, 32), (3, 48, 64)):
        image, noise = images(count, height, width), Noise(torch.arange(count) + 5)
        fields = torch.cat([noise.field(stream, 3, height, width) for stream in (0, 8, 6, 4)], 1)
        latents = torch.cat([noise.vector(stream, 100) for stream in (7, 5, 3, 1)], 1)
        with torch.inference_mode():
            expected = (translate(generator, image * 2 - 1, "target-to-source", noise) + 1) / 2
            found = module(image, fields, latents)
        assert torch.allclose(found, expected, atol=1e-4)
        assert not torch.allclose(module(image, fields + 1, latents), expected, atol=1e-4)


def test_label_maps_go_in_as_numbers(toolkit, tmp_path):
    settings = ["data.size=32", "data.source.count=10", "data.source.side=32", "train.iterations=1"]
    parts = (
        ["--generator", "pix2pix"],
        [*settings, "generator.width=4", "generator.depth=3", "generator.condition=mask+boundary"],
    )
    toolkit(*command(parts, "--run-dir", tmp_path / "run"))
    refused = toolkit("export", tmp_path / "run", "-o", tmp_path / "model", code=2).output
    assert "draws random numbers of its own" in refused
    options = ["--set", "generator.noise=false", "--format", "torchscript", "--format", "safetensors"]
    toolkit("export", tmp_path / "run", "-o", tmp_path / "model", *options)
    assert (tmp_path / "model" / "generator.safetensors").exists()
    module = torch.jit.load(str(tmp_path / "model" / "model.torchscript"))
    (tmp_path / "maps").mkdir()
    Image.fromarray(np.eye(40, dtype=np.uint8) * 255).save(tmp_path / "maps" / "one.png")
    toolkit("export", tmp_path / "run", "-o", tmp_path / "other", *options, "--images", tmp_path / "maps")
    said = (tmp_path / "model" / "README.md").read_text()
    assert "noise=False" in said
    assert "label maps, as those of phantom, domain clean" in said
    assert not json.loads((tmp_path / "model" / "generator.json").read_text())["options"]["noise"]
    of_run = trained(tmp_path / "run")
    of_run.generator._noise = False
    labels = (images(2, 29, 35)[:, 0] > 0.5).long()
    with torch.inference_mode():
        expected = (of_run.translate(of_run.given.encode(labels, None)) + 1) / 2
        assert torch.allclose(module(labels), expected, atol=1e-5)


BENT = '''
from torch import nn
from transeg.core.interfaces import Segmenter

class Bent(Segmenter):
    """Does something else on wide images.

    Args:
        in_channels: channels.
        num_classes: outputs.
    """
    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, num_classes, 1)

    def forward(self, image):
        return self.conv(image) + (5 if image.shape[3] < 50 else 0)
'''


def test_a_file_that_differs_is_not_kept(toolkit, tmp_path):
    (tmp_path / "bent.py").write_text(BENT)
    manifest = tmp_path / "bent.toml"
    manifest.write_text('[plugin]\ncontract = 1\n[segmenter.bent]\nentry = "bent.py:Bent"\n')
    run = tmp_path / "run"
    parts = (
        ["--segmenter", "bent", "--registry", str(manifest)],
        [
            *SUPERVISED[1][:-1],
            "train.iterations=1",
        ],
    )
    toolkit(*command(parts, "--run-dir", run))
    options = ["--format", "torchscript", "--registry", manifest]
    said = " ".join(toolkit("export", run, "-o", tmp_path / "model", *options, code=1).output.split())
    assert "model.torchscript differs from the original by" in said
    assert f"{check.TOLERANCE:g} is allowed, so nothing is kept" in said
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.glob(".model*"))


def test_bad_input_gets_a_sentence(toolkit, run, joint_run, tmp_path, monkeypatch):
    def said(*arguments, code=2):
        return " ".join(toolkit("export", *arguments, code=code).output.split())

    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").touch()
    out = tmp_path / "out"
    assert "is there already, and not an empty folder" in said(run, "-o", taken)
    assert "is not a run folder" in said(tmp_path, "-o", out)
    assert "--int8 and --fp16 make smaller ONNX files" in said(run, "-o", out, "--format", "safetensors", "--int8")
    assert "--direction is of a translation" in said(run, "-o", out, "--direction", "target-to-source")
    assert "--set is for options of a generator" in said(run, "-o", out, "--set", "segmenter.base=8")
    assert "trained a segmenter alone" in said(run, "-o", out, "--generator")
    assert "and there is none here" in said(joint_run, "-o", out, "--generator", "--translate-with", joint_run)
    assert "translates source-to-target, not" in said(
        joint_run, "-o", out, "--generator", "--direction", "target-to-source"
    )
    assert "There is no image or folder" in said(run, "-o", out, "--images", tmp_path / "gone")
    assert "changes the generator's weights" in said(joint_run, "-o", out, "--generator", "--set", "generator.width=8")
    for setting in ("generator=8", "generator.condition=mask", "segmenter.base=8"):
        assert "options of the generator here" in said(joint_run, "-o", out, "--generator", "--set", setting)
    monkeypatch.chdir(tmp_path)
    assert "names no folder that could be made" in said(run, "-o", ".")
    both = ["--translate-with", joint_run, "--format", "safetensors"]
    assert "the weights of one network" in said(joint_run, "-o", out, *both)
    assert "Invalid value for '--format'" in said(run, "-o", out, "--format", "onyx")
    monkeypatch.setattr("transeg.core.optional_packages.find_spec", lambda name: None)
    assert "needs onnx, which is not installed: pip install 'transeg[export]'" in said(run, "-o", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]
