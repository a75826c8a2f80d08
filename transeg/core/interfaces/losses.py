"""What a loss and a distillation loss must be."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class Loss(nn.Module):
    """``forward(logits (N, K, H, W), target (N, H, W) integer) -> scalar``; pixels of :data:`IGNORE` do not count."""


class DistillationLoss(nn.Module):
    """``forward(student, teacher) -> scalar`` over outputs by name, those of one student and one teacher.

    ``logits`` are ``(N, K, H, W)``, in the student's number of channels; a layer's name stands for its output,
    ``(N, C, h, w)``. Gradients flow into the student's alone. Pixels without a label count like any other.
    """

    layer: str = "logits"
    """The student's output that is compared."""
    teacher_layer: str = "logits"
    """The teacher's output that it is compared with."""

    def prepare(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> None:
        """See the outputs once before the optimizers are made: for parameters whose shape depends on them.

        Raises:
            ValueError: the outputs cannot be compared; a clause that says why.
        """
