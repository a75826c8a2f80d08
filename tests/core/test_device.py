import resource
import subprocess
import sys

import pytest

from transeg.core.device import keep_freed_memory

FAULTS = """
import resource, torch
from transeg.core.device import keep_freed_memory
{setting}
for turn in range(32):
    if turn == 16:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(64 << 20, dtype=torch.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(setting):
    out = subprocess.run([sys.executable, "-c", FAULTS.format(setting=setting)], capture_output=True, check=True)
    return int(out.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only the GNU C library is told")
def test_a_large_tensor_takes_the_place_of_the_last_one():
    pages = (64 << 20) // resource.getpagesize()
    assert faults("pass") >= 16 * pages
    assert faults("assert keep_freed_memory()") < 4 * pages


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
