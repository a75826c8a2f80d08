import resource
import shutil
from types import SimpleNamespace

import pytest

from transeg.tools.doctor import machine
from transeg.tools.doctor.machine import check_cores, check_descriptors, check_memory, check_shared_memory

GIB = 2**30


@pytest.fixture
def cores(monkeypatch):
    def give(affinity, quota, said):
        monkeypatch.setattr(machine, "available_cores", lambda: affinity)
        monkeypatch.setattr(machine, "core_limit", lambda: quota)
        if said is None:
            monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        else:
            monkeypatch.setenv("OMP_NUM_THREADS", said)

    return give


@pytest.mark.parametrize(
    ("affinity", "quota", "said", "state", "advice"),
    [
        (8, None, None, "ok", ""),
        (8, None, "8", "ok", ""),
        (8, 2.0, "2", "ok", ""),
        (8, 2.0, None, "note", "Set OMP_NUM_THREADS=2."),
        (8, 0.5, None, "note", "Set OMP_NUM_THREADS=1."),
        (8, None, "1", "note", "Unset it to use all cores."),
        (8, None, "64", "note", "Set OMP_NUM_THREADS=8, or unset it."),
        (8, None, "many", "note", "Set OMP_NUM_THREADS=8, or unset it."),
    ],
)
def test_cores(cores, affinity, quota, said, state, advice):
    cores(affinity, quota, said)
    assert (check_cores().state, check_cores().advice) == (state, advice)


def test_few_descriptors(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1_000_000))
    assert check_descriptors().state == "note"
    assert check_descriptors().advice == "ulimit -n 4096"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    assert "Ask for more" in check_descriptors().advice
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert check_descriptors().state == "ok"


@pytest.mark.parametrize(("free", "state"), [(60 * 2**20, "note"), (GIB, "ok")])
def test_the_shared_memory_of_a_container(monkeypatch, tmp_path, free, state):
    monkeypatch.setattr(machine, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=free + 1, free=free))
    assert check_shared_memory().state == state
    assert ("--shm-size" in check_shared_memory().advice) == (state == "note")


@pytest.mark.parametrize(
    ("memory", "limit", "state", "words"),
    [
        ((64 * GIB, 60 * GIB), None, "ok", "64.0 GiB, 60.0 GiB of it available."),
        ((64 * GIB, 60 * GIB), 2 * GIB, "note", "limited to 2.0 GiB. Trainings"),
        ((64 * GIB, GIB), None, "note", "1.0 GiB of it available. Trainings"),
        ((64 * GIB, None), 2**63 - 4096, "ok", "64.0 GiB."),
        ((None, None), None, "ok", "does not say"),
    ],
)
def test_memory(monkeypatch, memory, limit, state, words):
    monkeypatch.setattr(machine, "main_memory", lambda: memory)
    monkeypatch.setattr(machine, "memory_limit", lambda: limit)
    assert check_memory().state == state
    assert words in check_memory().found
