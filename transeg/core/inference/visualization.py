"""Pictures of what a training does: columns side by side, a sample in each row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from transeg.core.analysis.tracking import TrackedObject
from transeg.core.data.writing import write_atomically
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.interfaces import IGNORE, Sample
from transeg.core.models.forward import to_classes, to_signed_unit

GAP = 4
HEADER = 26
SMALLEST, LARGEST = 192, 384
"""Pixels; pictures of another height are brought to the nearer of these."""
YELLOW = (255, 220, 0)
SCALE, MIN_SCALE = 1 / 960, 0.4
"""Of numbers, for each row of a picture, in units of OpenCV's font, which is about 22 pixels high; and the least."""


@torch.no_grad()
def draw_previews(trained: TrainedModel, sources: Sequence[Sample], targets: Sequence[Sample], path: Path) -> None:
    """Write source images with their translation, the prediction on it and the truth; beside them target images.

    What a run does not have (a generator, a segmenter, masks) has no column. Where images are made from label maps
    there is no target domain: beside them are test images, if anything segments these.
    """
    by_mask = trained.generator is not None and trained.given.by_mask
    others = [] if by_mask and trained.segmenter is None else targets
    columns = [*_columns(trained, "source", sources), *_columns(trained, "test" if by_mask else "target", others)]
    if columns:
        write_grid(columns, path)


def _columns(trained: TrainedModel, domain: str, samples: Sequence[Sample]) -> list[tuple[str, list[np.ndarray]]]:
    """Titled columns for images of one domain; source images are segmented as they are translated."""
    if not samples:
        return []
    inference, count = trained.inference(), len(trained.domains.class_names)
    images = [to_signed_unit(inference.prepare(sample.image), trained.device) for sample in samples]
    columns = [(domain, [to_picture(image) for image in images])]
    masks = [inference.prepare_mask(sample.mask) for sample in samples if sample.mask is not None]
    truth = [("truth", [mask_to_picture(mask, count) for mask in masks])] if len(masks) == len(samples) else []
    if domain == "source" and trained.generator is not None:
        given = [trained.given.sample(sample, inference).to(trained.device) for sample in samples]
        images = [trained.translate(to_signed_unit(one, trained.device)[None])[0] for one in given]
        columns.append(("translated", [to_picture(image) for image in images]))
        if trained.given.by_mask:
            columns, truth = [("label map", truth[0][1]), ("synthetic", columns[1][1]), ("real", columns[0][1])], []
    if trained.segmenter is not None:
        predictions = [to_classes(trained.segment(image[None]))[0].cpu().numpy() for image in images]
        columns += [("prediction", [mask_to_picture(prediction, count) for prediction in predictions]), *truth]
    return columns


def to_picture(image: Tensor) -> np.ndarray:
    """``(C, H, W)`` in [-1, 1] -> ``(H, W, 3)`` uint8; one channel is shown grey, of more than three the first."""
    channels = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    return ((channels.float().cpu() + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def mask_to_picture(mask: np.ndarray, count: int) -> np.ndarray:
    """``(H, W)`` classes -> ``(H, W, 3)``; background black, the last of ``count`` classes white, unknown grey."""
    shade = np.where(mask == IGNORE, 0.5, mask / max(1, count - 1))
    return np.repeat((shade * 255).astype(np.uint8)[:, :, None], 3, axis=2)


def draw_outlines(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Outline what is not background in yellow on ``(H, W, 3)`` uint8."""
    found = mask > 0
    inner = found.copy()
    inner[1:] &= found[:-1]
    inner[:-1] &= found[1:]
    inner[:, 1:] &= found[:, :-1]
    inner[:, :-1] &= found[:, 1:]
    result = picture.copy()
    result[np.nonzero(found & ~inner)] = YELLOW
    return result


def draw_numbers(picture: np.ndarray, objects: Sequence[TrackedObject]) -> np.ndarray:
    """Write the ids of objects onto ``(H, W, 3)`` uint8, in yellow; not onto those that they would cover."""
    result = picture.copy()
    scale = max(MIN_SCALE, len(picture) * SCALE)
    for found in objects:
        (width, height), _ = cv2.getTextSize(str(found.id), cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        if width < found.width and height < found.height:
            corner = round(found.column - width / 2), round(found.row + height / 2)
            cv2.putText(result, str(found.id), corner, cv2.FONT_HERSHEY_SIMPLEX, scale, YELLOW, lineType=cv2.LINE_AA)
    return result


def write_grid(columns: Sequence[tuple[str, Sequence[np.ndarray]]], path: Path) -> None:
    """Write pictures ``(H, W, 3)`` in titled columns, all brought to one height."""
    height = min(LARGEST, max(SMALLEST, *(pictures[0].shape[0] for _, pictures in columns)))
    tiles = [(title, [_fit(picture, height) for picture in pictures]) for title, pictures in columns]
    widths = [max(tile.width for tile in column) for _, column in tiles]
    rows = max(len(column) for _, column in tiles)
    sheet = Image.new("RGB", (sum(widths) + GAP * (len(widths) - 1), HEADER + rows * (height + GAP) - GAP), "white")
    draw = ImageDraw.Draw(sheet)
    left = 0
    for (title, column), width in zip(tiles, widths, strict=True):
        draw.text((left + width / 2, HEADER / 2), title, fill="black", anchor="mm", font=ImageFont.load_default(15))
        for row, tile in enumerate(column):
            sheet.paste(tile, (left, HEADER + row * (height + GAP)))
        left += width + GAP
    write_atomically(path, np.asarray(sheet))


def _fit(picture: np.ndarray, height: int) -> Image.Image:
    image = Image.fromarray(picture)
    return image.resize((round(image.width * height / image.height), height), Image.Resampling.BILINEAR)
