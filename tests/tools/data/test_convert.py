import json
import os
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest
from layouts import axon

from transeg.core.builders.datasets import build_dataset
from transeg.core.experiment.command_line import parse_dataset
from transeg.core.experiment.validation import chosen_dataset
from transeg.core.registry import Registry

REGISTRY = Registry()
WRITABLE = [c.name for c in REGISTRY.components("dataset") if REGISTRY.load(c).writer is not None]
REAL = Path(os.environ.get("TRANSEG_DATA", "/nonexistent")) / "axon-sem"


def place(name, folder):
    return f"axon:SEM:{folder}" if name == "axon" else f"{name}:{folder}"


def samples(text, **options):
    """Samples of every split, by name."""
    found = {}
    for split in ("train", "val", "test"):
        choice = chosen_dataset({**parse_dataset(text, REGISTRY), **options, "split": split})
        dataset = build_dataset(choice, "source", REGISTRY)
        found |= {dataset[index].name: (split, dataset[index]) for index in range(len(dataset))}
    return found


def agree(one, other):
    assert set(one) == set(other)
    for name, (split, sample) in one.items():
        there, found = other[name]
        assert there == split
        assert np.array_equal(sample.image, found.image)
        assert np.array_equal(sample.mask, found.mask)
        assert (sample.group, sample.pixel_size) == (found.group, found.pixel_size)


@pytest.mark.parametrize(("first", "second"), list(permutations(WRITABLE, 2)))
def test_there_and_back_everything_is_as_it_was(toolkit, tmp_path, first, second):
    axon(tmp_path / "axon", count=3)
    chain = [f"axon:SEM:{tmp_path / 'axon'}", place(first, tmp_path / "1"), place(second, tmp_path / "2")]
    chain.append(f"axon:SEM:{tmp_path / 'back'}")
    for origin, destination in pairwise(chain):
        toolkit("data", "convert", origin, destination)
    agree(samples(chain[0]), samples(chain[2]))
    agree(samples(chain[0]), samples(chain[3]))


def test_images_are_resampled_on_the_way(toolkit, tmp_path):
    axon(tmp_path / "axon", count=3)
    origin, out = f"axon:SEM:{tmp_path / 'axon'}", f"nnunet:{tmp_path / 'out'}"
    result = toolkit("data", "convert", origin, out, "--set", "pixel_size=0.2", "--json")
    report = json.loads(result.stdout)
    assert report["images"] == sum(report["splits"].values()) == 6
    agree(samples(origin, pixel_size=0.2), samples(out))
    (_, sample), *_ = samples(out).values()
    assert sample.size == (10, 24)
    assert sample.pixel_size == pytest.approx((0.2, 0.2))


def test_an_interrupted_conversion_goes_on(toolkit, tmp_path):
    axon(tmp_path / "axon", count=3)
    line = "data", "convert", f"axon:SEM:{tmp_path / 'axon'}", f"folder:{tmp_path / 'out'}"
    toolkit(*line)
    images = sorted((tmp_path / "out").rglob("images/*"))
    images[0].unlink()
    before = {path: path.stat().st_mtime_ns for path in images[1:]}
    toolkit(*line)
    assert {path: path.stat().st_mtime_ns for path in images[1:]} == before
    assert images[0].exists()


def test_both_domains_may_share_a_tree(toolkit, tmp_path):
    axon(tmp_path / "axon", count=3)
    for domain in ("SEM", "TEM"):
        for layout in ("axon", "hdf5"):
            toolkit(
                "data",
                "convert",
                f"axon:{domain}:{tmp_path / 'axon'}",
                f"{layout}:{domain}:{tmp_path / 'new' / layout}",
            )
    for domain in ("SEM", "TEM"):
        for layout in ("axon", "hdf5"):
            agree(
                samples(f"axon:{domain}:{tmp_path / 'axon'}"), samples(f"{layout}:{domain}:{tmp_path / 'new' / layout}")
            )


def test_what_does_not_fit_is_said(toolkit, tmp_path):
    axon(tmp_path / "axon", count=3)
    origin = f"axon:SEM:{tmp_path / 'axon'}"
    out = tmp_path / "out"

    def refused(*line, code=2):
        return " ".join(toolkit("data", "convert", *line, code=code).output.split())

    assert "kvasir can be read but not written" in refused(origin, f"kvasir:{out}")
    assert "say which, as in axon:DOMAIN:FOLDER" in refused(f"axon:{tmp_path / 'axon'}", f"folder:{out}")
    assert "Say where to" in refused(origin, "folder")
    assert "holds no conversion" in refused(origin, f"folder:{tmp_path / 'axon'}")
    assert not out.exists()
    toolkit("data", "convert", origin, f"folder:{out}")
    assert "holds axon:SEM" in refused(origin, f"folder:{out}", "--set", "rescale=2")
    assert "holds axon:SEM" in refused(origin, f"nnunet:{out}")


@pytest.mark.skipif(not REAL.is_dir(), reason="TRANSEG_DATA has no axon-sem/")
def test_real_images_go_there_and_back(toolkit, tmp_path):
    chain = [f"axon:SEM:{REAL}", *(place(layout, tmp_path / layout) for layout in WRITABLE if layout != "axon")]
    chain.append(f"axon:SEM:{tmp_path / 'back'}")
    for origin, destination in pairwise(chain):
        toolkit("data", "convert", origin, destination, *(("--set", "rescale=0.1") if origin == chain[0] else ()))
    agree(samples(chain[0], rescale=0.1), samples(chain[-1]))
