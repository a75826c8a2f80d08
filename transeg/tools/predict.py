"""The command `toolkit predict`, imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from transeg.core.errors import Failures, UsageError
from transeg.core.registry import Registry
from transeg.tools.common import options as common
from transeg.tools.common.console import stderr_console

SEGMENTATIONS = "dicom-seg"
"""The format of what is written of DICOM images beside masks."""


@click.command(cls=common.CommandWithSettings)
@common.run_dir
@click.argument("images", metavar="IMAGES", type=common.PATH)
@common.out
@click.option(
    "--fps",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Frames of a video a second; by default all.",
)
@click.option("--from", "start", type=click.FloatRange(min=0), metavar="SECONDS", help="From where on in a video.")
@click.option(
    "--to", "end", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Up to where in a video."
)
@click.option("--probabilities", is_flag=True, help="Write probabilities as 16-bit PNG files, too.")
@click.option(
    "--overlays/--no-overlays",
    default=True,
    help="Whether to write the images with the masks' outlines, too: JPEG files where images have 8 bits and colour.",
)
@click.option(
    "--format",
    "written",
    type=click.Choice(["masks", "coco", "dicom-seg", "geojson", "imagej", "labelme"]),
    default="masks",
    help="Write objects as polygons beside the masks, to correct them in another program: annotations.json of COCO, or "
    "a file for each image in annotations/, of imagej also an image of object numbers; of DICOM images, dicom-seg, "
    "which names the patient. By default masks alone.",
)
@common.translate_with
@common.direction
@common.rescale
@common.assignments(
    "Set how images are read, as for a dataset: range=[0, 4095] or page=0; of volumes also axis=2, of slides mpp=0.5."
)
@common.window
@common.flips
@common.adapt
@click.option(
    "--estimate",
    type=click.FloatRange(0, 1),
    metavar="DICE",
    help="Estimate the Dice of each mask from how sure the segmenter is, without labels, and say 'do not use' where it "
    "is below DICE (0 for nowhere). By default nothing is estimated.",
)
@common.device
@common.with_counting
@common.with_morphometry
@common.with_registry
def predict(
    registry: Registry,
    run_dir: Path,
    images: Path,
    fps: float | None,
    start: float | None,
    end: float | None,
    written: str,
    **named: Any,
) -> None:
    """Segment IMAGES, a file or a folder, with the model of RUN.

    Images of a domain that it does not know are translated first with --translate-with. Writes masks at each image's
    own size, and the images with the masks' outlines. With --count, counts.csv has a line for each image and
    objects.csv one for each object: its area and centroid in pixels. With --morphometry, morphometry.csv has a line for
    each image and fibres.csv one for each axon: diameters, g-ratio, shape.

    \b
    toolkit predict RUN images -o out --morphometry --pixel-size 0.13

    With --format, objects are written as polygons, too: for QuPath (geojson), ImageJ and Fiji (imagej), labelme, or
    programs that read COCO. Corrected, they are labels: the datasets geojson, imagej, labelme and coco read them.

    \b
    toolkit predict RUN images -o out --format geojson

    Of a video, OUT is a video, too, with the outlines, and beside it is a CSV file with a line for each frame: its
    time, and of each class the area in pixels and the number of components. Another, called like OUT with _objects,
    has a line for each of these; an object that is known again in other frames has the same id there.

    \b
    toolkit predict RUN scope.mp4 -o out.mp4 --from 60 --to 90

    Of NIfTI volumes, a file or a folder of them, OUT gets label volumes with the same affine.

    \b
    toolkit predict RUN scan.nii.gz -o out --set axis=2 --set range=[-160,240]

    Of DICOM images, a file or a folder of them, masks are PNG files, one for each frame, which say nothing of a
    patient. With --format dicom-seg, segmentations/ also gets a DICOM-SEG object for each series, for archives and
    viewers: as these refer to the images, they hold the patient's name and all that identifies the study.

    Of whole slides (.svs, .ndpi), a file or a folder of them, masks are pyramids in OME-TIFF, at the size of pixels
    that RUN knows. The same command goes on with what an interruption has left.

    \b
    toolkit predict RUN slide.svs -o out

    With --adapt, all images of the folder are one group, such as those of a patient: the model follows them.

    With --estimate, estimate.csv has a line for each image. A segmenter can be sure and wrong on images unlike those
    that it has learned from, and then the estimate is too high.

    \b
    toolkit predict RUN images -o out --estimate 0.7

    Files that cannot be read are named at the end. Nothing is written over but what an earlier predict has written.
    """
    from transeg.core.api.dicom_prediction import holds_dicom
    from transeg.core.api.slide_prediction import slides_in
    from transeg.core.api.volume_prediction import volumes_in
    from transeg.core.data.video_frames import is_video

    of_video = {"--fps": fps, "--from": start, "--to": end}
    named["polygons"] = None if written in ("masks", SEGMENTATIONS) else written
    if written == SEGMENTATIONS and not holds_dicom(images):
        raise UsageError(f"--format {written} is for DICOM images, and {images} holds none.")
    if images.is_file() and is_video(images):
        _predict_video(registry, run_dir, images, fps=fps or 0.0, start=start or 0.0, end=end or 0.0, **named)
        return
    for option, value in of_video.items():
        if value is not None:
            raise UsageError(f"{option} is for a video, and {images} is none.")
    if volumes := volumes_in(images):
        _predict_volumes(registry, run_dir, images, volumes, **named)
        return
    if holds_dicom(images):
        _predict_dicom(registry, run_dir, images, segmentations=written == SEGMENTATIONS, **named)
        return
    if slides := slides_in(images, run_dir, registry):
        _predict_slides(registry, run_dir, images, slides, **named)
        return
    _predict_images(registry, run_dir, images, **named)


def _predict_images(registry: Registry, run_dir: Path, images: Path, **named: Any) -> None:
    """Segment image files."""
    from transeg.core.api.image_files import predict_images

    failures = Failures()
    count, out, estimate = predict_images(run_dir, images, registry, stderr_console(), failures=failures, **named)
    outlines = f", outlines in {out / 'overlays'}" if named["overlays"] else ""
    Console().print(f"{count} masks in {out / 'masks'}{outlines}", highlight=False)
    if named["counting"] is not None:
        Console().print(f"Objects: {out / 'counts.csv'}, {out / 'objects.csv'}", highlight=False)
    if named["morphometry"] is not None:
        Console().print(f"Fibres: {out / 'morphometry.csv'}, {out / 'fibres.csv'}", highlight=False)
    if (polygons := named["polygons"]) is not None:
        place = out / ("annotations.json" if polygons == "coco" else "annotations")
        Console().print(f"Polygons: {place}", highlight=False)
    if estimate is not None:
        Console().print(_estimate_in_words(estimate, out / "estimate.csv"), highlight=False)
    failures.conclude("segmented")


def _estimate_in_words(found: dict[str, Any], table: Path) -> str:
    """What :meth:`transeg.core.api.dice_estimates.DiceEstimates.summary` says."""
    count, nothing, bound = found["images"], found["nothing_found"], found["bound"]
    if found["dice"] is None:
        return f"Estimated Dice: none, since nothing was found in any of {count} images: {table}"
    interval = "" if found["ci"] is None else " [{:.3f}, {:.3f}]".format(*found["ci"])
    verdict = f"do not use: below {bound:g}" if found["dice"] < bound else ""
    singly = f"do not use {found['below']} of {count} images" if found["below"] else ""
    empty = f"nothing found in {nothing}, which do not count" if nothing else ""
    details = "; ".join(filter(None, (verdict, singly, empty)))
    estimated = f"Estimated Dice: {found['dice']:.3f}{interval}{f' ({details})' if details else ''}: {table}"
    return f"{estimated}\nIt is too high where images are unlike those that the run has held out; look at the overlays."


def _predict_video(registry: Registry, run_dir: Path, video: Path, **named: Any) -> None:
    """Segment a video.

    Raises:
        UsageError: an option is for images.
    """
    from transeg.core.api.video_prediction import predict_video

    _refuse_adapting_and_estimating(named, video)
    for name in ("probabilities", "counting", "morphometry", "assignments", "polygons"):
        if named.pop(name):
            option = {"counting": "--count", "assignments": "--set", "polygons": "--format"}.get(name, f"--{name}")
            raise UsageError(f"{option} is for images, and {video} is a video; extract its frames first.")
    if not named.pop("overlays"):
        raise UsageError("A video is written for its outlines; leave --no-overlays out, or extract its frames.")
    count, table, objects = predict_video(run_dir, video, registry, stderr_console(), **named)
    Console().print(f"{count} frames in {named['out']}, a line for each in {table}", highlight=False)
    Console().print(f"Objects: {objects}", highlight=False)


def _predict_volumes(registry: Registry, run_dir: Path, place: Path, volumes: list[Path], **named: Any) -> None:
    """Segment volumes.

    Raises:
        UsageError: an option is for images.
    """
    from transeg.core.api.volume_prediction import predict_volumes

    _refuse_for_files("volumes; save their slices as images first", place, named)
    del named["overlays"]  # a viewer lays label volumes over the images
    failures = Failures()
    count, out = predict_volumes(run_dir, volumes, registry, stderr_console(), failures=failures, **named)
    Console().print(f"{count} label volumes in {out / 'masks'}", highlight=False)
    failures.conclude("segmented")


def _predict_dicom(registry: Registry, run_dir: Path, place: Path, **named: Any) -> None:
    """Segment DICOM images.

    Raises:
        UsageError: an option is for other images.
    """
    from transeg.core.api.dicom_prediction import predict_dicom

    _refuse_for_files("DICOM files; save them as PNG first", place, named)
    failures = Failures()
    count, out = predict_dicom(run_dir, place, registry, stderr_console(), failures=failures, **named)
    outlines = f", outlines in {out / 'overlays'}" if named["overlays"] else ""
    Console().print(f"{count} masks in {out / 'masks'}{outlines}", highlight=False)
    if named["segmentations"]:
        Console().print(f"DICOM-SEG, which name the patients: {out / 'segmentations'}", highlight=False)
    failures.conclude("segmented")


def _predict_slides(registry: Registry, run_dir: Path, place: Path, slides: list[Path], **named: Any) -> None:
    """Segment whole slides.

    Raises:
        UsageError: an option is for other images.
    """
    from transeg.core.api.slide_prediction import predict_slides

    _refuse_for_files("whole slides; export the wanted regions as TIFF first", place, named)
    for name in ("translate_with", "direction"):
        if named.pop(name):
            option = name.replace("_", "-")
            raise UsageError(f"--{option} is for image files, and {place} holds whole slides; train on their domain.")
    failures = Failures()
    count, out = predict_slides(run_dir, slides, registry, stderr_console(), failures=failures, **named)
    outlines = f", outlines in {out / 'overlays'}" if named["overlays"] else ""
    Console().print(f"{count} masks of slides in {out / 'masks'}{outlines}", highlight=False)
    failures.conclude("segmented")


def _refuse_for_files(what: str, place: Path, named: dict[str, Any]) -> None:
    """Take out of the options those that measure image files.

    Raises:
        UsageError: one of them is said.
    """
    _refuse_adapting_and_estimating(named, place)
    for name in ("probabilities", "counting", "morphometry", "polygons"):
        if named.pop(name):
            option = {"counting": "--count", "polygons": "--format"}.get(name, f"--{name}")
            raise UsageError(f"{option} is for image files, and {place} holds {what}.")


def _refuse_adapting_and_estimating(named: dict[str, Any], place: Path) -> None:
    """Take ``adapt`` and ``estimate`` out of the options.

    Raises:
        UsageError: one of them is said.
    """
    adapt, estimate = named.pop("adapt"), named.pop("estimate")
    if adapt != "none" or estimate is not None:
        option = "--adapt" if adapt != "none" else "--estimate"
        raise UsageError(f"{option} is for image files, and {place} holds none; save frames or slices as images first.")
