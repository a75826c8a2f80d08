"""The suite finds what is wrong with components, and says it in a sentence that names them and what to mend."""

import json
import subprocess
import sys
from pathlib import Path
from unittest import SkipTest

import pytest
from odd_components import HEAD, METRIC, SOURCES, write_component

from transeg.core.errors import UsageError
from transeg.core.registry import Registry
from transeg.testing import ContractError, checks_of


@pytest.fixture
def failures(tmp_path):
    """What the suite finds in a component of a kind, by check; its source may have texts replaced."""
    written = []

    def find(kind, *changes, row=""):
        name = f"odd{len(written)}"
        written.append(name)
        manifest = write_component(tmp_path, kind, *changes, name=name, row=row)
        found = {}
        for check in checks_of(manifest):
            try:
                if not check.slow:
                    check()
            except SkipTest:
                continue
            except ContractError as error:
                found[check.name] = str(error)
        assert all(sentence.startswith(f"{kind}/odd of {name}: ") for sentence in found.values())
        return found

    yield find
    for name in written:
        sys.modules.pop(f"transeg_local_{name}", None)


@pytest.mark.parametrize("kind", SOURCES)
def test_what_is_sound_passes(failures, kind):
    assert failures(kind) == {}


SEGMENTERS = [
    (("(Segmenter)", "(nn.Module)"), "class_is_of_its_kind", "a class that derives from transeg.core.interfaces.Segm"),
    (
        ("return self.last(self.first(image).relu())", "return F.avg_pool2d(self.last(self.first(image).relu()), 2)"),
        "segmenter_takes_any_size",
        "expected logits of shape (1, 1, 64, 64) for an image of shape (1, 3, 64, 64), built for 3 channels and 1 "
        "classes, found (1, 1, 32, 32). Give the last layer num_classes channels",
    ),
    (("width, num_classes, 1", "width, 3, 1"), "segmenter_takes_any_size", "found (1, 3, 64, 64)"),
    (("Conv2d(in_channels", "Conv2d(3"), "segmenter_takes_any_size", "Mend what raises it (odd0.py, line 2"),
    (("super().__init__()", "super().__init__(); self.idle = nn.Linear(2, 2)"), "segmenter_trains_every_parameter",
     "found none in idle.weight, idle.bias. Use these layers in forward"),
    (("image).relu()", "image + torch.rand(1)).relu()"), "segmenter_repeats_itself", "Draw nothing in eval mode"),
    (("image).relu()", "image - image.mean()).relu()"), "segmenter_treats_images_alone", "alone and in a batch"),
    (("return self", "if image.mean() > 9: image = -image\n        return self"), "segmenter_can_be_traced",
     "found GuardOnDataDependentSymNode"),
    (("width: int = 4", "width=4"), "options_are_typed", "Write `width: int = ...`"),
    (("width: int = 4", "width: int = None"), "options_are_typed", "a default of the option width that is a int"),
    (("width: channels.", "depth: layers."), "options_are_explained", "found none for width. Write what it does"),
    (("*, width: int = 4", "width: int = 4"), "options_are_keyword_only", "Write `*` before the first option"),
    (("*, width: int = 4", "*, width: int = 4, **more"), "options_are_keyword_only", "found *more. Name them"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "check", "words"), SEGMENTERS)
def test_faults_of_segmenters(failures, change, check, words):
    assert words in failures("segmenter", change)[check]


