"""What a check looks at, and what it says where a contract is broken."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import SkipTest

from transeg.core.errors import TransegError
from transeg.core.manifest import Component
from transeg.core.registry import LOCAL, Registry

Tree = Path | Callable[[Path], object]
"""A folder that a dataset reads, or what writes a small one into an empty folder."""


class ContractError(AssertionError):
    """A component does not keep its contract; a sentence that names it, and one that says what to mend."""


@dataclass(frozen=True)
class Subject:
    """A component, and how it is built to be checked.

    Attributes:
        component: as its manifest describes it.
        registry: where it comes from.
        options: that make it small enough for checks; its defaults without any.
        tree: of a dataset that reads a folder; None where there is none to read.
    """

    component: Component
    registry: Registry
    options: Mapping[str, Any] = field(default_factory=dict)
    tree: Tree | None = None

    def __str__(self) -> str:
        return f"{self.component} of {self.component.package}"

    def load(self) -> Any:
        """The component's class or function, imported."""
        return self.registry.load(self.component)

    def build(self, *arguments: Any, **changes: Any) -> Any:
        """The component, built with its options and further ones; its weights are the same each time."""
        import torch

        torch.manual_seed(0)
        return self.load()(*arguments, **{**self.options, **changes})

    @cached_property
    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="transeg-check-")

    def scratch(self) -> Path:
        """A new folder, which goes with the subject."""
        return Path(tempfile.mkdtemp(dir=self._folder.name))

    @cached_property
    def root(self) -> Path:
        """The folder that a dataset reads; checks leave it as it is."""
        if isinstance(self.tree, Path):
            return self.tree
        folder = self.scratch()
        if self.tree is not None:
            self.tree(folder)
        return folder

    def expect(self, kept: object, expected: str, found: object, mend: str) -> None:
        """Go on where the contract is kept.

        Args:
            kept: whether it is.
            expected: what the contract wants, as in `logits of shape (1, 1, 64, 64)`.
            found: what there is.
            mend: what to do, a sentence.

        Raises:
            ContractError: it is not.
        """
        if not kept:
            raise ContractError(f"{self}: expected {expected}, found {found}. {mend}")


@dataclass(frozen=True)
class Check:
    """A contract of one component.

    Attributes:
        subject: what is looked at.
        function: raises :class:`ContractError`, or ``unittest.SkipTest`` where it cannot look; its docstring begins
            with what the contract is.
        slow: whether it may take a minute.
    """

    subject: Subject
    function: Callable[[Subject], None]
    slow: bool = False

    @property
    def name(self) -> str:
        """Of the contract, as in `segmenter_takes_any_size`."""
        return self.function.__name__

    @property
    def about(self) -> str:
        """The contract in a sentence."""
        return (self.function.__doc__ or "").strip().partition("\n\n")[0].replace("\n", " ")

    def __str__(self) -> str:
        return f"{self.subject.component}-{self.name}"

    def __call__(self) -> None:
        """Look.

        Raises:
            ContractError: the contract is broken, or the component fails where it is kept to.
            SkipTest: something is missing that the check needs.
        """
        try:
            self.function(self.subject)
        except (ContractError, SkipTest):
            raise
        except TransegError as error:
            raise ContractError(f"{self.subject}: {error}") from error
        except Exception as error:
            raise ContractError(
                f"{self.subject}: expected that {self.about[:1].lower()}{self.about[1:].rstrip('.')}, found "
                f"{type(error).__name__}: {error}. Mend what raises it{_where(error, self.subject.component)}."
            ) from error


def _where(error: BaseException, component: Component) -> str:
    """``(net.py, line 12)``: the innermost line in the component's own package; '' where there is none."""
    module = component.entry.entry.rpartition(":")[0]
    own = LOCAL if module.endswith(".py") else module.rpartition(".")[0] or module
    found = ""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame
        if str(code.f_globals.get("__name__", "")).startswith(own):
            found = f" ({Path(code.f_code.co_filename).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return found
