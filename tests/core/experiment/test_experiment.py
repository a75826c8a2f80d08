import os
import subprocess
import sys
import tomllib

import pytest

from transeg.core.device import available_cores
from transeg.core.errors import UsageError
from transeg.core.experiment.command_line import label_tests, parse_dataset, settings_of
from transeg.core.experiment.completion import complete_experiment, load_experiment
from transeg.core.experiment.deciding_options import difference
from transeg.core.experiment.defaults import on_device, with_defaults
from transeg.core.experiment.settings import merge, parse_assignment, parse_sum, read_settings
from transeg.core.experiment.validation import read_experiment, validated
from transeg.core.registry import Registry

REGISTRY = Registry()
JOINT = {"generator": {"name": "cut"}, "segmenter": {"name": "hardnet"}}
REAL = {
    "source": {"name": "synth-colon", "root": "/data/synth"},
    "target": {"name": "kvasir", "root": "/data/kvasir"},
}


def joined(*layers):
    settings = {}
    for layer in layers:
        settings = merge(settings, layer)
    return settings


def composed(*layers):
    """What can be said without components and without their files."""
    settings = joined(*layers)
    return validated(on_device(with_defaults(settings, REGISTRY), settings.get("device", "cpu")))


@pytest.mark.parametrize(
    ("parts", "strategy"),
    [
        (("generator", "segmenter"), "joint"),
        (("generator",), "translation"),
        (("segmenter",), "supervised"),
    ],
)
def test_the_strategy_follows_from_what_is_named(parts, strategy):
    assert composed({part: JOINT[part] for part in parts}).strategy.name == strategy


def test_without_data_it_is_the_phantom_with_its_preset():
    experiment = composed(JOINT)
    assert experiment.data.source.name == experiment.data.target.name == "phantom"
    assert list(experiment.data.test) == ["phantom"]
    assert experiment.data.size in (96, 128)
    assert experiment.generator.options["width"] < 64
    assert experiment.baseline == "source-only"
    assert composed({"segmenter": {"name": "unet"}}).baseline == "none"


def test_real_data_get_the_published_sizes():
    experiment = composed(JOINT, {"data": REAL})
    assert (experiment.data.size, experiment.data.load_size) == (256, 320)
    assert (experiment.train.iterations, experiment.train.batch_size) == (12_500, 4)
    assert experiment.loss.name == "log-dice"
    assert experiment.baseline == "none"
    assert "width" not in experiment.generator.options
    mixed = composed(JOINT, {"data": {**REAL, "source": {"name": "phantom"}}})
    assert mixed.data.size == 256


def test_tests_on_the_sources_own_folder_take_its_options():
    """With another split file they would test on what was trained on."""
    source = {"name": "kvasir", "root": "/data/kvasir", "splits": "/data/splits.json", "split": "train"}
    tests = {
        "same": {"name": "kvasir", "root": "/data/../data/kvasir"},
        "own": {"name": "kvasir", "root": "/data/kvasir", "splits": "/data/other.json"},
        "elsewhere": {"name": "kvasir", "root": "/data/more"},
        "another": {"name": "etis", "root": "/data/kvasir"},
    }
    data = composed({"segmenter": {"name": "unet"}}, {"data": {"source": source, "test": tests}}).data
    found = {label: (choice.options.get("splits"), choice.split) for label, choice in data.test.items()}
    assert found == {
        "same": ("/data/splits.json", None),
        "own": ("/data/other.json", None),
        "elsewhere": (None, None),
        "another": (None, None),
    }


def test_load_size_follows_the_size():
    assert composed(JOINT, {"data": {**REAL, "size": 128}}).data.load_size == 160


@pytest.mark.parametrize(
    ("given", "size"), [("off", None), ("20GB", 20 * 10**9), ("1.5 GiB", 3 * 2**29), (2_000_000, 2_000_000)]
)
def test_a_cache_has_a_size(given, size):
    experiment = composed(JOINT, {"data": {"cache": given}})
    assert experiment.data.cache_bytes == size
    assert experiment.data.cache == str(given)  # as it was said


def test_nothing_is_kept_that_nobody_asked_for():
    assert composed(JOINT, {}).data.cache_bytes is None