def test_parameters_that_a_manifest_states_wrongly(failures):
    found = failures("segmenter", row="params = 3")
    assert "expected 3 trainable parameters, as registry.toml states, found 117" in found["parameters_are_as_stated"]


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        ((', fake=fake', ""), "generator_phases_keep_the_contract", "found 0. Give `fake=` to the phase that updates"),
        (("fake=fake", "fake=fake.detach()"), "generator_phases_keep_the_contract", "one that is detached"),
        (("fake=fake", "fake=fake.flip(3)"), "generator_keeps_things_where_they_are", "the source's geometry"),
        (('Phase(("net",)', 'Phase(("nett",)'), "generator_phases_keep_the_contract", "found nett. Write the same"),
        (("(image).tanh()", "(image)"), "generator_translates_any_size", "end with tanh or clamp"),
        (("    def opt", "    training_state = ('net',)\n\n    def opt"), "generator_is_saved_whole", "none of them"),
        (("    def opt", "    training_state = ('nett',)\n\n    def opt"), "generator_is_saved_whole", "['nett']"),
        (("fake - batch", "fake + torch.rand(1) - batch"), "generator_repeats_itself", "batch.generator(stream)"),
        (
            ("yield Phase", "self.n = getattr(self, 'n', 1) / 2\n        fake = fake * self.n\n        yield Phase"),
            "generator_goes_on_where_it_was",
            "Keep what a step leaves for the next one",
        ),
        (("self.parameters(), 0.1", "[self.net.weight], 0.1"), "generator_optimizes_every_parameter_once", "net.bias"),
    ],
)  # fmt: skip
def test_faults_of_generators(failures, change, check, words):
    assert words in failures("generator", change)[check]


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (("known = target != IGNORE", "known = target >= 0"), "loss_leaves_out_what_is_unknown", "out of every sum"),
        (("return (wrong", "return -(wrong"), "loss_prefers_the_truth", "Look at its sign"),
        ((".clamp(min=1)", ""), "loss_of_nothing_is_zero", "found nan. Divide by the number of known pixels"),
        (("logits[:, 0].float()", "logits[:, 0]"), "loss_is_stable_in_half_precision", "logits.float()"),
        (
            ("return (wrong", "return wrong + (wrong"),
            "loss_is_a_scalar_with_a_gradient",
            "found a tensor of shape (2, 33, 40). Average over pixels",
        ),
    ],
)
def test_faults_of_losses(failures, change, check, words):
    assert words in failures("loss", change)[check]


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (("astype(np.uint8)\n", "astype(np.uint8) * 255\n"), "dataset_masks_show_something",
         "found only 0, 255 in 10 masks. Class numbers are 1, 2"),
        (("astype(np.uint8)\n", "astype(np.uint8) * 7\n"), "dataset_samples_keep_the_contract",
         "expected class numbers 0 to 1, and 255 where nothing is known, found 7 in image0"),
        (("(20, 24, 3)", "(20, 24, 1)"), "dataset_samples_keep_the_contract", "as `channels` says, found (20, 24, 1)"),
        (('{number}")\n', '{number}", valid=mask)\n'), "dataset_samples_keep_the_contract", "found (20, 24) of uint8"),
        (('f"group{number}"', '"all"'), "dataset_splits_are_apart", "Share out groups, not images"),
        (('f"image{number}"', '"one"'), "dataset_names_are_unique", "one more than once"),
        (("default_rng(number)", "default_rng()"), "dataset_repeats_itself", "augmentation is the core's"),
    ],
)  # fmt: skip
def test_faults_of_datasets(failures, change, check, words):
    assert words in failures("dataset", change)[check]


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (("pixel_size)", "pixel_size, more)"), "metric_is_a_function_of_an_image", "Take these three"),
        (("return float(", "return 'x' if 0 else str("), "metric_gives_a_number_or_none", "returned a str"),
        (("labels != IGNORE", "labels >= 0"), "metric_leaves_out_what_is_unknown", "found"),
        (("== labels", "!= labels"), "metric_is_better_for_the_truth", "Change higher_is_better"),
        ((" if known.any() else None", ""), "metric_bears_masks_of_one_class", ""),
    ],
)
def test_faults_of_metrics(failures, change, check, words):
    if check == "metric_leaves_out_what_is_unknown":
        change = ("    known = labels != IGNORE\n", "    known = labels >= 0\n    labels = labels % 255\n")
    if check == "metric_bears_masks_of_one_class":
        change = (change[0], " if known.any() else 1 / 0")
    assert words in failures("metric", change)[check]


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (('"segmenter": "one"', '"segmenter": "two"'), "strategy_declares_its_stages", "no stage 'two' trains"),
        (('("segmenter",))]', '("segmenter",), uses=("two",))]'), "strategy_declares_its_stages", "no earlier stage"),
        (("learned", "learned."), "strategy_says_what_a_run_does", "a summary, which the plan adds a full stop to"),
        (("class Net", "import torch\n\nclass Net"), "strategy_is_known_without_torch", "found that it imports torch"),
        (("def task", "def tusk"), "class_is_of_its_kind", "found none called task"),
    ],
)
def test_faults_of_strategies(failures, change, check, words):
    assert words in failures("strategy", change)[check]


