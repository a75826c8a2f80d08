"""Every metric there is, a row each: what commands, reports, files and searches know of it.

Nothing heavy is imported, so that commands which only show numbers stay fast. A metric of single images needs its
function and its row, here or in a plugin's manifest; others are computed together, where their functions are called.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from transeg.core.manifest import Component, MetricEntry, Place
from transeg.core.registry import BUILTIN, Registry

Rows = Mapping[str, MetricEntry]
"""Metrics by name, in the order in which tables show them."""
Of = Literal["class", "image", "set", "made", "made set", "counts", "objects"]
"""What a value is of: an image and each of its classes, an image, a whole test set, an image that a generator made, all
of these together, the numbers of counted objects of a test set, or these objects one by one."""


class BuiltInMetric(MetricEntry, frozen=True, kw_only=True):
    """A built-in metric."""

    entry: str = ""
    """Of a function of one image like those of plugins, which is all that such a metric needs; empty for those that are
    computed together with others."""
    of: Of = "image"
    also: tuple[Literal["quality", "curves"], ...] = ()
    """Where plugins' metrics do not come: the table of a generator's images, and curves over a training."""


TABLE: dict[str, BuiltInMetric] = {
    "dice": BuiltInMetric(
        title="Dice",
        summary="Mean Dice over the images, at a probability of one half",
        higher_is_better=True,
        of="class",
        shown=("tests", "folds", "compare", "report", "card"),
        also=("curves",),
        validation=True,
    ),
    "iou": BuiltInMetric(
        title="IoU",
        summary="Mean IoU over the images, at a probability of one half",
        higher_is_better=True,
        of="class",
        shown=("tests", "folds", "compare", "report", "card"),
        also=("curves",),
        validation=True,
    ),
    "precision": BuiltInMetric(
        title="precision",
        summary="Share of the predicted pixels that are right",
        higher_is_better=True,
        shown=("tests", "report", "card"),
        also=("curves",),
        validation=True,
    ),
    "recall": BuiltInMetric(
        title="recall",
        summary="Share of the true pixels that are found",
        higher_is_better=True,
        shown=("tests", "report", "card"),
        also=("curves",),
        validation=True,
    ),
    "specificity": BuiltInMetric(
        title="specificity",
        summary="Share of the other pixels that are left alone",
        higher_is_better=True,
        validation=True,
    ),
    "surface_dice": BuiltInMetric(
        title="surface Dice",
        summary="Share of both outlines that lies within 2 pixels of the other, whatever a pixel's height and width",
        paper="arXiv:1809.04430",
        higher_is_better=True,
        shown=("compare", "report", "card"),
    ),
    "cldice": BuiltInMetric(
        title="clDice",
        summary="Dice along centrelines, for vessels, axons and other thin things; measured where it is named",
        paper="arXiv:2003.07311",
        entry="transeg.core.evaluation.metrics.centreline:centreline_dice",
        requires="watershed",
        higher_is_better=True,
        shown=("tests", "compare", "report", "card"),
        on_request=True,
    ),
    "hd95": BuiltInMetric(
        title="HD95",
        summary="95 % Hausdorff distance of the outlines",
        paper="arXiv:2206.01653",
        unit="pixels",
        higher_is_better=False,
        of="class",
        shown=("folds", "compare", "report", "card"),
    ),
    "hd95_um": BuiltInMetric(
        title="HD95 (um)",
        summary="The same in micrometres, in its place where every image of a test set says how large its pixels are",
        paper="arXiv:2206.01653",
        unit="um",
        higher_is_better=False,
        of="class",
        shown=("folds", "compare", "report", "card"),
    ),
    "mae": BuiltInMetric(
        title="MAE",
        summary="Mean absolute difference between probability and truth",
        higher_is_better=False,
        validation=True,
    ),
    "ece": BuiltInMetric(
        title="ECE",
        summary="Expected calibration error, 15 bins, mean over the images",
        paper="arXiv:1706.04599",
        higher_is_better=False,
    ),
    "ece_pooled": BuiltInMetric(
        title="ECE, pooled",
        summary="Expected calibration error over all pixels",
        paper="arXiv:1706.04599",
        higher_is_better=False,
        of="set",
    ),
    "dice_pooled": BuiltInMetric(
        title="Dice, pooled",
        summary="Dice over the pixels of all images together",
        higher_is_better=True,
        of="set",
        validation=True,
    ),
    "dice_with_background_pooled": BuiltInMetric(
        title="Dice with background, pooled",
        summary="Pooled Dice, averaged over background and foreground",
        higher_is_better=True,
        of="set",
        validation=True,
    ),
    "iou_pooled": BuiltInMetric(
        title="IoU, pooled",
        summary="IoU over the pixels of all images together",
        higher_is_better=True,
        of="set",
        validation=True,
    ),
    "iou_with_background_pooled": BuiltInMetric(
        title="IoU with background, pooled",
        summary="Pooled IoU, averaged over background and foreground",
        higher_is_better=True,
        of="set",
        validation=True,
    ),
    "pranet_mdice": BuiltInMetric(
        title="mDice",
        summary="PraNet's protocol: mean Dice over 256 thresholds",
        paper="arXiv:2006.11392",
        higher_is_better=True,
    ),
    "pranet_miou": BuiltInMetric(
        title="mIoU",
        summary="PraNet's protocol: mean IoU over 256 thresholds",
        paper="arXiv:2006.11392",
        higher_is_better=True,
    ),
    "pranet_wfm": BuiltInMetric(
        title="weighted F-measure",
        summary="PraNet's protocol: errors far from the truth weigh more",
        paper="doi:10.1109/CVPR.2014.39",
        higher_is_better=True,
    ),
    "pranet_sm": BuiltInMetric(
        title="S-measure",
        summary="PraNet's protocol: structure of objects and regions",
        paper="arXiv:1708.00786",
        higher_is_better=True,
    ),
    "pranet_mean_em": BuiltInMetric(
        title="mean E-measure",
        summary="PraNet's protocol: mean E-measure over 256 thresholds",
        paper="arXiv:1805.10421",
        higher_is_better=True,
    ),
    "pranet_mae": BuiltInMetric(
        title="MAE, stretched",
        summary="PraNet's protocol: mean absolute error of the stretched prediction",
        paper="arXiv:2006.11392",
        higher_is_better=False,
    ),
    "pranet_max_dice": BuiltInMetric(
        title="maxDice",
        summary="PraNet's protocol: the largest of the 256 means over the images",
        paper="arXiv:2006.11392",
        higher_is_better=True,
        of="set",
    ),
    "pranet_max_em": BuiltInMetric(
        title="max E-measure",
        summary="PraNet's protocol: the largest of the 256 mean E-measures",
        paper="arXiv:1805.10421",
        higher_is_better=True,
        of="set",
    ),
    "ssim": BuiltInMetric(
        title="SSIM",
        summary="Structural similarity of a made image and its true counterpart",
        higher_is_better=True,
        of="made",
        also=("quality", "curves"),
        validation=True,
    ),
    "psnr": BuiltInMetric(
        title="PSNR",
        summary="Peak signal-to-noise ratio of a made image",
        unit="dB",
        digits=1,
        higher_is_better=True,
        of="made",
        also=("quality", "curves"),
        validation=True,
    ),
    "l1": BuiltInMetric(
        title="L1",
        summary="Mean absolute difference from the true counterpart",
        digits=4,
        higher_is_better=False,
        of="made",
        also=("quality", "curves"),
        validation=True,
    ),
    "lpips": BuiltInMetric(
        title="LPIPS",
        summary="Perceptual distance from the true counterpart",
        paper="arXiv:1801.03924",
        higher_is_better=False,
        of="made",
        also=("quality", "curves"),
        validation=True,
    ),
    "fid": BuiltInMetric(
        title="FID",
        summary="Fréchet distance of the features of made and real images",
        paper="arXiv:1706.08500",
        digits=1,
        higher_is_better=False,
        of="made set",
        also=("quality", "curves"),
        validation=True,
    ),
    "kid": BuiltInMetric(
        title="KID",
        summary="Kernel distance of the features of made and real images",
        paper="arXiv:1801.01401",
        digits=4,
        higher_is_better=False,
        of="made set",
        also=("quality", "curves"),
        validation=True,
    ),
    "consistency_dice": BuiltInMetric(
        title="consistency",
        summary="Dice of what a segmenter finds in a made image",
        higher_is_better=True,
        of="made",
        also=("quality", "curves"),
        validation=True,
    ),
    "consistency_iou": BuiltInMetric(
        title="consistency, IoU",
        summary="IoU of what a segmenter finds in a made image",
        higher_is_better=True,
        of="made",
        validation=True,
    ),
    "consistency_dice_real": BuiltInMetric(
        title="on real",
        summary="Dice of what the same segmenter finds in the real image",
        higher_is_better=True,
        of="made",
        also=("quality",),
        validation=True,
    ),
    "shift": BuiltInMetric(
        title="shift",
        summary="Pixels by which translation moves what an image shows, away from its label",
        unit="px",
        paper="doi:10.1109/TPAMI.2008.113",
        higher_is_better=False,
        of="made",
        also=("curves",),
        validation=True,
    ),
    "roundtrip_ssim": BuiltInMetric(
        title="and back: SSIM",
        summary="Structural similarity of an image and what comes back of it",
        higher_is_better=True,
        of="made",
        also=("quality",),
    ),
    "roundtrip_psnr": BuiltInMetric(
        title="PSNR",
        summary="Peak signal-to-noise ratio of what comes back",
        unit="dB",
        digits=1,
        higher_is_better=True,
        of="made",
        also=("quality",),
    ),
    "roundtrip_l1": BuiltInMetric(
        title="L1",
        summary="Mean absolute difference of what comes back",
        digits=4,
        higher_is_better=False,
        of="made",
        also=("quality",),
    ),
    "counts.true": BuiltInMetric(
        title="true", summary="Number of true objects", digits=0, higher_is_better=None, of="counts"
    ),
    "counts.predicted": BuiltInMetric(
        title="predicted", summary="Number of predicted objects", digits=0, higher_is_better=None, of="counts"
    ),
    "counts.mae": BuiltInMetric(
        title="MAE",
        summary="Mean absolute error of an image's number of objects",
        digits=2,
        higher_is_better=False,
        of="counts",
    ),
    "counts.relative_error": BuiltInMetric(
        title="relative",
        summary="Mean absolute error by the true number",
        unit="%",
        digits=1,
        higher_is_better=False,
        of="counts",
    ),
    "counts.bias": BuiltInMetric(
        title="bias",
        summary="Mean of predicted minus true numbers",
        paper="doi:10.1016/S0140-6736(86)90837-8",
        digits=2,
        higher_is_better=None,
        of="counts",
    ),
    "counts.pq": BuiltInMetric(
        title="PQ",
        summary="Panoptic quality of single objects, which is SQ times RQ, mean over the images",
        paper="arXiv:1801.00868",
        higher_is_better=True,
        of="objects",
    ),
    "counts.sq": BuiltInMetric(
        title="SQ",
        summary="Mean IoU of true and predicted objects that are a pair, at an IoU above one half",
        paper="arXiv:1801.00868",
        higher_is_better=True,
        of="objects",
    ),
    "counts.rq": BuiltInMetric(
        title="RQ",
        summary="F1 of these pairs: what is missed, and what is invented, counts alike",
        paper="arXiv:1801.00868",
        higher_is_better=True,
        of="objects",
    ),
    "counts.aji": BuiltInMetric(
        title="AJI",
        summary="Aggregated Jaccard index of single objects, mean over the images",
        paper="doi:10.1109/TMI.2017.2677499",
        higher_is_better=True,
        of="objects",
    ),
}
"""The built-in metrics."""
IN_PLACE_OF = {"hd95": "hd95_um"}
"""Metrics in pixels, and those in micrometres, one of which is measured: the latter where all images of a test set say
how large their pixels are."""
BETTER = {True: "higher", False: "lower", None: ""}
"""What is better, in a word."""
BESIDE = ("name", "group", "images", "empty", "classes", "counts")
"""What stands beside metrics in tables and files."""


def shown_in(place: Place, rows: Rows = TABLE) -> list[str]:
    """Names of the metrics that a place shows."""
    return [name for name, row in rows.items() if place in row.shown]


def among(names: Iterable[str], measured: Collection[str]) -> list[str]:
    """Those that a table of measurements has a place for: the built-in ones that are always measured, as far as they do
    not stand in for each other, and what else was measured.

    Args:
        names: of metrics.
        measured: names of what was.
    """
    perhaps = IN_PLACE_OF.keys() | IN_PLACE_OF.values() | {name for name, row in TABLE.items() if row.on_request}
    return [name for name in names if name in measured or (name in TABLE and name not in perhaps)]


def drawn_in(place: Literal["quality", "curves"]) -> list[str]:
    """Names of the built-in metrics that a place shows."""
    return [name for name, row in TABLE.items() if place in row.also]


def metrics_of(of: Of) -> list[str]:
    """Names of the built-in metrics whose values are of something."""
    return [name for name, row in TABLE.items() if row.of == of]


def titles(names: Iterable[str], rows: Rows = TABLE) -> dict[str, str]:
    """What tables call metrics, by their names."""
    return {name: rows[name].title or name for name in names}


def units(names: Iterable[str], rows: Rows = TABLE) -> str:
    """The end of a caption: ``; HD95 in pixels``, or nothing where no metric has a unit."""
    named = {title: rows[name].unit for name, title in titles(names, rows).items()}
    told = [f"{title} in {unit}" for title, unit in named.items() if unit and unit not in title]
    return f"; {', '.join(told)}" if told else ""


def row_of(column: str, rows: Rows = TABLE) -> MetricEntry | None:
    """The row of a column: that of its name, or, for ``hd95_axon``, of the metric that is told for each class."""
    if column in rows:
        return rows[column]
    longest = sorted(metrics_of("class"), key=len, reverse=True)  # hd95_um_axon is no class um_axon of hd95
    return next((TABLE[name] for name in longest if column.startswith(f"{name}_")), None)


def is_lower_better(column: str, rows: Rows = TABLE) -> bool:
    """Whether less of a metric is better; of one that no row knows, more is taken to be."""
    row = row_of(column, rows)
    return row is not None and row.higher_is_better is False


def digits_of(column: str, rows: Rows = TABLE) -> int:
    """How many digits tables show behind the point."""
    row = row_of(column, rows)
    return 3 if row is None else row.digits


def all_rows(registry: Registry) -> dict[str, MetricEntry]:
    """The built-in metrics, and those of plugins that can be measured."""
    found = {component.name: component.entry for component in plugin_metrics(registry) if component.status == "ok"}
    return {**TABLE, **{name: entry for name, entry in found.items() if isinstance(entry, MetricEntry)}}


def all_components(registry: Registry) -> list[Component]:
    """All metrics as components, for commands that list and describe these; those that cannot be measured, too."""
    version = next((plugin.version for plugin in registry.plugins if plugin.package == BUILTIN), "")
    built_in = [Component("metric", name, BUILTIN, version, row, Path()) for name, row in TABLE.items()]
    return [*built_in, *plugin_metrics(registry)]


def means_something_else(name: str) -> bool:
    """Whether a name stands for something in the files of an evaluation, so that no plugin's metric can have it."""
    return row_of(name) is not None or name in BESIDE or name.endswith("_ci")


def plugin_metrics(registry: Registry) -> Iterator[Component]:
    """Metrics of plugins; one whose name has a meaning in the files of an evaluation is in conflict with that."""
    for component in registry.components("metric"):
        name = component.name
        taken = means_something_else(name)
        reason = f"{name!r} means something else in the files of an evaluation; the metric needs another name"
        yield replace(component, status="conflict", reason=reason) if taken else component
