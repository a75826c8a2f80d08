"""transeg: translate and segment medical images where labels are scarce.

From Python, as from the command line:

    model = transeg.load("runs/mine")
    mask = model.predict(image)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.2.0"
__all__ = ["Experiment", "Model", "TransegError", "evaluate", "load", "train"]

if TYPE_CHECKING:
    from transeg.core.api.evaluating import evaluate
    from transeg.core.api.experiment import Experiment
    from transeg.core.api.model import Model, load
    from transeg.core.api.run_training import train
    from transeg.core.errors import TransegError
else:  # at run time they are imported when they are first used: some of them need PyTorch, which takes seconds

    def __getattr__(name):
        import warnings
        from importlib import import_module

        homes = {
            "Experiment": "transeg.core.api.experiment",
            "Model": "transeg.core.api.model",
            "TransegError": "transeg.core.errors",
            "evaluate": "transeg.core.api.evaluating",
            "load": "transeg.core.api.model",
            "train": "transeg.core.api.run_training",
        }
        if name not in homes:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what packages have against each other, a user cannot mend
            value = getattr(import_module(homes[name]), name)
        globals()[name] = value
        return value

    def __dir__():
        return [*__all__, "__version__"]
