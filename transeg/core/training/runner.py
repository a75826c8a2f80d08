"""Experiment -> mmengine Runner, with users shielded from where mmengine has aged.

docs/decisions/mmengine.md says what each override is for.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner as MMEngineRunner
from mmengine.runner import set_random_seed
from torch import nn
from torch.utils.data import DataLoader

from transeg.core.distributed.collectives import all_gather, broadcast_state, rank_and_world_size
from transeg.core.errors import UsageError
from transeg.core.experiment.identity import Identity
from transeg.core.inference.trained_model import DomainProperties
from transeg.core.models import checkpoint
from transeg.core.models.compilation import load_optimizer_state
from transeg.core.models.training_state import without_training_state
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training.loop import TrainLoop, ValidationLoop, ValidationSet
from transeg.core.training.tasks.task import Task

DEFAULT_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")
"""mmengine's own, all replaced by ``core.training.hooks``."""


class Runner(MMEngineRunner):
    """Trains a task into a run folder.

    Args:
        task: what is trained.
        folder: where to.
        identity: what the checkpoints of this training have in common; one with another is refused.
        device: where the task is trained.
        seed: of all that draws from global random generators.
        loader: of the training stream.
        iterations: length of the training.
        val_interval: iterations between validations.
        validations: what is measured while it trains; the first selects the best checkpoint.
        domains: what the networks must know of the data.
        hooks: all of them, in any order.
        resume: whether to go on from the folder's last checkpoint, where there is one.
    """

    def __init__(
        self,
        task: Task,
        folder: RunFolder,
        *,
        identity: Identity,
        device: torch.device,
        seed: int,
        loader: DataLoader[Any],
        iterations: int,
        val_interval: int,
        validations: Sequence[ValidationSet],
        domains: DomainProperties,
        hooks: Sequence[Hook],
        resume: bool,
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._domains = domains
        self._device = device
        self._go_on = resume
        self._random_states: list[dict[str, Any]] | None = None
        self._validations = validations
        wrappers = {name: OptimWrapper(o.optimizer) for name, o in task.optimizers().items()}
        val: dict[str, Any] = {}
        if validations:
            val = {
                "val_dataloader": validations[0].loader,
                "val_cfg": {},  # see build_val_loop
                "val_evaluator": Evaluator(validations[0].metric),
            }
        super().__init__(
            model=task,
            work_dir=str(folder.path),
            train_dataloader=loader,
            train_cfg={"type": TrainLoop, "max_iters": iterations, "val_interval": val_interval},
            optim_wrapper=OptimWrapperDict(**wrappers),
            default_hooks=dict.fromkeys(DEFAULT_HOOKS),
            custom_hooks=list(hooks),
            randomness={"seed": seed, "diff_rank_seed": True},  # dropout that ranks share would be less of it
            experiment_name=uuid4().hex,  # mmengine keeps its message hubs and loggers by this name for ever
            **val,
        )

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """As mmengine, but without a new time-stamped folder for each start."""
        super().setup_env(env_cfg)
        self._timestamp = ""

    def build_logger(self, log_level: Any = "INFO", log_file: str | None = None, **kwargs: Any) -> MMLogger:
        """Errors only; the toolkit says the rest in its own words."""
        return MMLogger.get_instance(self._experiment_name, log_level=logging.ERROR)

    def build_visualizer(self, visualizer: Any = None) -> None:
        """None: its backends are fed by ``core.training.trackers``."""

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Only moved: the task averages its own gradients, and a wrapper would not see a generator's networks."""
        return model.to(self._device)

    def build_val_loop(self, loop: Any) -> ValidationLoop:
        """Over the validation sets as they are: mmengine copies a configuration, images, networks and all."""
        return ValidationLoop(self, self._val_dataloader, self._val_evaluator, self._validations)

    def dump_config(self) -> None:
        """Nothing: the experiment is a TOML file already."""

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """Nothing: the run folder has ``environment.json``, and this would start compilers to ask their versions."""

    def load_or_resume(self) -> None:
        """Go on from the last checkpoint, else give all ranks the same start.

        Raises:
            TransegError: the checkpoint cannot be read.
            UsageError: it belongs to another experiment.
        """
        if self._go_on and self._folder.last.exists():
            state = checkpoint.load_checkpoint(self._folder.last)
            # of format 1 there is a digest alone; who resumes has compared the stored experiment with this one
            changed = self._identity.difference(state["options"]) if "options" in state else ""
            if changed:
                raise UsageError(
                    f"{self._folder.last} belongs to another experiment: {changed}. Resume it with what it was started "
                    f"with, or choose another --run-dir."
                )
            self.model.load_state_dict(state["model"])
            for name, wrapper in self.optim_wrapper.items():
                load_optimizer_state(wrapper.optimizer, state["optimizers"][name])
            self.model.updates.load_state_dict(state.get("scales", {}))
            self.train_loop.iter = state["iteration"]
            self._random_states = state["random"]
            self.call_hook("after_load_checkpoint", checkpoint=state)
        broadcast_state(self.model)

    def restore_random_state(self) -> None:
        """Put the random generators where the checkpoint found them; the loop calls it before its first iteration.

        On another number of ranks none is where it was: all begin anew, by the seed and the iteration.
        """
        states, (rank, ranks) = self._random_states, rank_and_world_size()
        if states is not None and len(states) == ranks:
            checkpoint.restore_random_state(states[rank])
        elif states is not None:
            set_random_seed((self.seed + 7919 * self.iter) % 2**31)  # mmengine has added the rank

    def save_last(self) -> None:
        """Write what resuming needs."""
        state = {
            **self._state(),
            "optimizers": {name: wrapper.optimizer.state_dict() for name, wrapper in self.optim_wrapper.items()},
            "scales": self.model.updates.state_dict(),
            "random": all_gather([checkpoint.random_state()]),
        }
        self._write(state, self._folder.last)

    def save_best(self) -> None:
        """Write what inference needs."""
        state = self._state()
        self._write({**state, "model": without_training_state(state["model"], self.model)}, self._folder.best)

    def _state(self) -> dict[str, Any]:
        about = {"iteration": self.iter, "domains": asdict(self._domains)}
        about |= {"identity": self._identity.digest, "options": self._identity.options}
        # in the usual order, whatever order a training has: other formats, such as safetensors, take no other
        return {**about, "model": {name: value.contiguous() for name, value in self.model.state_dict().items()}}

    def _write(self, state: dict[str, Any], path: Path) -> None:
        self.call_hook("before_save_checkpoint", checkpoint=state)
        if rank_and_world_size()[0] == 0:
            checkpoint.save_checkpoint(state, path)
