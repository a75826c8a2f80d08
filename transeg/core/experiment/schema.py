"""The experiment: a choice of components, data and schedule, as tables of options."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from transeg.core.experiment.choices import (
    AbsolutePath,
    Choice,
    DatasetChoice,
    DistillerChoice,
    GeneratorChoice,
    SegmenterChoice,
    StrategyChoice,
    TeacherChoice,
)
from transeg.core.experiment.settings import set_options
from transeg.core.experiment.versions import FORMAT


def _cache_size(value: object) -> str:
    text = str(value).strip()
    if text != "off":
        try:
            enough = TypeAdapter(ByteSize).validate_python(text) >= LEAST_CACHE
        except ValidationError:
            enough = False
        if not enough:
            raise ValueError(
                f"the cache cannot have the size {text!r}; say data.cache=off, or a size such as data.cache=20GB"
            )
    return text


LEAST_CACHE = 10**6
"""Bytes; less is meant in another unit."""
CacheSize = Annotated[str, BeforeValidator(_cache_size)]
"""`off`, or bytes with a unit."""
Decay = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]


class Options(BaseModel):
    """A table of the experiment file with a fixed set of options."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class StainOptions(Options):
    """``[data.stain]``: how the stain of H&E images is normalised; needs `transeg[stain]`."""

    method: Literal["macenko", "reinhard"] = "macenko"
    """`macenko` unmixes the two stains and mixes them as the reference does, `reinhard` matches means and deviations of
    the colours."""
    reference: AbsolutePath
    """An image file with the wanted stain; inference needs it, too."""


class DataOptions(Options):
    """``[data]``: which images, and how they come in."""

    source: DatasetChoice | None = None
    """Labelled images; None for strategies that can do without."""
    target: DatasetChoice | None = None
    synthetic: DatasetChoice | None = None
    """Synthetic labelled images, as `toolkit synthesize` makes them, to learn from beside the source."""
    synthetic_share: float = Field(0.5, ge=0, le=1)
    """Share of synthetic images in what the segmenter learns from, wherever there are real and synthetic ones."""
    synthetic_limit: int = Field(0, ge=0)
    """Learn from so many of the synthetic images, of groups that the seed draws; 0 for all."""
    val: DatasetChoice | None = None
    """Labelled images that select the best checkpoint; without it, the source's validation images do, translated."""
    test: dict[str, DatasetChoice] = {}
    size: PositiveInt
    """Height and width of the training crops, and of whole images at inference."""
    stain: StainOptions | None = None
    """Normalise the stain of all images, now and at inference; synthetic and translated ones have it already."""
    resize: bool = True
    """Without, images keep their own size: crops are cut out of them, and inference takes them whole as they are."""
    load_ratio: float = Field(1.0, ge=1)
    """Images are resized to this times the size before they are cropped."""
    tile: PositiveInt | None = None
    """Cut windows of this height and width out of images at their own size: training sees the windows in place of the
    images, inference slides such a window over them. `size` and `resize` then follow from it."""
    stride: PositiveInt | None = None
    """Pixels from one training window to the next, about; by default half a tile. Windows of a row stand evenly, and
    the last ends with the image."""
    tile_sampling: Literal["position", "foreground", "classes"] = "position"
    """Which windows of the source are drawn: all; those that show anything but background; or, a class having been
    drawn first, each as likely, those that show it."""
    sampling: Literal["shuffle", "replacement", "classes"]
    """`shuffle` shows every image (or window) before any comes again, `replacement` draws each time anew; `classes`,
    for whole images, draws a class first, each as likely, then a source image that shows it, and target images as
    `shuffle` does."""
    source_limit: int = Field(0, ge=0)
    """Train on the first so many source images; 0 for all."""
    target_limit: int = Field(0, ge=0)
    """Train on the first so many target images; 0 for all."""
    val_limit: int = Field(0, ge=0)
    """Validate during a training on so many of the validation images, evenly among all; 0 for all. Tests see all."""
    samples_per_epoch: PositiveInt = 1000
    """Samples between two renewals of the pseudo-labels."""
    workers: int = Field(ge=0)
    """Processes that load and augment; 0 for none."""
    cache: CacheSize = "off"
    """Keep decoded images on disk, for this run and others, in so many bytes: `20GB`. See `toolkit data cache`."""

    @model_validator(mode="after")
    def _target_is_taken_as_it_is(self) -> Self:
        if self.target is not None and self.target.invert:
            raise ValueError(
                "the target's images are taken as they are, now and by predict; leave data.target.invert out and say "
                "data.source.invert=true"
            )
        return self

    @model_validator(mode="after")
    def _tiles_fit(self) -> Self:
        if self.sampling == "classes" and self.tile is not None:
            raise ValueError("data.sampling=classes draws whole images; for windows say data.tile_sampling=classes")
        if self.tile is None:
            if self.stride is not None or self.tile_sampling != "position":
                option = "stride" if self.stride is not None else "tile_sampling"
                raise ValueError(f"there are no windows that data.{option} could be of; say data.tile=PIXELS, too")
            return self
        if self.stride is None or self.stride > self.tile:
            raise ValueError(
                f"windows of {self.tile} pixels that are {self.stride} apart leave out what lies between them; "
                f"say data.stride={self.tile} or less"
            )
        if self.size != self.tile or self.resize or self.load_ratio != 1:
            raise ValueError(
                f"windows of {self.tile} pixels are cut out of images at their own size; leave out data.size, "
                "data.resize and data.load_ratio, or leave out data.tile"
            )
        return self

    @model_validator(mode="after")
    def _match_is_of_the_source(self) -> Self:
        others = {"target": self.target, "synthetic": self.synthetic, "val": self.val}
        others |= {f"test.{label}": choice for label, choice in self.test.items()}
        for role, choice in others.items():
            if choice is not None and choice.match is not None:
                raise ValueError(
                    f"what images show decides how often the source's are drawn alone; leave out data.{role}.match"
                )
        if self.source is not None and self.source.match is not None:
            by_content = {"sampling": self.sampling == "classes", "tile_sampling": self.tile_sampling != "position"}
            for option in (name for name, drawn in by_content.items() if drawn):
                raise ValueError(
                    f"both data.source.match and data.{option}={getattr(self, option)} say what is drawn; leave out one"
                )
        return self

    @property
    def cache_bytes(self) -> int | None:
        """How much of decoded images may be kept; None for nothing."""
        return None if self.cache == "off" else TypeAdapter(ByteSize).validate_python(self.cache)

    @property
    def load_size(self) -> int | None:
        """Height and width before the crop; None for each image's own."""
        return round(self.size * self.load_ratio) if self.resize else None

    @property
    def inference_size(self) -> int | None:
        """Height and width of whole images at inference; None for each image's own."""
        return self.size if self.resize else None


