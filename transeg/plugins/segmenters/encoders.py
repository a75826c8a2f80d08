"""What the segmenters on other packages' encoders share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

import torch
from torch import Tensor, nn
from torch.func import functional_call


def run_on_meta(network: nn.Module, image: tuple[int, int, int]) -> tuple[list[Tensor], list[Tensor]]:
    """Run a network in its present mode on the shape of a batch alone, which costs neither memory nor arithmetic.

    Args:
        network: from an image to one tensor or several.
        image: channels, height and width.

    Returns:
        What it makes of them, and its parameters in their usual order, all on the meta device.
    """
    parameters = {name: torch.empty_like(p, device="meta").requires_grad_() for name, p in network.named_parameters()}
    buffers = {name: torch.empty_like(b, device="meta") for name, b in network.named_buffers()}
    outputs = functional_call(network, {**parameters, **buffers}, torch.empty(2, *image, device="meta"))
    return [outputs] if isinstance(outputs, Tensor) else list(outputs), list(parameters.values())


def freeze_idle(network: nn.Module, image: tuple[int, int, int]) -> None:
    """Freeze the parameters that get no gradient, such as an encoder's stages below the deepest one that is used.

    They stay in the state dict, so that published weights fit, but cost no optimizer state and do not count as
    trainable.

    Args:
        network: in training mode.
        image: channels, height and width of an image that it takes.

    Raises:
        ValueError: its first output is not of the image's size.
    """
    with torch.inference_mode(False), torch.enable_grad():  # whatever it is built for
        outputs, parameters = run_on_meta(network, image)
        if outputs[0].shape[2:] != image[1:]:
            raise ValueError(f"from {image[1]}x{image[2]} pixels it makes {tuple(outputs[0].shape[2:])}")
        total = torch.stack([output.sum() for output in outputs]).sum()
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        if gradient is None:
            parameter.requires_grad_(False)


@contextmanager
def explain_errors(clause: str) -> Iterator[None]:
    """Whatever another package raises, as a ValueError that begins with a clause of ours."""
    try:
        yield
    except Exception as error:
        detail = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(f"{clause}: {detail or type(error).__name__}") from error


def suggest_names(name: str, known: Iterable[str]) -> str:
    """'; near are A, B' for known names like an unknown one, else nothing."""
    found = get_close_matches(name, known, n=3, cutoff=0.4)
    return f"; near are {', '.join(found)}" if found else ""
