"""Two processes work as one."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import TINY_CUT, TINY_CYCLEGAN, TINY_DATA, TINY_SYNDIFF, TINY_TARGET, TINY_TEST, command
from PIL import Image
from servers import Ranks

from transeg.core.evaluation.scores import evaluate
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training.parts import build_parts

NETWORKS = '''
import torch
from torch import nn
from transeg.core.interfaces import Segmenter
from transeg.plugins.segmenters.unet import UNet

class Plain(Segmenter):
    """Without batch norm, whose statistics are those of a rank alone."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, num_classes, 1)
        )

    def forward(self, image):
        return self.body(image)

class Experts(Segmenter):
    """Each image is for one of its networks, so that a rank may have no gradient for another."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(Plain(in_channels, num_classes) for _ in range(3))

    def forward(self, image):
        numbers = [int(one[..., 0].sum() * 1000) % 3 for one in image]
        return torch.stack([self.experts[number](one[None])[0] for number, one in zip(numbers, image)])

class Frozen(UNet):
    """Its batch norms keep the statistics that they have."""

    def train(self, mode: bool = True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self
'''
ALONE = '''
from transeg.plugins.generators.syndiff import SynDiff, discriminators

discriminators.GROUP = 1

class Alone(SynDiff):
    """Without looks at the other images of a batch, which are those of a rank alone."""
'''
BROKEN = '''
import os
from torch import nn

class Broken(nn.BCEWithLogitsLoss):
    """No number in the third iteration on the second rank."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, logits, target):
        self.calls += 1
        loss = super().forward(logits[:, 0], (target == 1).float())
        return loss if self.calls < 3 or os.environ["RANK"] == "0" else self.third(loss)

    def third(self, loss):
        return loss * float("nan")

class Raising(Broken):
    """An error in its place."""

    def third(self, loss):
        raise ZeroDivisionError("a fault of the loss")