def test_names_that_mean_something_already(tmp_path):
    def found(name, *more):
        manifest = write_component(tmp_path, "metric", name=name)
        manifest.write_text(manifest.read_text().replace("metric.odd", f"metric.{more[-1] if more else 'odd'}"))
        (check,) = (c for c in checks_of(manifest, registry=registry) if c.name == "has_a_name_of_its_own")
        try:
            check()
        except ContractError as error:
            return str(error)
        return ""

    registry = Registry()
    assert found("one") == ""
    assert "is also a column in the files of an evaluation" in found("two", "hd95_axon")
    registry = Registry([tmp_path / "one.toml"])
    assert found("one") == ""  # itself, installed
    assert "is also one:odd. Choose another name" in found("three")


def test_importing_transeg_imports_no_pytest():
    code = "import sys, transeg, transeg.testing\nassert not {'pytest', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_cannot_be_found_is_said(tmp_path):
    with pytest.raises(UsageError, match="There is no plugin 'nowhere': no package of that name is installed"):
        checks_of("nowhere")
    with pytest.raises(UsageError, match="There are options of segmenter/nowhere, which the package does not offer"):
        checks_of("transeg", options={"segmenter/nowhere": {}})


def test_a_broken_component_is_one_failure(tmp_path):
    (tmp_path / "lost.toml").write_text('[plugin]\ncontract = 2\n[loss.lost]\nentry = "lost.py:Lost"\n')
    (check,) = checks_of(tmp_path / "lost.toml")
    with pytest.raises(ContractError, match=r"loss/lost of lost: .* found that its file lost.py is missing. Mend"):
        check()


