"""Decoded images that are kept: a run with them is the run without them."""

import json
import os
import time

import pytest
import torch
from layouts import write

from transeg.core.data.file_dataset import FileDataset


@pytest.fixture
def kvasir(tmp_path):
    root = tmp_path / "kvasir"
    write("kvasir", root)
    for path in root.rglob("*.*"):
        os.utime(path, (time.time() - 60,) * 2)
    return root


def trained(toolkit, kvasir, folder, *settings, resume=False, code=0):
    tiny = ["data.size=32", "segmenter.base=4"]
    short = ["train.iterations=4", "train.batch_size=3", "train.val_interval=2"]
    assignments = [text for option in (*tiny, *short, *settings) for text in ("--set", option)]
    line = ["--segmenter", "unet", "--source", f"kvasir:{kvasir}", *assignments, "--run-dir", folder]
    return toolkit("run", *line, *(["--resume"] if resume else []), code=code)


def content(folder):
    state = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    return state["model"], json.loads((folder / "metrics.json").read_text())


def test_a_run_with_a_cache_is_the_run_without_it(toolkit, kvasir, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("transeg.core.data.cache.SETTLED", 0)
    trained(toolkit, kvasir, tmp_path / "plain")
    assert not (tmp_path / "cache").exists()
    trained(toolkit, kvasir, tmp_path / "first", "data.cache=50MB", "data.workers=1")
    kept = json.loads(toolkit("data", "cache", "--json").stdout)
    assert kept["bytes"] > 100_000
    decoded = []
    decode = FileDataset.__getitem__
    monkeypatch.setattr(FileDataset, "__getitem__", lambda self, index: decoded.append(index) or decode(self, index))
    trained(toolkit, kvasir, tmp_path / "second", "data.cache=50MB")
    weights, metrics = content(tmp_path / "plain")
    for name in ("first", "second"):
        found, measured = content(tmp_path / name)
        assert measured == metrics
        assert all(torch.equal(found[key], weights[key]) for key in weights)
    assert json.loads(toolkit("data", "cache", "--json").stdout)["bytes"] == kept["bytes"]
    shown = len(decoded)
    trained(toolkit, kvasir, tmp_path / "third")
    assert len(decoded) - shown == shown + 12 + 2 * 6  # 12 samples, and 6 validation images twice
    assert "MB removed" in toolkit("data", "cache", "--clear").stdout
    assert json.loads(toolkit("data", "cache", "--json").stdout)["bytes"] == 0


def test_a_run_resumes_with_another_cache(toolkit, kvasir, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSEG_CACHE", str(tmp_path / "cache"))
    trained(toolkit, kvasir, tmp_path / "run")
    trained(toolkit, kvasir, tmp_path / "run", "data.cache=50MB", resume=True)


def test_a_cache_that_cannot_be_is_no_obstacle(toolkit, kvasir, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRANSEG_CACHE", str(tmp_path / "file"))
    trained(toolkit, kvasir, tmp_path / "run", "data.cache=50MB")
    assert sum("cannot be kept" in record.message for record in caplog.records) == 1
    said = trained(toolkit, kvasir, tmp_path / "other", "data.cache=small", code=2)
    assert "cannot have the size 'small'; say data.cache=off" in " ".join(said.output.split())
