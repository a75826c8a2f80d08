"""Processes that must not outlive the one that started them."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

PARENT = """
import subprocess, sys, time
from transeg.tools.common.child import bound_to_this_process
line = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
child = subprocess.Popen(bound_to_this_process(line), stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no other system has a call for it")
def test_they_end_with_it_even_if_it_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.kill()
    ends = time.monotonic() + 30
    while is_running(child):
        assert time.monotonic() < ends
        time.sleep(0.05)


def is_running(number):
    """Whether there is such a process that has not ended yet; one that nobody has waited for stays listed."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
