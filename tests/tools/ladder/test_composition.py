"""Rungs are equal in everything but what their names say."""

import numpy as np
import pytest
from PIL import Image

from transeg.core.builders.datasets import build_dataset, validation_split
from transeg.core.data.stream import SOURCE
from transeg.core.errors import UsageError
from transeg.core.experiment.completion import complete_experiment
from transeg.core.experiment.settings import flat, merge
from transeg.core.registry import Registry
from transeg.core.training.train import _domain
from transeg.tools.ladder.composition import compose

REGISTRY = Registry()
NAMED = {"segmenter": {"name": "unet", "base": 4}, "generator": {"name": "cut", "width": 4}}
SET = {"data": {"size": 32, "load_ratio": 1.25}, "train": {"iterations": 7, "batch_size": 3, "lr": 2e-3}}
WITHOUT_NEW = ["source-only", "source-strong", "histogram", "fda", "stain", "joint", "sequential", "few=3", "oracle"]


def images_in(root, count, *, first=0, labelled=True):
    for number in range(first, first + count):
        noise = np.random.default_rng(number).integers(0, 256, (16, 16), dtype=np.uint8)
        kinds = {"images": noise, "masks": np.where(noise > 127, 255, 0).astype(np.uint8)}
        for kind in kinds if labelled else ("images",):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(kinds[kind]).save(root / kind / f"{number}.png")
    return {"name": "folder", "root": str(root)}


@pytest.fixture
def folders(tmp_path):
    """A labelled source, and one folder of labelled images for target and tests."""
    source, target = images_in(tmp_path / "a", 20), images_in(tmp_path / "b", 20, first=100)
    return {"data": {"source": source, "target": target, "test": {"b": target}}}


def experiments(*more, rungs=WITHOUT_NEW):
    settings = merge(NAMED, SET)
    for each in more:
        settings = merge(settings, each)
    made = compose(settings, rungs, REGISTRY, "cpu")
    found = {
        name: complete_experiment(merge(merge(made.base, own), {"seed": 0, "device": "cpu"}), REGISTRY)
        for name, own in made.rungs.items()
    }
    return found, made.left_out


def names(choice, role="source"):
    dataset = build_dataset(choice, role, REGISTRY)
    return {dataset.place_of(index)[0].name for index in range(len(dataset))}


def test_what_differs_from_source_only_is_what_a_rung_says(folders):
    found, left_out = experiments(folders)
    assert (list(found), left_out) == (WITHOUT_NEW, {})
    base = flat(found["source-only"].model_dump(mode="json"))
    differ = {
        name: {key.split(".")[0] if not key.startswith("data.") else ".".join(key.split(".")[:2])
               for key, value in flat(each.model_dump(mode="json")).items() if base.get(key) != value}
        for name, each in found.items()
    }  # fmt: skip
    translated = {"strategy", "generator", "data.target"}
    assert differ == {
        "source-only": set(),
        "source-strong": {"augmentation"},
        "histogram": translated,
        "fda": translated,
        "stain": translated,
        "joint": translated,
        "sequential": translated,
        "few=3": {"data.synthetic", "data.synthetic_limit"},
        "oracle": {"data.source"},
    }
    assert {each.train.iterations for each in found.values()} == {7}
    assert {each.loss.name for each in found.values()} == {"log-dice"}  # joint's, as the size of its crops would be
    assert {each.data.sampling for each in found.values()} == {"replacement"}
    assert {each.baseline for each in found.values()} == {"none"}
    assert found["joint"].generator.options["width"] == 4


def test_all_rungs_are_tested_on_the_same_images_and_none_learns_from_them(folders):
    found, _ = experiments(folders)
    tests = {name: frozenset(names(each.data.test["b"], "test")) for name, each in found.items()}
    (held_out,) = set(tests.values())
    assert len(held_out) == 4
    target = names(found["fda"].data.target, "target")
    assert len(target) == 16
    assert not target & held_out
    oracle = found["oracle"].data.source
    val = validation_split(oracle, REGISTRY)
    kept = {val.place_of(index)[0].name for index in range(len(val))}
    assert names(oracle) | kept == target
    assert not names(oracle) & kept
    assert len(names(found["source-only"].data.source)) == 18


