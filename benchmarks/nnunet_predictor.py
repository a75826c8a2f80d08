"""`toolkit predict` in windows beside nnU-Net's own predictor with the same network, for table.py.

The network is the U-Net that nnU-Net would plan, narrower, with random weights and two outputs. Both sides read PNG
files, scale them to 0 to 1, slide windows that overlap by half with a Gaussian, without mirroring, and write masks as
PNG files. nnU-Net does so in one process, as it does with `-npp 0 -nps 0`: others would compute beside it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import Side
from predict import predicted_shares, trained_with

RESAMPLING = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
CPU = torch.device("cpu")


def side(which: str, files: list[Path], out: Path, window: int, base: int, stages: int) -> Side:
    """All files; the outcome is the share of the object in each mask."""
    from transeg.core.device import keep_freed_memory
    from transeg.core.errors import Failures
    from transeg.core.inference.prediction import predict_files
    from transeg.core.inference.reading import Reading

    if which == "ours":
        keep_freed_memory()  # as `toolkit predict` does
    options = {"base": base, "stages": stages, "normalization": "rgb_to_0_1", "num_classes": 2}
    network, trained = trained_with("nnunet", None, options)
    masks = out / "masks"
    masks.mkdir(parents=True, exist_ok=True)

    def ours(files: list[Path]) -> None:
        inference = trained.inference(window)
        predict_files(
            trained, files, out, inference, False, lambda: None, failures=Failures(), reading=Reading(), overlays=False
        )  # fmt: skip

    def theirs() -> Callable[[list[Path]], None]:
        predictor = own_predictor(network, window)

        def run(files: list[Path]) -> None:
            with contextlib.redirect_stdout(io.StringIO()):  # it talks
                predictor.predict_from_files_sequential([[str(f)] for f in files], [str(masks / f.stem) for f in files])

        return run

    run = ours if which == "ours" else theirs()
    return Side(lambda: run(files), len(files), lambda: run(files[:1]), lambda: predicted_shares(masks))


def own_predictor(network: torch.nn.Module, window: int) -> Any:
    """nnU-Net's, of a network that it has not trained."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    configuration = {
        "data_identifier": "2d",
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [window, window],
        "spacing": [1.0, 1.0],
        "normalization_schemes": ["RGBTo01Normalization"] * 3,
        "use_mask_for_norm": [False] * 3,
        "architecture": {"network_class_name": "", "arch_kwargs": {}, "_kw_requires_import": []},
    }
    for what in ("data", "seg", "probabilities"):
        configuration[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
        configuration[f"resampling_fn_{what}_kwargs"] = RESAMPLING
    plans = PlansManager(
        {
            "dataset_name": "Dataset001_photographs",
            "plans_name": "nnUNetPlans",
            "original_median_spacing_after_transp": [999.0, 1.0, 1.0],
            "image_reader_writer": "NaturalImage2DIO",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": {str(channel): {} for channel in range(3)},
            "configurations": {"2d": configuration},
        }
    )
    described = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "object": 1},
        "file_ending": ".png",
    }
    with contextlib.redirect_stdout(io.StringIO()):
        predictor = nnUNetPredictor(use_mirroring=False, device=CPU, allow_tqdm=False)
    predictor.manual_initialization(
        network, plans, plans.get_configuration("2d"), [network.state_dict()], described, "nnUNetTrainer", None
    )
    return predictor