def test_workers_are_as_many_as_this_process_may_have(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    assert available_cores() == 12
    assert on_device({}, "cuda")["data"]["workers"] == 12
    assert on_device({}, "cpu")["data"]["workers"] == 0
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "5")
    assert available_cores() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "50")
    assert available_cores() == 1
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert on_device({}, "cuda:1")["data"]["workers"] == 16


def test_settings_outweigh_the_preset():
    experiment = composed(JOINT, {"data": {"size": 64}, "train": {"iterations": 7}, "loss": {"name": "dice"}})
    assert (experiment.data.size, experiment.train.iterations, experiment.loss.name) == (64, 7, "dice")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "Name what to train"),
        ({"segmenter": {"name": "hardnett"}}, "Did you mean 'hardnet'"),
        ({"segmenter": {"name": "unet"}, "loss": {"name": "dise"}}, "Did you mean 'dice'"),
        ({**JOINT, "strategy": "joined"}, "no strategy 'joined'. Did you mean 'joint'"),
        ({**JOINT, "strategy": "supervised"}, "supervised has no use for [generator]"),
        ({"segmenter": {"name": "unet"}, "strategy": "joint"}, "joint needs a generator"),
        ({"segmenter": {"name": "unet"}, "baseline": "source-only"}, "supervised needs none"),
        ({"segmenter": {"name": "unet"}, "data": REAL}, "no use for a target"),
        ({"segmenter": {"name": "unet"}, "synthesis": {"count": 3}}, "no use for [synthesis]"),
        ({"segmenter": {"name": "unet"}, "data": {"test": {"kvasir": {"name": "kvasir"}}}}, "no source"),
        ({**JOINT, "train": {"iteration": 5}}, "no option train.iteration. Did you mean 'train.iterations'"),
        ({**JOINT, "tran": {"iterations": 5}}, "no option tran. Did you mean 'train'"),
        ({**JOINT, "train": {"iterations": 0}}, "train.iterations cannot be 0"),
        ({**JOINT, "train": {"lr": "fast"}}, "train.lr cannot be 'fast'"),
        ({**JOINT, "data": {"test": 3}}, "must be tables"),
        ({**JOINT, "data": {"cache": "20 pounds"}}, "the size '20 pounds'; say data.cache=off"),
        ({**JOINT, "data": {"cache": 20}}, "or a size such as data.cache=20GB"),
        ({**JOINT, "device": "tpu9"}, "no device 'tpu9'"),
        ({"segmenter": {"width": 3}}, "The segmenter has options but no name"),
        ({**JOINT, "joint": {"schedule": "lineer"}}, "strategy.schedule cannot be 'lineer'"),
    ],
)
def test_what_cannot_be_gets_a_sentence(settings, sentence):
    with pytest.raises(UsageError) as error:
        complete_experiment(settings, REGISTRY)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"segmenter": {"name": "unet", "bsae": 3}}, "no option segmenter.bsae. Did you mean 'base'"),
        ({"generator": {"name": "cut", "variant": "slow"}}, "generator.variant cannot be 'slow'"),
        ({"segmenter": {"name": "unet"}, "loss": {"name": "dice", "gamma": 2}}, "no option loss.dice.gamma"),
        ({"segmenter": {"name": "unet"}, "loss": {"name": "dice+bce", "smooth": 2}}, "as in loss.dice.smooth"),
        ({"segmenter": {"name": "unet"}, "data": {"source": {"name": "phantom", "cuont": 2}}}, "Did you mean 'count'"),
        ({**JOINT, "augmentation": {"preset": "sqare"}}, "Did you mean 'square'"),
    ],
)
def test_wrong_options_of_components_get_a_sentence(settings, sentence):
    with pytest.raises(UsageError) as error:
        complete_experiment(settings, REGISTRY)
    assert sentence in str(error.value)


def test_loss_options_by_term_or_alone():
    alone = complete_experiment({"segmenter": {"name": "unet"}, "loss": {"name": "focal", "gamma": 3}}, REGISTRY)
    assert alone.loss.options["focal"]["gamma"] == 3
    loss = {"name": "dice+0.5*focal", "focal": {"gamma": 1}}
    summed = complete_experiment({"segmenter": {"name": "unet"}, "loss": loss}, REGISTRY)
    assert summed.loss.options["focal"]["gamma"] == 1