'''
MANIFEST = """
[plugin]
contract = 1
[segmenter.plain]
entry = "plain.py:Plain"
[segmenter.experts]
entry = "plain.py:Experts"
[segmenter.frozen]
entry = "plain.py:Frozen"
[loss.broken]
entry = "broken.py:Broken"
role = "segmentation"
[loss.raising]
entry = "broken.py:Raising"
role = "segmentation"
[generator.alone]
entry = "alone.py:Alone"
"""
OPTIONS = ["train.iterations=4", "train.val_interval=2", "train.checkpoint_interval=2", "baseline=none"]
GENERATORS = {
    "cut": ("cut", [*TINY_CUT, *TINY_TARGET]),
    # so that the second iteration sees images of the first one
    "cyclegan": ("cyclegan", [*TINY_CYCLEGAN, "generator.pool=3", *TINY_TARGET]),
    # deep enough for dropout; batch norm would know but half of the batch
    "pix2pix": ("pix2pix", ["data.size=64", "generator.width=4", "generator.depth=6", "generator.norm=instance"]),
    "syndiff": ("alone", [*TINY_SYNDIFF, *TINY_TARGET, "generator.r1_interval=2"]),
    "histogram": ("histogram", TINY_TARGET),
    "fda": ("fda", TINY_TARGET),
    "stain": ("stain", TINY_TARGET),
}
"""How each built-in generator is trained here: under which name, and with which options."""

BUILT_IN = [component for component in Registry().components("generator") if component.package == "transeg"]


@pytest.fixture(scope="module")
def one():
    """A process that is alone; not this one, which must not import what changes others' constants."""
    ranks = Ranks(1)
    yield ranks
    ranks.close()


@pytest.fixture(scope="module")
def two():
    ranks = Ranks(2)
    yield ranks
    ranks.close()


@pytest.fixture
def line(tmp_path):
    """Arguments of `toolkit run`."""
    (tmp_path / "plain.py").write_text(NETWORKS)
    (tmp_path / "alone.py").write_text(ALONE)
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "plain.toml").write_text(MANIFEST)

    def arguments(parts, settings, folder, *more):
        loss = ["--loss", "bce"] if "--segmenter" in parts and "--loss" not in parts else []
        settings = [*TINY_DATA, *OPTIONS, *settings, "data.workers=0"]
        return command(([*parts, *loss], settings), "--registry", tmp_path / "plain.toml", "--run-dir", folder, *more)

    return arguments


def everything(folder):
    """All weights of a run, and their averages where there are any."""
    state = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    return state["model"] | {f"average of {key}": average for key, average in state["averages"].items()}


def assert_equal_training(start, a, b):
    """That two trainings went the same way except for rounding.

    A bias in front of a norm has no gradient but rounding, which Adam makes as large as any other: weights alone. What
    a generator fits before a training stays as it is.
    """
    still = {key for key in a if torch.equal(a[key], start[key]) and torch.equal(a[key], b[key])}
    names = [key for key in a if a[key].ndim >= 2 and key not in still]
    moved, apart = (
        torch.cat([(a[key] - other[key]).abs().flatten() for key in names]).mean().item() for other in (start, b)
    )
    assert moved > 1e-5
    assert apart < 0.01 * moved, (apart, moved)


def cases():
    yield pytest.param(["--segmenter", "plain"], [], id="supervised")
    yield pytest.param(["--segmenter", "experts"], [], id="supervised-parts-without-gradient")
    yield pytest.param(["--segmenter", "frozen"], ["segmenter.base=4"], id="supervised-frozen-batch-norm")
    teaching = [*TINY_TARGET, "strategy.threshold=0.1", "strategy.masking=true", "strategy.masking_block=8"]
    yield pytest.param(["--strategy", "self-training", "--segmenter", "plain"], teaching, id="self-training")
    for component in BUILT_IN:
        name = component.name
        assert name in GENERATORS, f"Say in GENERATORS how {name} is trained here."
        used, settings = GENERATORS[name]
        if component.entry.params:  # the others have nothing to train
            yield pytest.param(["--generator", used], settings, id=f"translation-{name}")
        yield pytest.param(
            ["--generator", used, "--segmenter", "plain"], [*settings, "joint.weight=0.5"], id=f"joint-{name}"
        )
    settings = [*GENERATORS["cut"][1], "generator.variant=fastcut", "joint.weight=0.5"]
    yield pytest.param(["--generator", "cut", "--segmenter", "plain"], settings, id="joint-fastcut")
    settings = [*GENERATORS["cut"][1], "strategy.threshold=0.1", "strategy.weight=0.5"]
    parts = ["--strategy", "self-training", "--generator", "cut", "--segmenter", "plain"]
    yield pytest.param(parts, settings, id="self-training-cut")


@pytest.mark.parametrize(("parts", "settings"), list(cases()))
def test_two_ranks_are_one_with_the_joint_batch(tmp_path, one, two, line, parts, settings):
    one(*line(parts, [*settings, "train.batch_size=4"], tmp_path / "one"))
    one(*line(parts, [*settings, "train.batch_size=4", "train.iterations=1"], tmp_path / "begun"))
    said = two(*line(parts, [*settings, "train.batch_size=2"], tmp_path / "two"))
    assert [output.count("strategy") for output, _ in said] == [1, 0]  # only one rank speaks
    assert_equal_training(*(everything(tmp_path / name) for name in ("begun", "one", "two")))


@pytest.mark.parametrize("name", ["cut", "pix2pix"])
def test_both_stages_of_a_sequential_run_are_shared(tmp_path, one, two, line, name):
    """Images translated or synthesized in between are rounded to whole intensities."""
    parts = ["--generator", name, "--segmenter", "plain", "--strategy", "sequential"]
    settings = [*GENERATORS[name][1], "baseline=none"]
    if name == "pix2pix":
        parts += ["--source", "phantom"]
        settings += ["synthesis.count=5"]
    one(*line(parts, [*settings, "train.batch_size=4"], tmp_path / "one"))
    one(*line(parts, [*settings, "train.batch_size=4", "train.iterations=1"], tmp_path / "begun"))
    two(*line(parts, [*settings, "train.batch_size=2"], tmp_path / "two"))
    made = "synthetic" if name == "pix2pix" else "translated"
    files = [{p.relative_to(tmp_path / r): p for p in (tmp_path / r / made).rglob("*.*")} for r in ("one", "two")]
    assert files[0].keys() == files[1].keys()
    assert (tmp_path / "one" / made / "manifest.json").read_text() == (
        tmp_path / "two" / made / "manifest.json"
    ).read_text()
    assert_equal_training(*(everything(tmp_path / name / "translation") for name in ("begun", "one", "two")))
    assert_equal_training(*(everything(tmp_path / name) for name in ("begun", "one", "two")))


def test_folds_are_shared(tmp_path, one, two, line):
    parts, settings = ["--segmenter", "plain", "--folds", "2"], [*TINY_TEST]
    one(*line(parts, [*settings, "train.batch_size=4"], tmp_path / "one"))
    one(*line(parts, [*settings, "train.batch_size=4", "train.iterations=1"], tmp_path / "begun"))
    two(*line(parts, [*settings, "train.batch_size=2"], tmp_path / "two"))
    for fold in ("fold-1", "fold-2"):
        assert_equal_training(*(everything(tmp_path / name / fold) for name in ("begun", "one", "two")))
    assert (tmp_path / "two" / "evaluation" / "phantom.csv").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, one):
    """Runs whose results do not depend on who works with them: a segmenter, a translator, and one of label maps."""
    folder = tmp_path_factory.mktemp("trained")
    common = [*TINY_DATA, *OPTIONS, "train.batch_size=2", "data.workers=0"]
    both = ["data.test.phantom.count=25", "data.test.phantom.side=32", *GENERATORS["cut"][1], "segmenter.base=4"]
    one(*command((["--generator", "cut", "--segmenter", "unet"], [*common, *both]), "--run-dir", folder / "cut"))
    masks = ["--generator", "pix2pix", "--source", "phantom"]
    one(*command((masks, [*common, *GENERATORS["pix2pix"][1]]), "--run-dir", folder / "pix2pix"))
    return folder


def written(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_tests_are_shared_and_exact(tmp_path, one, two, trained):
    """Five images on two ranks: none counts twice, and all is as one rank says, to the last digit."""
    said = {}
    for name, ranks in (("one", one), ("two", two)):
        options = ["--count", "--json", "--device", "cpu", "-o", tmp_path / name]
        said[name] = ranks("evaluate", trained / "cut", *options)
    table = json.loads(said["one"][0][0])
    assert table["tests"]["phantom"]["images"] == 5
    assert "counts" in table["tests"]["phantom"]
    assert said["two"][0][0] == said["one"][0][0]
    assert said["two"][1] == ("", "")
    assert {p: b for p, b in written(tmp_path / "one").items() if p.suffix == ".csv"} == {
        p: b for p, b in written(tmp_path / "two").items() if p.suffix == ".csv"
    }


def test_videos_are_shared_and_exact(tmp_path, one, two, trained):
    """Of seven frames of two videos each rank has every second one; put together again, nothing is torn apart."""
    for number in range(7):
        for kind in ("images", "masks"):
            path = tmp_path / "labelled" / kind / f"ward{number // 4}" / f"frame{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels if kind == "images" else (pixels[:, :, 0] > 250).astype(np.uint8) * 255).save(path)
    said = {}
    for name, ranks in (("one", one), ("two", two)):
        options = ["--test", f"folder:{tmp_path / 'labelled'}", "--frames-per-second", "5", "--alarm-frames", "1"]
        said[name] = ranks("evaluate", trained / "cut", *options, "--json", "--device", "cpu", "-o", tmp_path / name)
    assert json.loads(said["one"][0][0])["tests"]["labelled"]["videos"]["classes"]["polyp"]["frames"] == 7
    assert said["two"][0][0] == said["one"][0][0]
    table = "videos/labelled.csv"
    assert (tmp_path / "two" / table).read_bytes() == (tmp_path / "one" / table).read_bytes()


def test_judging_is_shared_and_exact(tmp_path, one, two, trained):
    said = {}
    for name, ranks in (("one", one), ("two", two)):
        options = ["--test", "phantom", "--json", "--device", "cpu", "-o", tmp_path / name]
        said[name] = ranks("evaluate", trained / "pix2pix", *options)
    assert "ssim" in json.loads(said["one"][0][0])["quality"]["phantom"]
    assert said["two"][0][0] == said["one"][0][0]
    assert written(tmp_path / "one") == written(tmp_path / "two")


def test_validation_is_shared_and_exact(tmp_path, one, two, line):
    """Three validation images on two ranks; the training learns nothing, so that weights are the same."""
    settings = ["train.lr=1e-12", "data.source.count=30", "train.log_interval=1"]
    for name, ranks, size in (("one", one, 2), ("two", two, 1)):
        ranks(*line(["--segmenter", "plain"], [*settings, f"train.batch_size={size}"], tmp_path / name))
    said = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    found = [[{k: v for k, v in each.items() if k.startswith("val/")} for each in lines] for lines in said]
    errors = [[each.pop("val/mae") for each in lines if each] for lines in found]
    assert found[0] == found[1]
    assert errors[0] == pytest.approx(errors[1], abs=1e-6)  # two images at a time are rounded otherwise than one
    assert {each["val/images"] for each in found[0] if each} == {3}


def test_validation_measures_the_network_that_is_saved(tmp_path, two, line):
    """With batch norm, whose running statistics differ between ranks; those of the first are saved."""
    settings = ["train.batch_size=2", "data.source.count=30", "segmenter.base=4"]
    two(*line(["--segmenter", "unet"], settings, tmp_path / "run"))
    registry, folder = Registry(), RunFolder(tmp_path / "run")
    trained = TrainedModel.load(folder, registry, "cpu")
    val = build_parts(trained.experiment, registry)[0].val
    scores = evaluate(trained.segment, val, trained.inference(), torch.device("cpu"), 0)
    said = [json.loads(line) for line in folder.scalars.read_text().splitlines()]
    found = {each["iteration"]: each["val/mae"] for each in said if "val/mae" in each}
    assert found[trained.iteration] == pytest.approx(np.mean([one.values["mae"] for one in scores]), abs=1e-6)


@pytest.mark.parametrize("what", ["translate", "synthesize", "convert"])
def test_files_are_shared(tmp_path, one, two, trained, what, toolkit):
    """Each rank writes its share, and the whole is what one writes."""
    made = tmp_path / "made"
    toolkit("synthesize", trained / "pix2pix", "-o", made, "--count", "5", "--device", "cpu")
    for name, ranks in (("one", one), ("two", two)):
        out = tmp_path / name / "made"  # its name is written in it
        lines = {
            "translate": ["translate", trained / "cut", made, "-o", out, "--format", "folder", "--device", "cpu"],
            "synthesize": ["synthesize", trained / "pix2pix", "-o", out, "--count", "5", "--device", "cpu"],
            "convert": ["data", "convert", f"folder:{made}", f"nnunet:{out}"],
        }
        said = ranks(*lines[what])
        assert said[-1][0] == "" or ranks is one
    assert len(written(tmp_path / "one")) > 5
    assert written(tmp_path / "one") == written(tmp_path / "two")


@pytest.mark.parametrize(
    ("loss", "message"), [("broken", "not a finite number at iteration 3"), ("raising", "a fault of the loss")]
)
def test_what_fails_on_one_rank_ends_all(tmp_path, two, line, loss, message):
    """It is said once, and no weights are saved that it has spoiled."""
    settings = ["train.batch_size=1", "train.checkpoint_interval=1"]
    said = two(*line(["--segmenter", "plain", "--loss", loss], settings, tmp_path / "run"), code=1)
    messages = [" ".join(error.split()) for _, error in said if "Error:" in error]
    assert len(messages) == 1
    assert message in messages[0]
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    assert state["iteration"] == 2
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


def test_an_overflow_on_one_rank_skips_the_step_of_all(tmp_path, two, line):
    """Its loss is left out on that rank; both go on in step, to the end."""
    settings = ["train.batch_size=1", "train.precision=fp16"]
    two(*line(["--segmenter", "plain", "--loss", "broken"], settings, tmp_path / "run"))
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    assert state["iteration"] == 4
    assert state["scales"]["segmenter"]["scale"] == 2.0**14  # two of the four iterations
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


def test_what_is_wrong_is_said_once(tmp_path, two):
    said = two("run", "--segmenter", "unet", "--set", "train.lr=-1", "--run-dir", tmp_path, code=2)
    assert sum("train.lr" in error for _, error in said) == 1


def test_resumed_on_another_number_of_ranks(tmp_path, one, two, line):
    """What counts is how many images a step learns from."""
    parts, settings = ["--segmenter", "plain", "--loss", "raising"], ["train.checkpoint_interval=1"]
    one(*line(parts, [*settings, "train.batch_size=4"], tmp_path / "one"))
    one(*line(parts, [*settings, "train.batch_size=4", "train.iterations=1"], tmp_path / "begun"))
    two(*line(parts, [*settings, "train.batch_size=2"], tmp_path / "cut"), code=1)
    registry = ["--registry", tmp_path / "plain.toml"]
    begun, whole = everything(tmp_path / "begun"), everything(tmp_path / "one")
    for name, ranks, options in (
        ("same", two, []),
        ("accumulated", one, ["train.accumulation=2"]),
        ("larger", one, ["train.batch_size=4"]),
    ):
        folder = tmp_path / name
        shutil.copytree(tmp_path / "cut", folder)
        ranks("run", "--run-dir", folder, "--resume", *registry, *(text for o in options for text in ("--set", o)))
        assert_equal_training(begun, whole, everything(folder))
    ((_, error),) = one("run", "--run-dir", tmp_path / "cut", "--resume", *registry, code=2)
    said = " ".join(error.split())
    assert "learns from 4 images at a time" in said
    assert "these options make 2" in said
    assert "--devices 2, or --devices 1 --set train.batch_size=4 train.accumulation=1, or" in said
    assert "--devices 1 --set train.accumulation=2." in said


def test_gradients_are_averaged_in_buckets(monkeypatch):
    """Without a second process: a sum over two equal ranks doubles what it is given."""
    from transeg.core.distributed import collectives as distributed

    parameters = [torch.nn.Parameter(torch.zeros(n)) for n in (3, 5, 7)]
    for index, parameter in enumerate(parameters):
        parameter.grad = torch.full_like(parameter, float(index + 1))
    parameters += [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2), requires_grad=False)]
    sizes = []

    def all_reduce(tensor):
        sizes.append(len(tensor))
        tensor *= 3

    monkeypatch.setattr(distributed, "rank_and_world_size", lambda: (0, 2))
    monkeypatch.setattr(distributed, "BUCKET_BYTES", 4 * 8)
    monkeypatch.setattr(distributed.dist, "all_reduce", all_reduce)
    distributed.average_gradients(parameters)
    assert sizes == [3 + 5 + 2, 7 + 1, 2 + 1]  # and for each whether there is one
    assert [p.grad[0].item() for p in parameters[:3]] == [1.5, 3.0, 4.5]
    assert parameters[3].grad is None