class TestTheCommand:
    @pytest.fixture
    def half(self, tmp_path):
        """A sound metric, and one that is wrong."""
        (tmp_path / "half.py").write_text(HEAD + METRIC + METRIC.replace("def Net", "def Bad").replace("== l", "!= l"))
        rows = "".join(
            f'[metric.{name}]\nentry = "half.py:{entry}"\nsummary = "x"\nhigher_is_better = true\n'
            for name, entry in (("good", "Net"), ("bad", "Bad"))
        )
        (tmp_path / "half.toml").write_text("[plugin]\ncontract = 2\n" + rows)
        yield tmp_path / "half.toml"
        sys.modules.pop("transeg_local_half", None)

    def test_says_what_to_mend(self, half, toolkit):
        result = toolkit("plugin", "check", half, code=1)
        said = " ".join(result.stdout.split())
        assert "metric/bad half 8 1 -" in said
        assert "metric/good half 9 - -" in said
        assert "failed metric_is_better_for_the_truth metric/bad of half: expected the truth to be higher" in said
        assert "1 of 18 checks failed" in result.stderr

    def test_gives_one_document(self, half, toolkit):
        found = json.loads(toolkit("plugin", "check", half, "--json", code=1).stdout)
        assert (found["passed"], found["failed"], found["skipped"]) == (17, 1, 0)
        (failed,) = (row for row in found["checks"] if row["state"] == "failed")
        assert failed["component"] == "metric/bad"
        assert failed["sentence"].endswith("or the sign of the metric.")

    def test_looks_at_the_hooks_of_an_installed_package(self, tmp_path, toolkit, monkeypatch):
        package, info = tmp_path / "hooked", tmp_path / "hooked-1.dist-info"
        package.mkdir()
        info.mkdir()
        hook = "from transeg.core.hookspecs import hookimpl\n@hookimpl\ndef transeg_gone():\n    pass\n"
        (package / "__init__.py").write_text(hook)
        (package / "registry.toml").write_text("[plugin]\ncontract = 2\n")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hooked\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[transeg]\nhooked = hooked\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        said = " ".join(toolkit("plugin", "check", "hooked", code=1).stdout.split())
        assert "plugin/hooked of hooked: expected a package that can be imported" in said
        assert "unknown hook 'transeg_gone'" in said
        (package / "registry.toml").write_text("[plugin]\ncontract = 3\n")
        said = " ".join(toolkit("plugin", "check", code=1).stdout.split())
        assert "failed can_be_used plugin/hooked of hooked: expected nothing that keeps it from being used" in said
        assert "is written for contract 3, but this transeg speaks contract 2" in said

    def test_wants_a_plugin(self, toolkit):
        assert "toolkit plugin new" in toolkit("plugin", "check", code=2).stderr
        assert "There is no plugin 'nowhere'" in toolkit("plugin", "check", "nowhere", code=2).stderr
        said = toolkit("plugin", "check", "transeg", "--set", "segmenter/gone.x=1", code=2).stderr
        assert "There is no segmenter/gone among what is checked." in " ".join(said.split())
        said = toolkit("plugin", "check", "transeg", "--set", "segmenter=1", code=2).stderr
        assert "is not of the form KIND/NAME.OPTION=VALUE" in " ".join(said.split())

    def test_lists_what_is_broken_and_goes_on(self, tmp_path, toolkit):
        (tmp_path / "raising.py").write_text("def build():\n    pass\nbuild.gone\n")
        rows = '[loss.raising]\nentry = "raising.py:build"\n[command.lost]\nentry = "nowhere.at:all"\n'
        (tmp_path / "raising.toml").write_text(f"[plugin]\ncontract = 1\n{rows}")
        rows = json.loads(toolkit("plugin", "list", "--registry", tmp_path / "raising.toml", "--json").stdout)
        by_package = {row["package"]: row for row in rows}
        assert by_package["transeg"]["status"] == "ok"
        assert by_package["transeg"]["seconds"] is None
        broken = by_package["raising"]
        assert (broken["status"], broken["contract"]) == ("broken", 1)
        assert broken["offers"] == {"loss": ["raising"], "command": ["lost"]}
        assert "AttributeError: 'function' object has no attribute 'gone'" in broken["faults"]["loss/raising"]
        assert broken["faults"]["command/lost"] == "its file at.py is missing"
        shown = " ".join(toolkit("plugin", "list", "--registry", tmp_path / "raising.toml").stdout.split())
        assert "1 loss (raising); 1 command (lost)" in shown
        assert "contract 1, which is still read" in shown

    def test_what_awaits_a_package_is_not_broken(self, tmp_path, toolkit):
        loss = '[loss.awaiting]\nentry = "away.py:Away"\nrequires = "away"\n'
        (tmp_path / "away.py").write_text("import transeg_is_nowhere\n\n\nclass Away:\n    pass\n")
        (tmp_path / "away.toml").write_text(f"[plugin]\ncontract = 2\n{loss}")
        rows = json.loads(toolkit("plugin", "list", "--registry", tmp_path / "away.toml", "--json").stdout)
        (row,) = (row for row in rows if row["package"] == "away")
        assert (row["status"], row["faults"]) == ("ok", {})
        assert set(row["missing"]) == {"loss/awaiting"}


@pytest.mark.parametrize("example", ["plugin/transeg_example", "plugins/transeg_worked"])
def test_examples_keep_every_contract(example):
    """Without installing them."""
    folder, path = Path(__file__).parents[2] / "examples" / example, list(sys.path)
    options = {"generator/two-critics": {"width": 4}} if "worked" in example else {}
    try:
        for check in checks_of(folder / "registry.toml", options=options):
            if not check.slow:
                try:
                    check()
                except SkipTest:
                    continue
    finally:
        sys.path[:] = path
        for name in [name for name in sys.modules if name.partition(".")[0] == folder.name]:
            del sys.modules[name]
