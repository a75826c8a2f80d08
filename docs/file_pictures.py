"""Writes the pictures of the how-to pages on video, volumes, slides and polygons: what is taken of each, and written.

    python docs/file_pictures.py NUCLEI RUN     # the folder of stained nuclei (CC0); writes docs/how-to/*.jpg

RUN is a segmenter that was trained on them, as split by examples/experiments/nuclei/purple.json. All but the nuclei
is rendered here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import matplotlib.pyplot as plt
import nibabel
import numpy as np
import shapely
import tifffile
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from pictures import COLOURS, HERE, show
from shapely.geometry import shape

from transeg.core.data.images import write_image
from transeg.core.data.video_frames import VideoFile
from transeg.plugins.datasets.folder import Folder
from transeg.plugins.datasets.nifti import NIfTI
from transeg.plugins.datasets.phantom.appearance import render_endoscopic
from transeg.plugins.datasets.phantom.scene import draw_scene, render_view
from transeg.plugins.datasets.slides import Slides
from transeg.plugins.datasets.video import Video

SPLITS = HERE.parent / "examples" / "experiments" / "nuclei" / "purple.json"
SEGMENTED = "673baf65ae5c"
"""The image whose objects are shown."""


def kinds(nuclei: Path, run: Path) -> None:
    """What is taken of a video, a volume and a slide, and polygons of what a run finds in an image."""
    with TemporaryDirectory() as scratch:
        _video(Path(scratch))
        _volumes(Path(scratch))
        _slides(nuclei, Path(scratch))
        _polygons(nuclei, run, Path(scratch))


def _video(scratch: Path) -> None:
    """Frames as they are recorded; as they are taken, in grey what counts in no loss; and cut within the scene."""
    recording = scratch / "scope.mp4"
    _record(recording)
    with VideoFile(recording, "This picture") as video:
        recorded = [frame.pixels() for frame in video.chosen(240.0, 0, 0)]
    taken = Video(recording, "all", fps=10, duplicates=-1, blur=0)
    within = Video(recording, "all", fps=10, duplicates=-1, blur=0, border="inside")
    rows = {
        "recorded": recorded,
        "taken": [np.where(frame.valid[:, :, None], frame.image, 128) for frame in taken],
        "border=inside": [frame.image for frame in within],
    }
    figure, axes = plt.subplots(3, 4, figsize=(8, 5.5), layout="constrained")
    for row, (title, pictures) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(title)
        for place, picture in zip(row, pictures[::3], strict=True):
            show(place, picture)
    _save(figure, "video")


def _record(path: Path) -> None:
    """A second of a scope that moves on in a rendered colon, within an octagon, as H.264."""
    scene, side = draw_scene(np.random.default_rng(11)), 192
    rows, columns = np.mgrid[:side, :side]
    outside = np.minimum(rows, side - 1 - rows) + np.minimum(columns, side - 1 - columns) < side // 5
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = side + 64, side + 16, "yuv420p"
        for _ in range(12):
            scene.centres[:, 2] -= 0.03
            picture = render_endoscopic(render_view(scene, side), np.random.default_rng(3))
            picture[outside] = 0
            frame = np.zeros((side + 16, side + 64, 3), np.uint8)
            frame[8:-8, 48:-16] = (picture * 255).round()
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        file.mux(stream.encode())


def _volumes(scratch: Path) -> None:
    """The slice across each axis of a rendered head that has most of its labels."""
    voxels, labels = _head()
    for name, values in (("images", voxels), ("labels", labels)):
        (scratch / "volumes" / name).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(values, np.diag([2, 2, 3, 1])), scratch / "volumes" / name / "head.nii.gz")
    figure, axes = plt.subplots(1, 3, figsize=(8, 3.2), layout="constrained")
    for place, (axis, title) in zip(axes, ((2, "axis=2"), (1, "axis=1"), (0, "axis=0")), strict=True):
        slices = NIfTI(scratch / "volumes", "all", axis=axis, classes=("background", "ventricle", "tumour"))
        sample = max(slices, key=lambda sample: np.count_nonzero(sample.mask))
        show(place, 255 * sample.image, sample.mask)
        height, width = sample.pixel_size or (1, 1)
        place.set(title=f"{title}: {sample.name}", aspect=height / width)
    _save(figure, "volumes")


def _head() -> tuple[np.ndarray, np.ndarray]:
    """Voxels of 2x2x3 mm, int16, and labels: ellipsoids of a skull, a brain, ventricles and a tumour."""
    right, front, up = np.meshgrid(
        np.arange(-45, 45) * 2, np.arange(-55, 55) * 2, np.arange(-30, 30) * 3, indexing="ij"
    )

    def within(centre: tuple[int, int, int], radii: tuple[int, int, int]) -> np.ndarray:
        offsets = (
            (axis - middle) / radius for axis, middle, radius in zip((right, front, up), centre, radii, strict=True)
        )
        return sum(offset**2 for offset in offsets) < 1

    ventricle = within((-13, 8, 5), (7, 30, 14)) | within((13, 8, 5), (7, 30, 14))
    tumour = within((38, 0, 5), (13, 16, 15))
    voxels = np.zeros(right.shape)
    for part, value in (
        (within((0, 0, 0), (78, 98, 82)), 900),
        (within((0, 0, 0), (70, 90, 74)), 500),
        (ventricle, 200),
        (tumour, 700),
    ):
        voxels[part] = value
    folds = 40 * np.sin(right / 5) * np.sin(front / 6) * np.sin(up / 7) * (voxels == 500)
    voxels += folds + np.random.default_rng(0).normal(0, 25, voxels.shape) * (voxels > 0)
    return voxels.astype(np.int16), np.select([tumour, ventricle], [2, 1]).astype(np.uint8)


def _slides(nuclei: Path, scratch: Path) -> None:
    """A slide of stained nuclei with the squares that are taken of it, and some of these with their labels."""
    slide = _stain(nuclei, scratch / "slides")
    figure, axes = plt.subplots(1, 3, figsize=(8, 2.9), layout="constrained", width_ratios=[1.6, 1, 1])
    show(axes[0], slide)
    pieces = Slides(scratch / "slides", "all", region=256)
    for sample in pieces:
        left, top = (int(part[1:]) for part in sample.name.rsplit("_", 2)[1:])
        axes[0].add_patch(Rectangle((left, top), *sample.size[::-1], fill=False, edgecolor=COLOURS[0]))
    axes[0].set_title("squares that are taken")
    for place, index in zip(axes[1:], (1, 4), strict=True):
        show(place, pieces[index].image, pieces[index].mask)
        place.set_title(pieces[index].name, fontsize=8)
    _save(figure, "slides")


def _stain(nuclei: Path, folder: Path) -> np.ndarray:
    """A slide ``(H, W, 3)`` of images on glass, as a pyramid with its annotations."""
    dataset = Folder(nuclei, "all")
    tiles = [sample for sample in dataset if sample.size == (256, 320) and sample.image.mean() > 120][:4]
    slide, mask = np.full((1024, 1536, 3), 240, np.uint8), np.zeros((1024, 1536), np.uint8)
    for number, sample in enumerate(tiles):
        top, left = 256 + 256 * (number // 2), 448 + 320 * (number % 2)
        slide[top : top + 256, left : left + 320] = sample.image
        mask[top : top + 256, left : left + 320] = sample.mask
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    kept = {"tile": (128, 128), "compression": "zlib", "metadata": None}
    with tifffile.TiffWriter(folder / "images" / "case1.tif") as file:
        file.write(
            slide, subifds=1, photometric="rgb", resolution=(20_000, 20_000), resolutionunit="CENTIMETER", **kept
        )
        file.write(slide[::2, ::2], subfiletype=1, photometric="rgb", **kept)
    tifffile.imwrite(folder / "masks" / "case1.tif", mask, **kept)
    return slide


def _polygons(nuclei: Path, run: Path, scratch: Path) -> None:
    """An image that a run has not learned from, its label, and the objects of its GeoJSON by their confidence."""
    (sample,) = (sample for sample in Folder(nuclei, "test", splits=SPLITS) if sample.name == SEGMENTED)
    write_image(scratch / f"{SEGMENTED}.png", sample.image)
    line = ["predict", str(run), str(scratch / f"{SEGMENTED}.png"), "-o", str(scratch / "out"), "--format", "geojson"]
    subprocess.run([sys.executable, "-m", "transeg", *line], check=True)
    objects = json.loads((scratch / "out" / "annotations" / f"{SEGMENTED}.geojson").read_text())["features"]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    show(axes[0], sample.image, sample.mask)
    axes[0].set_title("labels")
    show(axes[1], sample.image)
    axes[1].set(title="objects in the file that predict writes", autoscale_on=False)
    colours = plt.cm.ScalarMappable(Normalize(0.5, 1), "RdYlGn")
    for found in objects:
        colour = colours.to_rgba(found["properties"]["measurements"][0]["value"])
        for part in shapely.get_parts(shape(found["geometry"])):
            axes[1].plot(*part.exterior.xy, color=colour, linewidth=1.4)
    figure.colorbar(colours, ax=axes[1], label="confidence")
    _save(figure, "polygons")


def _save(figure: plt.Figure, name: str) -> None:
    figure.savefig(HERE / "how-to" / f"{name}.jpg", dpi=80, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    kinds(Path(sys.argv[1]), Path(sys.argv[2]))
