"""What every segmenter must do."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from transeg.core.interfaces import Segmenter
from transeg.core.models.forward import pad_to_multiple, segment
from transeg.core.models.fusion import fuse_for_inference
from transeg.testing.subject import Subject

SIDE = 64


def _picture(*shape: int, seed: int = 0) -> Tensor:
    """Random intensities in [-1, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _built(subject: Subject, channels: int = 3, outputs: int = 1) -> Segmenter:
    network: Segmenter = subject.build(channels, outputs)
    return network.eval()


def _logits(network: Segmenter, image: Tensor) -> Tensor:
    with torch.inference_mode():
        return segment(network, image)[0]


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-4, rtol=1e-3)


def _gap(one: Tensor, other: Tensor) -> str:
    return f"a difference of {(one - other).abs().max().item():.2g}"


def segmenter_takes_any_size(subject: Subject) -> None:
    """It gives logits of the image's own height and width, for images of any size, channels and classes."""
    for channels, outputs in ((3, 1), (1, 4), (5, 2)):
        network = _built(subject, channels, outputs)
        for size in ((SIDE, SIDE), (65, 47), (1, 40)):
            image = _picture(1, channels, *size)
            padded = pad_to_multiple(image, network.size_multiple)
            with torch.inference_mode():
                output = network(padded)
            subject.expect(
                isinstance(output, Tensor),
                "one tensor of logits in eval mode",
                f"a {type(output).__name__}",
                "Return auxiliary heads in training mode only: `return [final, *heads] if self.training else final`.",
            )
            wanted = (1, outputs, *padded.shape[2:])
            subject.expect(
                tuple(output.shape) == wanted,
                f"logits of shape {wanted} for an image of shape {tuple(padded.shape)}, built for {channels} channels "
                f"and {outputs} classes",
                tuple(output.shape),
                "Give the last layer num_classes channels, and resize its output to the image's height and width; set "
                "size_multiple where these must be multiples of a number.",
            )
            subject.expect(
                _logits(network, image).shape == (1, outputs, *size),
                f"logits of the size {size} of the image",
                tuple(_logits(network, image).shape),
                "Set size_multiple to what height and width must be multiples of.",
            )


def segmenter_has_the_heads_it_says(subject: Subject) -> None:
    """In training mode it returns as many logits as its attribute heads says, the final one first."""
    network = subject.build(3, 2).train()
    side = SIDE + -SIDE % network.size_multiple
    output = network(_picture(2, 3, side, side))
    found = list(output) if isinstance(output, (list, tuple)) else [output]
    subject.expect(
        len(found) == network.heads,
        f"{network.heads} logits in training mode, as `heads` says",
        len(found),
        f"Set self.heads = {len(found)}.",
    )
    subject.expect(
        tuple(found[0].shape) == (2, 2, side, side) and all(head.shape[1] == 2 for head in found),
        f"logits of shape {(2, 2, side, side)} first, and two classes in every head",
        [tuple(head.shape) for head in found],
        "Put the final logits first, and give each head num_classes channels.",
    )


