"""What a user wants exported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transeg.core.errors import UsageError
from transeg.core.optional_packages import require


@dataclass(frozen=True)
class ExportRequest:
    """What is to be exported.

    Attributes:
        formats: of :data:`transeg.tools.export.formats.FILES`, or ``safetensors``.
        int8: whether the ONNX file is wanted in 8 bits, too.
        fp16: whether in float16.
        translate_with: a run whose generator sees images first.
        direction: of the translation; None for source to target.
        generator: whether the run's generator is wanted where it has a segmenter, too.
        images: a folder to check on; None for the run's own.
        assignments: options of the generator that change none of its weights.
        anonymous: whether no file may hold an absolute path of this machine.
    """

    formats: tuple[str, ...]
    int8: bool = False
    fp16: bool = False
    translate_with: Path | None = None
    direction: str | None = None
    generator: bool = False
    images: Path | None = None
    assignments: tuple[str, ...] = ()
    anonymous: bool = False

    def check(self) -> None:
        """Whether what is wanted goes together, and its packages are installed.

        Raises:
            UsageError: it does not, or they are not.
        """
        if (self.int8 or self.fp16) and "onnx" not in self.formats:
            raise UsageError("--int8 and --fp16 make smaller ONNX files; say --format onnx, too.")
        if "safetensors" in self.formats and self.translate_with is not None:
            raise UsageError("A safetensors file holds the weights of one network; export the two runs one by one.")
        if "onnx" in self.formats:
            for package in ("onnx", "onnxscript", "onnxruntime"):
                require(package, "export", "The format onnx")
        require("huggingface_hub", "export", "A model card")
