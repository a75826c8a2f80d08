import pytest
import torch
from rich.console import Console
from torch import nn

from transeg.core.errors import TransegError, UsageError
from transeg.core.interfaces import Segmenter
from transeg.core.registry import Registry
from transeg.tools.benchmark.benchmark import benchmark_segmenters
from transeg.tools.benchmark.speed import SpeedRequest, inference_work, measure_or_explain, measure_speed, training_work

TROUBLE = """
import os, signal
from torch import nn
from transeg.core.interfaces import Segmenter

print("hello from a network that prints")

class Fine(Segmenter):
    def __init__(self, in_channels, num_classes, *, width: int = 4):
        super().__init__()
        self.body = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, image):
        print("and prints again")
        return self.head(self.body(image))

class Raising(Fine):
    def forward(self, image):
        raise RuntimeError("it did not work")

class Choosy(Fine):
    def __init__(self, in_channels, num_classes, *, width: int = 4):
        if width != 4:
            raise ValueError("width must be 4")
        super().__init__(in_channels, num_classes)

class Leaving(Fine):
    def forward(self, image):
        os._exit(3)

class Killed(Fine):
    def forward(self, image):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def registry(tmp_path):
    """Segmenters that fail in every way, and one that does not."""
    (tmp_path / "trouble.py").write_text(TROUBLE)
    names = ("Fine", "Raising", "Choosy", "Leaving", "Killed")
    tables = [f'[segmenter.{name.lower()}]\nentry = "trouble.py:{name}"\n' for name in names]
    (tmp_path / "mine.toml").write_text("[plugin]\ncontract = 1\n" + "".join(tables))
    return Registry([tmp_path / "mine.toml"])


@pytest.fixture
def run(registry):
    """A benchmark on tiny images."""

    def call(*names, **options):
        asked = {"assignments": (), "size": 16, "batch": None, "threads": 1, "device": "cpu", "train": False}
        return benchmark_segmenters(names, registry, Console(quiet=True), **{**asked, **options})

    return call


@pytest.fixture
def request_for(registry):
    """What is asked of one process."""

    def make(name, **changes):
        asked = {"options": {}, "size": 16, "batch": 1, "threads": None, "device": "cpu", "train": False}
        return SpeedRequest(segmenter=name, registries=registry.files, **{**asked, **changes})

    return make


def test_multiplications_are_counted_as_by_hand(request_for):
    speed = measure_speed(request_for("fine", options={"width": 5}, batch=3))
    assert speed.gmacs == pytest.approx(16 * 16 * (3 * 9 * 5 + 5) / 1e9)
    assert speed.parameters == 3 * 9 * 5 + 5 + 1
    assert speed.images_per_second == pytest.approx(3 / speed.seconds)
    assert speed.gmacs_per_second == pytest.approx(speed.gmacs * speed.images_per_second)
    assert speed.peak_gmacs_per_second > speed.gmacs_per_second


def test_training_counts_the_backward_pass(request_for):
    body, head = 3 * 9 * 4, 4
    gmacs = 16 * 16 * (2 * body + 3 * head) / 1e9  # the image needs no gradient
    assert measure_speed(request_for("fine", train=True)).gmacs == pytest.approx(gmacs)


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("raising", {}, "RuntimeError: it did not work"),
        ("choosy", {"width": 5}, "width must be 4"),
        ("absent", {}, "There is no segmenter 'absent'"),
    ],
)
def test_what_goes_wrong_is_said(request_for, name, options, why):
    assert measure_or_explain(request_for(name, options=options)).startswith(why)


def test_one_that_fails_stops_no_other(run, capfd):
    report = run("leaving", "killed", "fine", assignments=["segmenter.width=5"])
    errors = {row["name"]: row.get("error") for row in report["segmenters"]}
    assert errors == {
        "leaving": "leaving cannot be measured: its process ended with exit code 3.",
        "killed": "killed cannot be measured: its process was killed, as happens where memory runs out.",
        "fine": None,
    }
    fine = report["segmenters"][-1]
    assert (fine["parameters"], fine["threads"], report["batch"]) == (3 * 9 * 5 + 5 + 1, 1, 1)
    assert 50e6 < fine["peak_memory"] < 50e9
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "and prints again" in captured.err


@pytest.mark.parametrize(
    ("names", "options", "sentence"),
    [
        (["unets"], {}, "Did you mean 'unet'"),
        (["fine"], {"assignments": ["segmenter.widht=3"]}, "Did you mean 'width'"),
        (["fine"], {"assignments": ["segmenter.width=wide"]}, "segmenter.width cannot be 'wide'"),
        (["fine"], {"assignments": ["width=3"]}, "options of segmenters only"),
        (["fine"], {"assignments": ["segmenter=3"]}, "options of segmenters only"),
        (["fine"], {"assignments": ["train.lr=3"]}, "options of segmenters only"),
        ([], {"assignments": ["segmenter.width=3"]}, "--set needs the name"),
        (["fine"], {"device": "gpu"}, "There is no device 'gpu'"),
    ],
)
def test_wrong_names_end_before_anything_is_measured(run, names, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        run(*names, **options)


def test_inference_is_what_a_trained_network_does():
    class Net(Segmenter):
        size_multiple = 16

        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))

        def forward(self, image):
            return self.layers(image)

    (logits,) = inference_work(Net(), torch.rand(2, 3, 20, 20))()
    assert logits.shape == (2, 1, 20, 20)
    assert logits.is_inference()


def test_a_training_step_trains_every_head():
    class Net(Segmenter):
        def __init__(self):
            super().__init__()
            self.outs = nn.ModuleList(nn.Conv2d(3, 1, 1) for _ in range(2))

        def forward(self, image):
            return [head(image) for head in self.outs]

    network = Net()
    before = [head.weight.clone() for head in network.outs]
    training_work(network, torch.rand(2, 3, 8, 8))()
    assert all(not torch.equal(head.weight, old) for head, old in zip(network.outs, before, strict=True))


def test_all_that_can_be_used_are_measured_without_a_name(run, registry, monkeypatch):
    def refuse(request):
        raise TransegError(f"not {request.segmenter}")

    monkeypatch.setattr("transeg.tools.benchmark.benchmark.measure_in_subprocess", refuse)
    report = run(train=True)
    assert report["batch"] == 2
    names = [row["name"] for row in report["segmenters"]]
    assert names == [component.name for component in registry.components("segmenter") if component.status == "ok"]
    assert {"unet", "fine"} <= set(names)
    assert all(row["error"] == f"not {row['name']}" for row in report["segmenters"])
