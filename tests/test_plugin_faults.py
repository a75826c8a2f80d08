"""A fault of a plugin ends a run before it trains, in a sentence that names the plugin."""

import sys

import pytest
from conftest import SUPERVISED, TINY_DATA, TINY_TARGET, TINY_TRAINING, command
from odd_components import write_component

TRAINED = {
    "segmenter": (["--segmenter", "odd"], [*TINY_DATA, *TINY_TRAINING]),
    "generator": (["--generator", "odd"], [*TINY_DATA, *TINY_TRAINING, *TINY_TARGET]),
    "loss": (["--segmenter", "unet", "--loss", "odd"], [*TINY_DATA, *TINY_TRAINING, "segmenter.base=4"]),
    "dataset": (["--segmenter", "unet", "--source", "odd"], ["data.size=32", *TINY_TRAINING, "segmenter.base=4"]),
}
HALVED = ("return self.last(self.first(image).relu())", "return F.avg_pool2d(self.last(self.first(image).relu()), 2)")


@pytest.fixture
def said(toolkit, tmp_path):
    """What a run says that trains a component with some texts of its source replaced."""

    def run(kind, *changes, code=2):
        manifest = write_component(tmp_path, kind, *changes)
        result = toolkit(
            *command(TRAINED[kind], "--registry", manifest, "--run-dir", tmp_path / "run", "--device", "cpu"), code=code
        )
        assert "Traceback" not in result.stderr
        return " ".join(result.stderr.split())

    yield run
    sys.modules.pop("transeg_local_odd", None)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        (
            "segmenter",
            ("(Segmenter)", "(nn.Module)"),
            "The segmenter 'odd' of odd is none: odd.py:Net does not derive from transeg.core.interfaces.Segmenter.",
        ),
        ("dataset", ("(Dataset)", "(object)"), "The dataset 'odd' of odd is none"),
        ("generator", ("(Generator)", "(nn.Module)"), "The generator 'odd' of odd is none"),
        (
            "segmenter",
            HALVED,
            "The segmenter 'odd' of odd gives (1, 1, 32, 32) for an image of shape (1, 3, 64, 64), "
            "where (1, 1, 64, 64) was asked for. Mend that plugin",
        ),
        ("segmenter", ("width, num_classes, 1", "width, 3, 1"), "gives (1, 3, 64, 64) for an image of shape"),
        ("segmenter", ("Conv2d(in_channels", "Conv2d(7"), "The segmenter 'odd' of odd fails on an image of shape"),
        ("generator", ("target_channels, 3,", "1, 3,"), "The generator 'odd' of odd gives (1, 1, 64, 64)"),
        (
            "dataset",
            ("astype(np.uint8)\n", "astype(np.uint8) * 255\n"),
            "The dataset 'odd' of odd has masks of 0 and 255 alone, where 255 means unknown and classes are 1, 2, ....",
        ),
        ("dataset", ("astype(np.uint8)\n", "astype(np.uint8) * 7\n"), "a mask with 7, but has 2 classes"),
        ("dataset", ("(20, 24, 3)", "(20, 24, 1)"), "of shape (20, 24, 1), where (H, W, 3) was announced"),
        ("dataset", ("Sample(image, mask", "Sample(image, mask / 2"), "in float64, where integers of shape (20, 24)"),
    ],
)
def test_it_is_named_before_the_training(said, tmp_path, kind, change, words):
    assert words in said(kind, change)
    assert not (tmp_path / "run").exists()


def test_an_optimizer_that_is_not_there_is_named_with_the_class(said):
    found = said("generator", ('Phase(("net",)', 'Phase(("nett",)'), code=1)
    assert "A phase of Net (transeg_local_odd) updates nett, for which there is no optimizer; there are net." in found


def test_what_a_plugin_raises_is_its_own_fault(said):
    found = said("loss", ("known = target", "1 / 0; known = target"), code=1)
    assert "ZeroDivisionError: division by zero. This is a fault of the plugin odd.py; --debug shows where" in found


def test_what_is_sound_is_trained(toolkit, tmp_path):
    manifest = write_component(tmp_path, "segmenter")
    parts = (["--segmenter", "odd"], [each for each in SUPERVISED[1] if not each.startswith("segmenter")])
    toolkit(*command(parts, "--registry", manifest, "--run-dir", tmp_path / "run"))
    sys.modules.pop("transeg_local_odd", None)