def test_a_complete_experiment_survives_toml(tmp_path):
    experiment = complete_experiment({**JOINT, "device": "cpu"}, REGISTRY)
    path = tmp_path / "experiment.toml"
    path.write_text(experiment.to_toml())
    again = read_experiment(path, REGISTRY)
    assert difference(experiment, again) == ""
    assert again.generator.options["temperature"] == 0.07
    assert again.data.source.split == "train"
    assert again.data.test["phantom"].domain == "scope"
    assert load_experiment(path, REGISTRY) == experiment
    assert complete_experiment(tomllib.loads(path.read_text()), REGISTRY) == experiment


def test_a_stored_experiment_needs_neither_its_data_nor_its_losses(tmp_path):
    """What a run has learned can be used where its data set, its loss and its folders are not."""
    experiment = complete_experiment({**JOINT, "device": "cpu"}, REGISTRY)
    text = experiment.to_toml().replace('name = "phantom"', 'name = "gone"').replace("structure", "forgotten")
    path = tmp_path / "experiment.toml"
    path.write_text(text)
    again = load_experiment(path, REGISTRY)
    assert again.data.source.name == "gone"
    assert again.segmenter == experiment.segmenter
    with pytest.raises(UsageError, match="There is no loss 'forgotten'"):
        complete_experiment(tomllib.loads(text), REGISTRY)