class TrainOptions(Options):
    """``[train]``: the schedule, of each stage."""

    iterations: PositiveInt
    batch_size: PositiveInt
    """Of one forward pass of one process; a step sees this times the accumulation times the processes."""
    accumulation: PositiveInt = 1
    """Forward passes whose gradients a step averages."""
    precision: Precision = "fp32"
    """In which training computes; weights, losses and validation stay in float32. By default tf32 on a GPU."""
    clip: PositiveFloat | None = None
    """Largest norm of the gradients of each optimizer; larger ones are scaled down to it."""
    clip_value: PositiveFloat | None = None
    """Largest size of each number in the gradients; larger ones are clamped to it, before `clip` looks at the norm."""
    scales: tuple[PositiveFloat, ...] = ()
    """Learn from each batch of the segmenter's own training at these multiples of its size in turn, with a step at
    each, as HarDNet-MSEG and PraNet do (arXiv:2101.07172, 2006.11392) with 0.75, 1 and 1.25."""
    ema: float | None = Field(None, gt=0, lt=1)
    """How much of the moving average of the segmenter's weights a step leaves; validation and inference then use the
    average."""
    compile: bool = False
    """Train with networks that torch.compile has translated."""
    channels_last: bool | None = None
    """Keep images and weights with their channels innermost while training: of all networks or of none; by default
    of segmenters with plain batch norms on a CPU, in fp32, which is faster."""
    fused: bool = True
    """Update all weights of an optimizer in one pass, where it can."""
    lr: PositiveFloat = 1e-4
    """The segmenter's learning rate; a generator's rates are its own options."""
    weight_decay: float = Field(0.0, ge=0)
    """The segmenter's."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """How much of its moving averages of gradients and of their squares the segmenter's Adam keeps in a step."""
    sync_batch_norm: bool = False
    """Normalise with the statistics of all processes' images; without, each knows those of its own."""
    head_weights: tuple[NonNegativeFloat, ...] | None = None
    """Of the loss on the segmenter's final head and on each auxiliary one; by default 1 each."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the segmenter's rate falls to zero: not at all, in the second half, or along a cosine."""
    warmup: float = Field(0.0, ge=0, lt=1)
    """Share of the training in which that rate first rises, from a 25th of it, along a cosine."""
    checkpoint_interval: PositiveInt = 250
    """Iterations from one checkpoint to the next."""
    checkpoint_minutes: PositiveFloat | None = None
    """Write one, too, where so many minutes have passed since the last: what a kill may cost, whatever a step takes."""
    val_interval: PositiveInt = 250
    log_interval: PositiveInt = 10
    selection: Literal["dice", "agreement"] = "dice"
    """Which checkpoint is the best: that with the highest `dice` on validation images; or, where there are target
    images, with the highest `agreement` about these of the segmenter and the moving average of its weights."""
    watch_tests: int = Field(0, ge=0)
    """Look at so many images of the first test set at each validation, to measure what choosing the best checkpoint
    without target labels costs; it chooses nothing."""


class QualityOptions(Options):
    """``[quality]``: what judges a generator's images, besides SSIM, PSNR and L1 of pairs and round trips."""

    features: str | None = None
    """Of which network FID and KID compare features: `inception:FILE` or a network of timm, `resnet50:FILE`, with its
    weights; or a run folder, for its segmenter."""
    lpips: AbsolutePath | None = None
    """AlexNet's weights as torchvision publishes them, for the perceptual distance LPIPS of pairs."""
    segmenter: AbsolutePath | None = None
    """A run folder whose segmenter, trained on real images, should find in an image the label map it was made from."""


