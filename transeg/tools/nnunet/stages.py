"""What nnU-Net does in a process of its own, which has its folders in the environment before it is imported.

`python -m transeg.tools.nnunet.stages TASK JSON`, where JSON holds the arguments of the function TASK.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

from transeg.core.models.checkpoint import load_safely

TRAINER = "nnUNetTrainer"
WORKERS = "nnUNet_n_proc_DA"
"""The variable that says how many processes augment beside a training."""


def plan_and_preprocess(number: int, planner: str, configuration: str, processes: int) -> None:
    """Check a raw dataset, plan, and preprocess."""
    if os.environ.get(WORKERS) == "0":  # the planner would ask PyTorch for as many threads
        os.environ[WORKERS] = "1"
    extract_fingerprints([number], num_processes=processes, check_dataset_integrity=True)
    plans = plan_experiments([number], planner)
    preprocess([number], plans, configurations=(configuration,), num_processes=[processes])


def train_fold(
    number: int,
    plans: str,
    configuration: str,
    fold: int | str,
    device: str,
    epochs: int,
    iterations: int,
    checkpoints: list[str],
) -> None:
    """Train a fold, or go on where there are checkpoints, and segment its validation images, if it has any.

    The trainer is nnU-Net's own with other numbers of epochs and iterations, so that what it leaves is an
    ordinary model of nnU-Net.
    """
    if device != "cpu":  # there OMP_NUM_THREADS decides, else all cores
        torch.set_num_threads(1)
    for path in checkpoints:
        load_safely(Path(path), numpy_numbers=True)  # nnU-Net would run what is pickled in it
    resume = bool(checkpoints)
    trainer = get_trainer_from_args(
        str(number), configuration, fold, TRAINER, plans, continue_training=resume, device=torch.device(device)
    )
    trainer.num_epochs = epochs
    trainer.num_iterations_per_epoch = iterations
    trainer.num_val_iterations_per_epoch = max(1, iterations // 5)
    maybe_load_checkpoint(trainer, resume, validation_only=False)
    trainer.run_training()
    if fold != "all":  # which keeps no image back: all that it trained on would be segmented, and not be measured
        trainer.perform_actual_validation()


TASKS: dict[str, Callable[..., None]] = {"prepare": plan_and_preprocess, "train": train_fold}

if __name__ == "__main__":
    # an exit ends nnU-Net's workers, too, which the signal alone would leave behind
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    TASKS[sys.argv[1]](**json.loads(sys.argv[2]))