def test_the_generator_that_is_named_translates_for_every_rung_but_those_named_after_theirs(folders):
    cyclegan = {"generator": {"name": "cyclegan", "blocks": 1}}
    found, _ = experiments(folders, cyclegan, rungs=["stain", "joint", "sequential", "joint+self-training"])
    generators = {name: each.generator and each.generator.name for name, each in found.items()}
    assert generators == {"source-only": None, "stain": "stain", **dict.fromkeys(list(found)[2:], "cyclegan")}
    assert found["joint"].generator.options["blocks"] == 1


def test_the_source_alone_is_inverted(folders):
    found, _ = experiments(folders, rungs=["joint", "joint+inverted", "few=3+inverted", "source-strong+inverted"])
    inverted = {name: each.data.source.invert for name, each in found.items()}
    assert inverted == {name: name.endswith("+inverted") for name in found}
    assert found["joint+inverted"].generator.name == "cut"
    assert not found["joint+inverted"].data.target.invert
    assert not found["few=3+inverted"].data.synthetic.invert
    assert not any(test.invert for each in found.values() for test in each.data.test.values())
    with pytest.raises(UsageError, match=r"data\.target\.invert"):
        experiments(folders, {"data": {"target": {"invert": True}}})


def test_draws_are_equal(folders):
    found, _ = experiments(folders, rungs=["source-only", "fda", "joint", "source-strong"])
    stand = [
        [_domain(each, build_dataset(each.data.source, "source", REGISTRY), SOURCE, (), None, None).index(place)
         for place in range(30)]
        for each in found.values()
    ]  # fmt: skip
    assert stand == [stand[0]] * 4


def test_without_labels_of_the_target_there_is_no_oracle(tmp_path):
    target = images_in(tmp_path / "t", 8, labelled=False)
    data = {"source": images_in(tmp_path / "a", 8, first=50), "target": target}
    data["test"] = {"c": images_in(tmp_path / "c", 8, first=90)}
    found, left_out = experiments({"data": data}, rungs=["fda", "few=2", "oracle"])
    assert list(found) == ["source-only", "fda"]
    assert left_out == {
        "few=2": "The target's training images have no labels, so there is no few=2.",
        "oracle": "The target's training images have no labels, so there is no oracle.",
    }


def test_a_rung_may_have_options_of_its_own(folders):
    own = {"ladder": {"fda": {"generator": {"beta": 0.05}}, "joint": {"generator": {"name": "histogram"}}}}
    own["ladder"]["joint"]["augmentation"] = {"preset": "square"}
    found, _ = experiments(folders, own, rungs=["fda", "joint", "joint+strong"])
    assert found["fda"].generator.options["beta"] == 0.05
    assert found["joint"].generator.name == "histogram"
    assert [each["name"] for each in found["joint"].augmentation.transforms] == ["D4"]
    assert len(found["joint+strong"].augmentation.transforms) > 3
    with pytest.raises(UsageError, match=r"\[ladder.joint\] is there, but no rung of that name"):
        experiments(folders, own, rungs=["fda"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"data": {"val": {"name": "phantom"}}}, "takes no --val"),
        ({"data": {"synthetic": {"name": "phantom"}}}, "takes no --synthetic"),
        ({"strategy": {"name": "supervised"}}, "strategies of their own, not supervised"),
        ({"folds": 3}, "not over folds"),
        ({"ladder": {"fda": 3}}, "a table for each rung"),
    ],
)
def test_what_a_ladder_does_not_take(settings, said):
    with pytest.raises(UsageError, match=said):
        experiments(settings)


def test_a_rung_that_needs_what_is_not_installed_is_left_out(folders, monkeypatch):
    offered = [each for each in REGISTRY.components("strategy") if each.name != "self-training"]
    components = REGISTRY.components
    monkeypatch.setattr(REGISTRY, "components", lambda kind: offered if kind == "strategy" else components(kind))
    _, left_out = experiments(folders, rungs=["self-training"])
    assert left_out == {"self-training": "It needs the strategy self-training, which is not installed."}
