"""Every two of a strategy, a generator and a segmenter train, translate and are tested together: no pair is broken.

All three of them are not: strategies take turns over the pairs of generators and segmenters.
"""

import itertools
import json

import pytest
from conformance.test_generators import SMALL
from conftest import TINY_DATA, TINY_TARGET, TINY_TEST, command

from transeg.core.experiment.combinations import combinations
from transeg.core.registry import Registry

NARROW = {
    "ducknet": ["filters=4"],
    "resunet": ["base=4"],
    "resunetpp": ["base=16"],
    "unet": ["base=4"],
    "unetpp": ["base=4"],
    "revisit-unet": ["base=4"],
    "nnunet": ["base=4", "stages=4"],
}
"""Options that make a segmenter small, by name; others are tested as they are."""
SIDE = 64
TRAINING = ["train.iterations=2", "train.batch_size=2", "train.val_interval=2", "train.checkpoint_interval=2"]
FOUND = [c for c in combinations(Registry()) if not c.missing]


def pairwise(found):
    """Of the combinations of three, one for each generator with each segmenter, by each strategy in its turn."""
    threes = [c for c in found if c.generator and c.segmenter]
    generators, segmenters = (sorted({getattr(c, kind) for c in threes}) for kind in ("generator", "segmenter"))
    takers = {generator: sorted({c.strategy for c in threes if c.generator == generator}) for generator in generators}
    yield from (c for c in found if c not in threes)
    for c in threes:
        turn = generators.index(c.generator) + segmenters.index(c.segmenter)
        if c.strategy == takers[c.generator][turn % len(takers[c.generator])]:
            yield c


CHOSEN = list(pairwise(FOUND))


@pytest.mark.slow
@pytest.mark.parametrize("pair", CHOSEN, ids=lambda c: "-".join(p for p in (c.strategy, c.generator, c.segmenter) if p))
def test_it_runs(pair, toolkit, tmp_path):
    options = ["--strategy", pair.strategy]
    settings = [*TRAINING, *TINY_DATA, f"data.size={SIDE}"]
    settings += TINY_TARGET if pair.target else []
    if pair.generator:
        options += ["--generator", pair.generator]
        settings += [f"generator.{name}={json.dumps(value)}" for name, value in SMALL.get(pair.generator, {}).items()]
    if pair.segmenter:
        options += ["--segmenter", pair.segmenter, "--loss", "dice+bce"]
        settings += [f"segmenter.{option}" for option in NARROW.get(pair.segmenter, [])]
        settings += [*TINY_TEST, *(["baseline=none"] if pair.generator else [])]
    run = tmp_path / "run"
    toolkit(*command((options, settings), "--run-dir", run))
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["strategy"] == pair.strategy
    assert metrics["iterations"] == 2
    assert bool(metrics["tests"]) == bool(pair.segmenter)
    assert (run / "previews" / "final.png").exists()


def test_every_pair_is_in_the_matrix():
    def pairs(combinations):
        kinds = ("strategy", "generator", "segmenter")
        named = [[(kind, getattr(c, kind)) for kind in kinds if getattr(c, kind)] for c in combinations]
        return {two for names in named for two in itertools.combinations(names, 2)}

    assert pairs(CHOSEN) == pairs(FOUND)


def test_every_component_is_in_the_matrix():
    registry = Registry()
    for kind in ("generator", "segmenter"):
        named = {getattr(pair, kind) for pair in combinations(registry)} - {None}
        assert named == {component.name for component in registry.components(kind)}
    assert {pair.strategy for pair in combinations(registry)} == {c.name for c in registry.components("strategy")}


def test_the_list_says_which_data_a_pair_needs(toolkit):
    rows = json.loads(toolkit("list", "combinations", "--json").stdout)
    needs = {(row["strategy"], row["generator"], row["segmenter"]): (row["source"], row["target"]) for row in rows}
    assert needs["supervised", None, "unet"] == ("images with masks", "")
    assert needs["translation", "cut", None] == ("images", "images")
    assert needs["joint", "cut", "hardnet"] == ("images with masks", "images")
    assert needs["sequential", "pix2pix", "unet"][0].startswith("images with masks")
    text = " ".join(toolkit("list", "combinations").stdout.split())
    assert "hardnet" in text
    assert "images with masks" in text
