"""Published augmentations by name, as tables of albumentations' transforms; importing this imports no transform."""

from __future__ import annotations

from typing import Any

BORDER_REFLECT_101 = 4
"""OpenCV's number for it."""

PRESETS: dict[str, list[dict[str, Any]]] = {
    # nothing but the crop to the training size
    "none": [],
    # CUT (arXiv:2007.15651): mirrored crops
    "cut": [{"name": "HorizontalFlip", "p": 0.5}],
    # CUT-seg (arXiv:2202.08680): mirrored and freely rotated crops, black where nothing is
    "cut-seg": [
        {"name": "HorizontalFlip", "p": 0.5},
        {"name": "VerticalFlip", "p": 0.5},
        {"name": "Rotate", "limit": 360, "p": 1.0},
    ],
    # HarDNet-MSEG and PraNet (arXiv:2101.07172, 2006.11392), as their code offers it
    "polyp": [
        {"name": "Rotate", "limit": 90, "p": 1.0},
        {"name": "VerticalFlip", "p": 0.5},
        {"name": "HorizontalFlip", "p": 0.5},
    ],
    # zh320/medical-segmentation-pytorch on Kvasir-SEG: crops out of images scaled by 0.5 to 2, strong colours
    "zh320": [
        {"name": "RandomScale", "scale_limit": [-0.5, 1.0], "p": 0.5},
        {"name": "RandomCrop", "border_mode": BORDER_REFLECT_101},
        {"name": "ColorJitter", "brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.2, "p": 0.5},
        {"name": "HorizontalFlip", "p": 0.5},
        {"name": "VerticalFlip", "p": 0.5},
    ],
    # the eight symmetries of the square: nothing is interpolated and no border appears
    "square": [{"name": "D4", "p": 1.0}],
    # what generalises: the ranges of nnU-Net's augmentation (Isensee et al., Nature Methods 2021), applied more often,
    # since trainings here are shorter; its anisotropic blur and its sharpening of low resolutions are left out
    "strong": [
        {"name": "D4", "p": 1.0},
        {
            "name": "Affine",
            "scale": [0.7, 1.4],
            "rotate": [-180, 180],
            "border_mode": BORDER_REFLECT_101,
            "p": 0.7,
        },
        {"name": "GaussNoise", "std_range": [0.0, 0.1], "p": 0.3},
        {"name": "GaussianBlur", "sigma_limit": [0.5, 1.5], "blur_limit": 0, "p": 0.3},
        {"name": "Downscale", "scale_range": [0.5, 0.9], "p": 0.2},
        {"name": "RandomBrightnessContrast", "brightness_limit": 0.25, "contrast_limit": 0.35, "p": 0.5},
        {"name": "RandomGamma", "gamma_limit": [70, 150], "p": 0.5},
    ],
    # tissue in H&E has no upright side, and every laboratory stains it in another way: half of the images are unmixed
    # into haematoxylin and eosin and mixed anew (Tellez et al., MedIA 2019, whose mild shift is taken: a stronger one
    # draws contours around empty glass). The matrices are published ones, because those estimated from an image fail
    # on empty patches: Macenko's raises, Vahadane's makes them black
    "stain": [
        {"name": "D4", "p": 1.0},
        {"name": "HEStain", "method": "random_preset", "intensity_shift_range": [-0.05, 0.05], "p": 0.5},
    ],
}
