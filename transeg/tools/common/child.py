"""Becomes another program that gets SIGTERM when the process that started it ends, however that ends.

`toolkit sweep` starts its cells through this: after a kill -9 of the sweep they write a checkpoint and stop, where
orphans would go on unseen. So does `toolkit nnunet`. Linux alone has a call for it (prctl(2), PR_SET_PDEATHSIG), which
outlasts exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def bound_to_this_process(command: list[str]) -> list[str]:
    """The command that runs a command so that it gets SIGTERM when this process ends; on Linux, else as it is."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-m", "transeg.tools.common.child", str(os.getpid()), *command]


def run_bound_to_parent(parent: int, program: list[str]) -> None:
    """Run a program in place of this one.

    Args:
        parent: the process that must live.
        program: its file and arguments.
    """
    # Slurm sends it to all processes of a job whose time is almost up; the sweep's tells this one what to do then
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == parent:  # else it has ended before the call above
        os.execv(program[0], program)


if __name__ == "__main__":
    run_bound_to_parent(int(sys.argv[1]), sys.argv[2:])