class DistillationOptions(Options):
    """``[distillation]``: what the segmenter learns from frozen teachers besides."""

    teachers: dict[str, TeacherChoice] = Field(min_length=1)
    """By a label of one's own; several are an ensemble."""
    terms: dict[str, DistillerChoice] = Field(min_length=1)
    """By a label of one's own: what is compared, and how."""
    sees: Literal["source", "student", "paired"] = "source"
    """What teachers look at: the labelled source image, what the student sees (the translated image, where there is
    one), or the source image's counterpart in a paired dataset."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """In which the teachers compute."""


class AugmentationOptions(Options):
    """``[augmentation]``: a preset's name, or albumentations transforms as tables with a ``name``."""

    preset: str | None = None
    transforms: tuple[dict[str, Any], ...] | None = None


class CountingOptions(Options):
    """``[counting]``: how objects are counted in the tests, too."""

    method: Literal["components", "contours", "watershed"] = "components"
    """What an object is: a connected component, an outline (holes count), or a component split where it is narrow."""
    min_area: int = Field(0, ge=0)
    """Smaller objects, in pixels, do not count."""


class TrackingOptions(Options):
    """``[tracking]``: where scalars and pictures of a training go besides the run folder's own files."""

    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ("tensorboard",)
    """All write into the run folder unless they are told otherwise."""
    project: str = Field("transeg", min_length=1)
    """What wandb calls the project, and MLflow the experiment."""
    online: bool = False
    """Let wandb send what it notes; without, it keeps files that `wandb sync` can send later."""
    uri: str | None = None
    """Of an MLflow server; by default a database in the run folder."""


class Experiment(Options):
    """The composition of one run.

    Made by :func:`transeg.core.experiment.completion.complete_experiment`, which fills in what was published.
    """

    strategy: StrategyChoice
    generator: GeneratorChoice | None = None
    segmenter: SegmenterChoice | None = None
    loss: Choice | None = None
    data: DataOptions
    train: TrainOptions
    counting: CountingOptions | None = None
    metrics: tuple[str, ...] = ()
    """Metrics to measure in tests that are measured on request alone, such as `cldice`."""
    test_adaptation: Literal["none", "bn", "tent"] = "none"
    """How tests adapt the segmenter's batch norms to each group of images, without labels: `bn` takes their statistics,
    `tent` also lets their scales and shifts learn to be sure. It trains nothing else."""
    quality: QualityOptions = QualityOptions()
    distillation: DistillationOptions | None = None
    augmentation: AugmentationOptions
    baseline: Literal["none", "source-only"] = "none"
    """`source-only` also trains the segmenter on untranslated source images at the same budget."""
    transductive: bool = False
    """Whether test images may be among those that the training sees without labels, as target; results then say so."""
    folds: int | None = Field(None, ge=2)
    """Train so many segmenters, each with another part of the source's groups held out to select its best checkpoint;
    the result is their ensemble."""
    fold: int | None = Field(None, ge=1)
    """Train this one of the folds alone, as the cells of a sweep do; there is no ensemble then."""
    tracking: TrackingOptions = TrackingOptions()
    seed: int = Field(0, ge=0)
    device: str = "cpu"
    devices: PositiveInt = 1
    """Processes that share each step's batch, each with a GPU or a share of the cores."""

    @property
    def joint_batch(self) -> int:
        """Images that a step learns from, in all processes."""
        return self.train.batch_size * self.train.accumulation * self.devices

    @model_validator(mode="after")
    def _batch_norm_can_be_shared(self) -> Self:
        if self.train.sync_batch_norm and self.device == "cpu":
            raise ValueError(
                "processes can share the statistics of batch norm on GPUs alone; leave out train.sync_batch_norm, or "
                "take a segmenter that normalises images one by one"
            )
        return self

    @model_validator(mode="after")
    def _folds_fit(self) -> Self:
        if self.fold is not None and self.fold > (self.folds or 0):
            raise ValueError(f"there is no fold {self.fold}; folds={self.fold} or more would make one")
        if self.folds is None:
            return self
        if self.data.val is not None:
            raise ValueError("each of the folds holds out images to select its best checkpoint; leave --val out")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.segmenter is not None and self.loss is None:
            raise ValueError("a segmenter needs a loss; say --loss NAME")
        if self.segmenter is None and self.loss is not None:
            raise ValueError(f"the strategy {self.strategy.name} trains no segmenter, so it has no use for [loss]")
        if self.distillation is not None and self.segmenter is None:
            raise ValueError("there is no segmenter that a teacher could teach; say --segmenter NAME")
        return self

    @property
    def members(self) -> int:
        """Folds whose segmenters are trained here and used as one; 0 where there is but one segmenter."""
        return self.folds or 0 if self.fold is None else 0

    def to_toml(self) -> str:
        """The whole experiment as a file that runs it again."""
        return tomli_w.dumps({"format": FORMAT, **set_options(self.model_dump(mode="json"))})
