import os
import pickle
import random
import stat
from pathlib import Path

import numpy as np
import pytest
import torch

from transeg.core.errors import TransegError
from transeg.core.models import checkpoint


class Code:
    def __reduce__(self):
        return os.system, ("touch /tmp/never",)


def test_what_is_saved_is_read_with_weights_only(tmp_path):
    path = tmp_path / "deep" / "last.pt"
    checkpoint.save_checkpoint(
        {"model": {"a": torch.arange(3)}, "iteration": 5, "random": checkpoint.random_state()}, path
    )
    state = torch.load(path, weights_only=True)
    assert state["iteration"] == 5
    assert checkpoint.load_checkpoint(path)["model"]["a"].tolist() == [0, 1, 2]


def test_random_generators_go_on_where_they_were():
    state = checkpoint.random_state()
    first = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1))
    checkpoint.restore_random_state(state)
    assert first == (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1))


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    checkpoint.save_checkpoint({"iteration": 1}, path)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TransegError, match="No space left on device"):
        checkpoint.save_checkpoint({"iteration": 2}, path)
    assert checkpoint.load_checkpoint(path)["iteration"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_gets_a_sentence(tmp_path, monkeypatch):
    """PyTorch reports a write that fails in the middle as a RuntimeError."""
    monkeypatch.setattr(Path, "open", lambda path, mode: os.fdopen(os.open("/dev/full", os.O_WRONLY), mode))
    with pytest.raises(TransegError, match="cannot be written"):
        checkpoint.save_checkpoint({"model": torch.zeros(1_000_000)}, tmp_path / "last.pt")


def test_the_gpu_that_is_trained_on_goes_on_where_it_was(monkeypatch):
    """On a machine with another number of them, too."""
    there = {"state": torch.arange(16, dtype=torch.uint8)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: there["state"].clone())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state: there.update(state=state))
    state = checkpoint.random_state()
    there["state"] = torch.zeros(16, dtype=torch.uint8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 7)
    checkpoint.restore_random_state(state)
    assert there["state"].tolist() == list(range(16))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delattr(torch.cuda, "set_rng_state")
    checkpoint.restore_random_state(state)  # on a CPU


def test_permissions_are_those_of_any_file(tmp_path):
    path = tmp_path / "last.pt"
    before = os.umask(0o027)
    try:
        checkpoint.save_checkpoint({}, path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_code_is_never_run(tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"format": 1, "code": Code()}, path)
    with pytest.raises(TransegError, match="pickled code, which is never run"):
        checkpoint.load_checkpoint(path)
    path.write_bytes(pickle.dumps(Code(), protocol=2))
    with pytest.raises(TransegError):
        checkpoint.load_checkpoint(path)


def test_damage_gets_a_sentence(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save_checkpoint({"model": torch.zeros(1000)}, path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"hello"):
        path.write_bytes(content)
        with pytest.raises(TransegError, match=r"last\.pt"):
            checkpoint.load_checkpoint(path)
    path.unlink()
    with pytest.raises(TransegError, match="There is no file"):
        checkpoint.load_checkpoint(path)


def test_foreign_files_are_told_apart(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(TransegError, match="not a transeg checkpoint"):
        checkpoint.load_checkpoint(path)
    torch.save({"format": 99}, path)
    with pytest.raises(TransegError, match="format 99"):
        checkpoint.load_checkpoint(path)
