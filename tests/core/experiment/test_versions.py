"""Experiment files of other versions, and checkpoints of runs that do not know an option yet."""

import pytest

from transeg.core.errors import UsageError
from transeg.core.experiment import identity, versions
from transeg.core.experiment.command_line import settings_of
from transeg.core.experiment.completion import complete_experiment, load_experiment
from transeg.core.experiment.identity import Identity, identify, neutral_values, training_options
from transeg.core.experiment.validation import read_experiment
from transeg.core.experiment.versions import FORMAT, upgrade
from transeg.core.registry import Registry

REGISTRY = Registry()
JOINT = {"generator": {"name": "cut"}, "segmenter": {"name": "unet"}, "device": "cpu"}


@pytest.fixture(scope="module")
def joint():
    return complete_experiment({**JOINT, "joint": {"weight": 0.5}}, REGISTRY)


def test_a_file_states_its_format_and_a_newer_one_is_refused(joint, tmp_path):
    path = tmp_path / "experiment.toml"
    path.write_text(joint.to_toml())
    assert path.read_text().startswith(f"format = {FORMAT}\n")
    assert load_experiment(path, REGISTRY) == joint
    assert read_experiment(path, REGISTRY).strategy == joint.strategy
    with pytest.raises(UsageError, match=f"format {FORMAT + 1}, but this transeg reads"):
        upgrade({"format": FORMAT + 1}, REGISTRY)


def test_format_1_had_the_strategys_options_in_a_table_of_another_name():
    old = {"strategy": "sequential", "synthesis": {"count": 3}, "seed": 1}
    assert upgrade(old, REGISTRY) == {"strategy": {"name": "sequential", "count": 3}, "seed": 1}
    with pytest.raises(UsageError, match=r"joint has no use for \[synthesis\]"):
        upgrade({**old, "strategy": "joint"}, REGISTRY)


@pytest.mark.parametrize(
    ("loss", "terms"),
    [
        ("hybrid", "ce+dice"),
        ({"name": "hybrid"}, "ce+dice"),
        ({"name": "hybrid", "terms": "dice+0.5*focal"}, "dice+0.5*focal"),
        ({"name": "hybrid", "hybrid": {"terms": "bce+dice"}}, "bce+dice"),
        ({"name": "dice", "smooth": 1.0}, None),
    ],
)
def test_the_loss_hybrid_of_before_is_the_sum_that_it_stood_for(loss, terms):
    assert upgrade({"loss": loss}, REGISTRY)["loss"] == ({"name": terms} if terms else loss)


def test_a_retired_option_is_read_from_stored_runs_and_refused_for_training(joint, tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "RETIRED", {"train.swirl": 0.0, "segmenter/unet.curl": False})
    path = tmp_path / "experiment.toml"
    text = (
        joint.to_toml()
        .replace("[train]\n", "[train]\nswirl = 0.5\n")
        .replace("[segmenter]\n", "[segmenter]\ncurl = true\n")
    )
    path.write_text(text)
    assert load_experiment(path, REGISTRY) == joint
    with pytest.raises(UsageError, match=r"train\.swirl has been retired, so nothing can be trained with 0\.5"):
        load_experiment(path, REGISTRY, stored=False)
    path.write_text(text.replace("swirl = 0.5", "swirl = 0.0").replace("curl = true", "curl = false"))
    assert load_experiment(path, REGISTRY, stored=False) == joint


def test_an_option_that_came_later_is_in_stored_runs_what_was_so_before(joint, tmp_path, monkeypatch):
    """As if `train.warmup` had come with format 3, with another default."""
    path = tmp_path / "experiment.toml"
    path.write_text(joint.to_toml().replace("warmup = 0.0\n", ""))
    assert "warmup" not in path.read_text()
    assert load_experiment(path, REGISTRY).train.warmup == 0.0
    monkeypatch.setattr(versions, "NEUTRAL", {"train": {"warmup": 0.25}})
    assert load_experiment(path, REGISTRY).train.warmup == 0.25


def test_an_added_option_changes_no_identity_at_its_neutral_value(joint):
    now = identify(joint, REGISTRY, {})
    before = {
        name: value for name, value in now.options.items() if name not in ("train.clip", "strategy.start", "fold")
    }
    assert "strategy.start" in now.options
    assert Identity(before, now.neutral).digest == now.digest
    assert now.difference(before) == ""


def test_what_differs_is_named(joint):
    now = identify(joint, REGISTRY, {"the data of source": "8 images, abc"})
    assert now.difference({**now.options, "strategy.weight": 0.1}) == "strategy.weight is 0.1 there and 0.5 here"
    other = {**now.options, "the data of source": "7 images, def"}
    assert now.difference(other) == "the data of source is 7 images, def there and 8 images, abc here"
    assert Identity(other, now.neutral).digest != now.digest


def test_neutral_values_are_those_of_components_too(joint):
    neutral = neutral_values(joint, REGISTRY)
    assert neutral["strategy.weight"] == 1e-3
    assert neutral["generator.temperature"] == 0.07
    assert neutral["train.accumulation"] == 1
    assert "train.iterations" not in neutral  # every experiment names it


def test_paths_are_no_part_of_an_identity(joint, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "splits.json").write_text("{}")
    experiments = [
        joint.model_copy(
            update={
                "data": joint.data.model_copy(
                    update={
                        "source": joint.data.source.model_copy(
                            update={"root": tmp_path / folder, "splits": tmp_path / folder / "splits.json"}
                        )
                    }
                )
            }
        )
        for folder in ("one", "two")
    ]
    one, two = (training_options(experiment) for experiment in experiments)
    assert one == two
    assert one.get("data.source.root") is None
    assert str(tmp_path) not in str(identity.identify(experiments[0], REGISTRY, {}).options)


@pytest.mark.parametrize("kind", ["strategy", "generator", "segmenter", "loss"])
def test_a_name_alone_stands_for_a_components_table(kind):
    assert upgrade({kind: "mine", "seed": 1}, REGISTRY) == {kind: {"name": "mine"}, "seed": 1}
    assert settings_of({"assignments": [f"{kind}=mine", f"{kind}.depth=3"]}, {}, REGISTRY)[kind] == {
        "name": "mine",
        "depth": 3,
    }
    with pytest.raises(UsageError, match=f"{kind} is a name or a table, not 3; say --{kind} NAME"):
        upgrade({kind: 3}, REGISTRY)


def test_what_must_be_a_table_is_said_to_be_one():
    with pytest.raises(UsageError, match=r"augmentation is a table, not 'square'; .* such as augmentation\.preset"):
        complete_experiment({**JOINT, "augmentation": "square"}, REGISTRY)
