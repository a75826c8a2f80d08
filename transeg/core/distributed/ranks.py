"""Which of several processes this one is, by what a launcher says in the environment; imports no PyTorch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import MutableMapping

from transeg.core.errors import TransegError

WATCHED = "TRANSEG_WATCHED_BY"
"""The number of the process of `--devices` that started this one, and will say of any other that it was killed."""

FAILED = "failed"
"""The key in the ranks' store under which they count who has failed."""

QUIET = {"TORCH_CPP_LOG_LEVEL": "ERROR"}
"""Keeps PyTorch from printing its stack where a process that is gone is asked something."""

GRACE = 2.0
"""Seconds that whoever lost another leaves it to say for itself what happened."""


class LostProcessError(TransegError):
    """Another rank has ended before this one could hear from it."""


def is_launched() -> bool:
    """Whether a launcher has started this process: torchrun, `srun` with several tasks, or `--devices`."""
    _adopt_slurm(os.environ)
    return {"RANK", "WORLD_SIZE"} <= os.environ.keys()


def launched_rank_and_world_size() -> tuple[int, int]:
    """What the launcher says, (0, 1) without one; :func:`.collectives.rank_and_world_size` says who has met."""
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if is_launched() else (0, 1)


def parent_is_gone() -> bool:
    """Whether the process of `--devices` that started this one is gone."""
    return WATCHED in os.environ and os.getppid() != int(os.environ[WATCHED])


def reports_failure(failure: BaseException | None) -> bool:
    """Whether this process shall say why it fails: of all ranks the first does, since they often fail alike."""
    distributed = sys.modules.get("transeg.core.distributed.collectives")
    store = None if distributed is None else distributed.store()
    if store is None:
        return True
    if parent_is_gone():  # and the store is gone
        return launched_rank_and_world_size()[0] == 0
    if isinstance(failure, LostProcessError):
        if WATCHED in os.environ:
            return False
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun sends it at once
        time.sleep(GRACE)
    try:
        return bool(store.add(FAILED, 1) == 1)
    except RuntimeError:  # whoever kept the store is gone, too
        return True


def _adopt_slurm(environment: MutableMapping[str, str]) -> None:
    """Say of a task that `srun` started what torchrun would say of it, as mmengine's launcher for SLURM does.

    That one cannot be called: it takes a GPU for granted, and the variables of the whole job, which a batch script that
    calls the toolkit without `srun` has, too.
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    if "RANK" in environment or tasks == "1":
        return
    seen = environment.get("CUDA_VISIBLE_DEVICES", "")
    own_gpu = seen != "" and "," not in seen  # a number, or the name of a GPU or of a part of one
    job, step = int(environment.get("SLURM_JOB_ID", 0)), int(environment.get("SLURM_STEP_ID", 0))
    environment.update(
        RANK=environment["SLURM_PROCID"],
        WORLD_SIZE=tasks,
        LOCAL_RANK="0" if own_gpu else environment["SLURM_LOCALID"],
    )
    environment.update(QUIET)
    environment.setdefault("MASTER_PORT", str(10_000 + (7 * job + step) % 20_000))
    if "MASTER_ADDR" not in environment:
        environment["MASTER_ADDR"] = _first_host(environment)


def _first_host(environment: MutableMapping[str, str]) -> str:
    """The machine of a step's first task."""
    if environment.get("SLURM_STEP_NUM_NODES", "1") == "1":
        return "127.0.0.1"
    command = ["scontrol", "show", "hostnames", environment["SLURM_STEP_NODELIST"]]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        said = " ".join(command)
        raise TransegError(f"{said} names no machine; set MASTER_ADDR to that of the first task.") from error