IMPORTS = """
import sys
from transeg.core.errors import UsageError
from transeg.core.experiment.completion import complete_experiment
from transeg.core.registry import Registry
try:
    complete_experiment({settings!r}, Registry())
except UsageError as error:
    print(error)
    print(sorted({{"torch", "numpy", "albumentations"}} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"segmenter": {"name": "hardnt"}}, "no segmenter 'hardnt'. Did you mean 'hardnet'"),
        ({"generator": {"name": "ctu"}}, "no generator 'ctu'"),
        ({"generator": {"name": "cut", "condition": "mask"}}, "cannot be given mask"),
        ({"loss": {"name": "dice+foo"}}, "no loss 'foo'"),
        ({"loss": {"name": "dice+bce", "smooth": 1}}, "say which loss takes it"),
        ({"train": {"lrr": 1}}, "no option train.lrr"),
        ({"augmentation": {"preset": "sqare"}}, "Did you mean 'square'"),
        ({"device": "gpu"}, "no device 'gpu'"),
        ({"strategy": "jiont"}, "There is no strategy 'jiont'. Did you mean 'joint'"),
        ({"strategy": {"name": "joint", "wieght": 1}}, "There is no option strategy.wieght. Did you mean 'weight'"),
        ({"joint": {"pseudo_labels": "mean"}}, "has been retired, so nothing can be trained with 'mean'"),
        ({"data": {"source": {"name": "folder", "root": "/none"}, "target": {"name": "phantom"}}}, "does not exist"),
        ({"segmenter": {"name": "unet", "weights": "/none.pt"}}, "no file /none.pt (segmenter.weights)"),
        ({"data": {"stain": {"reference": "/none.png"}}}, "no file /none.png (data.stain.reference)"),
        ({"quality": {"segmenter": "/none"}}, "quality.segmenter: /none is not a run folder"),
        ({"distillation": {"teachers": {"a": {"run": "/none"}}}}, "teachers.a: /none is not a run folder"),
        ({"distillation": {"teachers": {"a": {"name": "unte", "weights": "x"}}}}, "no segmenter 'unte'"),
    ],
)
def test_what_needs_no_component_is_said_before_any_is_imported(changed, sentence):
    settings = {**JOINT, "device": "cpu", **changed}
    line = [sys.executable, "-c", IMPORTS.format(settings=settings)]
    said, imported = subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sentence in said
    assert imported == "[]"


def test_a_resumed_experiment_may_repeat_its_options_but_not_change_them():
    stored = complete_experiment(joined(JOINT, {"train": {"iterations": 50}}), REGISTRY)
    written = tomllib.loads(stored.to_toml())
    repeated = {**JOINT, "train": {"iterations": 50}, "data": {"size": 96}}
    same, other, workers = (
        complete_experiment(merge(written, settings), REGISTRY)
        for settings in (repeated, {"train": {"iterations": 60}}, {"data": {"workers": 2}})
    )
    assert difference(stored, same) == ""
    assert difference(stored, other) == "train.iterations is 50 there and 60 here"
    assert difference(stored, workers) == ""


def test_unreadable_files_get_a_sentence(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_settings(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("a = = 1")
    with pytest.raises(UsageError, match="not valid TOML"):
        read_settings(bad)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("train.lr=1e-4", {"train": {"lr": 1e-4}}),
        ("segmenter.weights=a/b.pth", {"segmenter": {"weights": "a/b.pth"}}),
        ("data.workers=2", {"data": {"workers": 2}}),
        ("a.b.c=[1, 2]", {"a": {"b": {"c": [1, 2]}}}),
        ("loss.name=dice=x", {"loss": {"name": "dice=x"}}),
        ("flag=true", {"flag": True}),
    ],
)
def test_assignments(text, tree):
    assert parse_assignment(text) == tree


@pytest.mark.parametrize("text", ["train.lr", "=3", "a..b=1"])
def test_what_is_no_assignment_gets_a_sentence(text):
    with pytest.raises(UsageError, match=r"option\.name=value"):
        parse_assignment(text)


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("phantom", {"name": "phantom"}),
        ("phantom:scope", {"name": "phantom", "domain": "scope"}),
        ("kvasir:/data/k", {"name": "kvasir", "root": "/data/k"}),
        ("kvasir:C:\\data", {"name": "kvasir", "root": "C:\\data"}),
        ("transeg:kvasir:/data", {"name": "transeg:kvasir", "root": "/data"}),
        ("polyp-benchmark:CVC-300:/d", {"name": "polyp-benchmark", "domain": "CVC-300", "root": "/d"}),
        ("polyp-benchmark:/d", {"name": "polyp-benchmark", "root": "/d"}),
    ],
)
def test_datasets_on_the_command_line(text, table):
    assert parse_dataset(text, REGISTRY) == table


def test_the_benchmark_is_five_tests():
    test = {"polyp-benchmark": {"name": "polyp-benchmark", "root": "/d"}}
    experiment = composed({"segmenter": {"name": "unet"}}, {"data": {"source": {"name": "phantom"}, "test": test}})
    assert list(experiment.data.test) == ["Kvasir", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB", "CVC-300"]


def test_test_sets_that_recur_get_names_of_their_own():
    tables = [
        {"name": "kvasir", "root": "a"},
        {"name": "kvasir", "root": "b"},
        {"name": "phantom"},
        {"name": "phantom", "domain": "clean"},
    ]
    assert list(label_tests(tables, REGISTRY)) == ["kvasir", "kvasir-b", "phantom", "phantom-clean"]


def test_test_sets_of_ones_own_are_called_as_their_folders():
    roots = ["/data/clinic a", "/data/one/test", "/data/two/test", "/other/clinic-a", "/third/clinic-a"]
    tables = [{"name": "folder", "root": root} for root in roots]
    assert list(label_tests(tables, REGISTRY)) == ["clinic-a", "one-test", "two-test", "clinic-a-2", "clinic-a-3"]
    assert list(label_tests([{"name": "hdf5", "domain": "t1", "root": "/d/mr"}] * 2, REGISTRY)) == ["mr", "mr-t1"]


def test_options_of_a_dataset_are_those_of_all_its_test_sets():
    named = {
        "tests": ["folder:/a", "folder:/b", "phantom"],
        "assignments": ["data.test.folder.channels=1", "data.test.a.seed=3"],
    }
    tests = settings_of(named, {}, REGISTRY)["data"]["test"]
    assert [tests[label].get("channels") for label in ("a", "b", "phantom")] == [1, 1, None]
    assert tests["a"]["seed"] == 3
    assert list(tests) == ["a", "b", "phantom"]


def test_options_of_test_sets_that_a_file_names_are_set_one_after_the_other():
    file = {"data": {"test": {"purple": {"name": "folder"}, "white": {"name": "folder"}}}}
    named = {"assignments": ["data.test.purple.root=/a", "data.test.white.root=/b", "data.test.folder.channels=1"]}
    tests = settings_of(named, file, REGISTRY)["data"]["test"]
    assert tests == {"purple": {"root": "/a", "channels": 1}, "white": {"root": "/b", "channels": 1}}


def test_flags_lie_over_the_file():
    file = {
        "segmenter": {"name": "unet", "base": 8},
        "data": {"source": {"name": "kvasir", "root": "/k", "seed": 3}, "test": {"old": {"name": "etis"}}},
    }
    named = {"segmenter": "hardnet", "source": "kvasir:/other", "tests": ["phantom"], "seed": 5, "assignments": []}
    settings = merge(file, settings_of(named, file, REGISTRY))
    assert settings["segmenter"] == {"name": "hardnet"}  # the base was for another network
    assert settings["data"]["source"] == {"name": "kvasir", "root": "/other", "seed": 3}
    assert list(settings["data"]["test"]) == ["phantom"]
    assert settings["seed"] == 5


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("dice", {"dice": 1}),
        ("dice+0.5*bce", {"dice": 1, "bce": 0.5}),
        ("2*log-dice + 1e-1*mine:focal", {"log-dice": 2, "mine:focal": 0.1}),
    ],
)
def test_loss_sums(text, terms):
    assert parse_sum(text) == terms


@pytest.mark.parametrize("text", ["", "dice+", "dice-bce!", "0.5dice", "dice*0.5", "dice+dice"])
def test_what_is_no_loss_sum_gets_a_sentence(text):
    with pytest.raises(UsageError, match="The loss"):
        parse_sum(text)


class TestScaling:
    def composed(self, tmp_path, *assignments, tests=("axon:TEM",)):
        settings = {"segmenter": {"name": "unet"}, "data": {"source": {"name": "axon", "domain": "SEM"}}}
        settings["data"]["source"]["root"] = str(tmp_path)
        settings["data"]["test"] = {}
        for text in tests:
            settings["data"]["test"][text] = {**parse_dataset(text, REGISTRY), "root": str(tmp_path)}
        for assignment in assignments:
            settings = merge(settings, parse_assignment(assignment))
        return composed(settings).data

    def test_a_size_of_pixels_is_common_to_a_folder(self, tmp_path):
        data = self.composed(tmp_path, "data.source.pixel_size=0.1")
        assert data.source.pixel_size == data.test["axon:TEM"].pixel_size == 0.1

    def test_a_factor_belongs_to_a_domain(self, tmp_path):
        data = self.composed(tmp_path, "data.source.rescale=0.5", tests=("axon:SEM", "axon:TEM", "axon"))
        assert [data.test[name].rescale for name in ("axon:SEM", "axon:TEM", "axon")] == [0.5, None, None]

    def test_tests_come_in_as_the_target_does(self, tmp_path):
        target = [
            "generator.name=cut",
            "data.target.name=axon",
            "data.target.domain=TEM",
            f"data.target.root={tmp_path}",
        ]
        data = self.composed(tmp_path, *target, "data.source.rescale=0.5", "data.target.rescale=0.02")
        assert data.test["axon:TEM"].rescale == 0.02
        data = self.composed(tmp_path, *target, "data.source.pixel_size=0.1")
        assert data.test["axon:TEM"].pixel_size is None

    def test_the_source_alone_is_inverted_and_matched(self, tmp_path):
        target = [
            "generator.name=cut",
            "data.target.name=axon",
            "data.target.domain=TEM",
            f"data.target.root={tmp_path}",
        ]
        options = ["data.source.invert=true", "data.source.match=share:0.2"]
        data = self.composed(tmp_path, *target, *options, tests=("axon:SEM", "axon:TEM"))
        assert (data.source.invert, data.source.match) == (True, "share:0.2")
        others = [data.target, *data.test.values()]
        assert [(each.invert, each.match) for each in others] == [(False, None)] * 3

    def test_a_test_may_say_otherwise(self, tmp_path):
        data = self.composed(tmp_path, "data.source.pixel_size=0.1", "data.test.axon:TEM.pixel_size=0.1")
        assert data.test["axon:TEM"].pixel_size == 0.1

    def test_there_is_one_scale(self, tmp_path):
        with pytest.raises(UsageError, match="The images of axon get their size from pixel_size or"):
            self.composed(tmp_path, "data.source.pixel_size=0.1", "data.source.rescale=2")
        with pytest.raises(UsageError, match="pixel_size cannot be"):
            self.composed(tmp_path, "data.source.pixel_size=0")


@pytest.mark.parametrize(("stated", "kept"), [({}, True), ({"name": "folder"}, True), ({"name": "kvasir"}, False)])
def test_options_in_a_file_are_for_the_dataset_that_the_command_names(stated, kept):
    under = {"data": {"target": {**stated, "channels": 1}}}
    settings_of({"target": "folder:images"}, under, Registry())
    assert ("target" in under["data"]) == kept
