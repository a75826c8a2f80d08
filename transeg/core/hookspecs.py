"""The pluggy hooks. A plugin implements those it needs with ``transeg.core.hookspecs.hookimpl``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from mmengine.hooks import Hook

    from transeg.core.experiment.schema import Experiment
    from transeg.core.manifest import Plugin

hookspec = pluggy.HookspecMarker("transeg")
hookimpl = pluggy.HookimplMarker("transeg")


@hookspec
def transeg_manifest() -> Plugin:
    """What a plugin offers, read from its manifest without importing it.

    The core answers this hook on every plugin's behalf; plugins do not implement it.
    """
    raise NotImplementedError


@hookspec
def transeg_runner_hooks(experiment: Experiment) -> list[Hook]:
    """Further mmengine hooks for a training run.

    Example::

        from mmengine.hooks import Hook
        from transeg.core.hookspecs import hookimpl

        class Shout(Hook):
            def after_train(self, runner):
                print(f"trained for {runner.iter} iterations")

        @hookimpl
        def transeg_runner_hooks(experiment):
            return [Shout()]
    """
    raise NotImplementedError