def segmenter_trains_every_parameter(subject: Subject) -> None:
    """A backward pass gives every parameter a finite gradient that is not zero."""
    network = subject.build(3, 1).train()
    heads = segment(network, _picture(2, 3, SIDE, SIDE))
    torch.stack([head.square().mean() for head in heads]).sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    subject.expect(
        not silent,
        "a gradient in every parameter",
        f"none in {', '.join(silent[:5])}",
        "Use these layers in forward, do not detach what leads to them, or leave them out.",
    )
    wild = [name for name, p in network.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    subject.expect(
        not wild,
        "finite gradients",
        f"others in {', '.join(wild[:5])}",
        "Look for divisions by zero, and for square roots and logarithms of zero.",
    )


def segmenter_repeats_itself(subject: Subject) -> None:
    """In eval mode it gives the same logits for the same image, and does so built anew from the same seed."""
    image, network = _picture(1, 3, SIDE, SIDE), _built(subject)
    first = _logits(network, image)
    subject.expect(
        torch.equal(first, _logits(network, image)),
        "the same logits twice in eval mode",
        _gap(first, _logits(network, image)),
        "Draw nothing in eval mode: use nn.Dropout, which knows the mode, and no torch.rand in forward.",
    )
    again = _logits(_built(subject), image)
    subject.expect(
        torch.equal(first, again),
        "the same network from the same seed",
        _gap(first, again),
        "Draw weights with torch's global generator alone, and load none in the constructor.",
    )


def segmenter_is_saved_whole(subject: Subject) -> None:
    """Its state_dict holds all that its logits depend on."""
    network, image = _built(subject), _picture(1, 3, SIDE, SIDE)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    other.load_state_dict(network.state_dict())
    one, two = _logits(network, image), _logits(other, image)
    subject.expect(
        torch.equal(one, two),
        "the same logits once the state_dict is loaded into another network",
        _gap(one, two),
        "Keep tensors as parameters, or as buffers with register_buffer.",
    )


def segmenter_treats_images_alone(subject: Subject) -> None:
    """In eval mode an image gets the same logits, whatever else is in the batch."""
    network, images = _built(subject), _picture(3, 3, SIDE, SIDE)
    together = _logits(network, images)
    alone = torch.cat([_logits(network, image[None]) for image in images])
    subject.expect(
        _close(together, alone),
        "the same logits for an image alone and in a batch",
        _gap(together, alone),
        "Normalise over height and width or with running statistics, never over the batch in eval mode.",
    )


def segmenter_runs_under_autocast(subject: Subject) -> None:
    """It computes in bfloat16 where autocast says so, and its logits are finite."""
    with torch.autocast("cpu", torch.bfloat16):
        found = _logits(_built(subject), _picture(1, 3, SIDE, SIDE))
    subject.expect(
        found.isfinite().all(),
        "finite logits under torch.autocast in bfloat16",
        f"{int((~found.isfinite()).sum())} that are not",
        "Compute what overflows in float32: `x.float()`.",
    )


def segmenter_takes_channels_last(subject: Subject) -> None:
    """Images and weights in channels-last order give the same logits."""
    network, image = _built(subject), _picture(1, 3, SIDE, SIDE)
    plain = _logits(network, image)
    last = network.to(memory_format=torch.channels_last)
    other = _logits(last, image.contiguous(memory_format=torch.channels_last))
    subject.expect(
        _close(plain, other),
        "the same logits in channels-last order",
        _gap(plain, other),
        "Use reshape, not view, and no strides.",
    )


def segmenter_can_be_traced(subject: Subject) -> None:
    """Its forward has no Python that depends on the data: torch.export records it for any number of images."""
    network = _built(subject)
    side = max(SIDE, network.size_multiple)
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(network, (_picture(2, 3, side, side),), dynamic_shapes=({0: batch},))
    image = _picture(3, 3, side, side, seed=1)
    with torch.inference_mode():
        one, two = program.module()(image), network(image)
    subject.expect(
        _close(one, two),
        "the same logits from what torch.export recorded",
        _gap(one, two),
        "Take .item() and `if` on values of tensors out of forward.",
    )


def segmenter_is_the_same_deployed(subject: Subject) -> None:
    """With its batch norms folded into convolutions, as inference does it, its logits stay what they were."""
    for channels in (3, 1):
        network = _built(subject, channels)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                _shift_statistics(module)
        ready = fuse_for_inference(network, channels, torch.device("cpu"))
        image = _picture(2, channels, 96, SIDE)
        expected, found = _logits(network, image), _logits(ready, image)
        subject.expect(
            (found - expected).abs().max() <= 1e-4 * expected.abs().max(),
            "the same logits with batch norms folded",
            _gap(found, expected),
            "Call each convolution and norm as a module, once, and read no weight of theirs in forward.",
        )
        same = all(getattr(ready, name) == getattr(network, name) for name in ("size_multiple", "mean", "std", "heads"))
        subject.expect(
            same and type(ready) is type(network),
            "a copy of its own class with its own attributes",
            type(ready).__name__,
            "Let copy.deepcopy copy it: define no __deepcopy__ or __reduce__.",
        )


def _shift_statistics(norm: nn.BatchNorm2d) -> None:
    """As if it had been trained: otherwise a norm is as good as nothing."""
    draw = torch.Generator().manual_seed(norm.num_features)
    for tensor in (norm.running_mean, norm.bias):
        if tensor is not None:
            nn.init.normal_(tensor, std=0.1, generator=draw)
    for tensor, low, high in ((norm.running_var, 0.5, 2.0), (norm.weight, 0.5, 1.5)):
        if tensor is not None:
            nn.init.uniform_(tensor, low, high, generator=draw)


CHECKS = (
    segmenter_takes_any_size,
    segmenter_has_the_heads_it_says,
    segmenter_trains_every_parameter,
    segmenter_repeats_itself,
    segmenter_is_saved_whole,
    segmenter_treats_images_alone,
    segmenter_runs_under_autocast,
    segmenter_takes_channels_last,
    segmenter_can_be_traced,
    segmenter_is_the_same_deployed,
)
