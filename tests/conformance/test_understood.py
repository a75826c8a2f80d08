"""Every dataset finds its folders however they are spelled, and `data verify` certifies what it read."""

import json

import layouts
import pytest
from rich.console import Console

from transeg.core.api.verification import verify_dataset
from transeg.core.builders.datasets import build_dataset
from transeg.core.experiment.completion import complete_dataset
from transeg.core.registry import Registry

REGISTRY = Registry()
READ = [c.name for c in REGISTRY.components("dataset") if REGISTRY.describe(c).needs_root]
OTHER_NUMBER = {"images": "image", "masks": "mask", "image": "images", "mask": "masks", "labels": "label"}


def names(name, root):
    domains = REGISTRY.find("dataset", name).domains or [None]
    table = {"name": name, "root": str(root), "split": "all"}
    found = []
    for domain in domains:
        choice = complete_dataset({**table, **({"domain": domain} if domain else {})}, "test", REGISTRY)
        dataset = build_dataset(choice, "test", REGISTRY)
        assert not dataset.faults
        assert all(dataset.files_of(index) for index in range(len(dataset)))
        found += [dataset[index].name for index in range(len(dataset))]
    return found


def rename_folders(root, new):
    for folder in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
        folder.rename(folder.with_name(f"{folder.name}~"))
        folder.with_name(f"{folder.name}~").rename(folder.with_name(new(folder.name)))


@pytest.fixture(params=READ)
def written(request, tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "COUNT", 10)
    layouts.write(request.param, tmp_path / "set")
    return request.param, tmp_path / "set"


def test_spelling_of_folders(written):
    name, root = written
    before = names(name, root)
    assert before
    rename_folders(root, str.swapcase)
    assert names(name, root) == before
    rename_folders(root, lambda text: text.swapcase().replace(" ", "_"))
    assert names(name, root) == before
    rename_folders(root, lambda text: OTHER_NUMBER.get(text.lower(), text))
    assert names(name, root) == before


def test_certificate(written):
    name, root = written
    (root / "notes.txt").write_text("of a person")
    (root / ".DS_Store").write_bytes(b"of a system")
    report = json.loads(json.dumps(verify_dataset(f"{name}:{root}", (), REGISTRY, Console(quiet=True))))
    assert report["faults"] == []
    assert report["images"] == len(names(name, root)) == sum(d["all"]["images"] for d in report["domains"].values())
    reasons = {row["reason"]: row for row in report["not_read"]}
    assert reasons["no image, .txt"]["example"] == "notes.txt"
    assert reasons["hidden, or left by a system"]["count"] == 1
    for domain in report["domains"].values():
        known = domain["all"]
        assert set(known) >= {"images", "groups", "masks", "sizes", "types", "intensities", "mean", "deviation"}
        if known["masks"]:
            assert sum(known["classes"].values()) == pytest.approx(1)
