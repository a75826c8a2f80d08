"""Every segmenter and generator leaves PyTorch, for images of any size and number."""

import pytest

from transeg.testing import parametrize_with_checks

SMALL = {
    "segmenter/ducknet": {"filters": 4},
    "segmenter/unet": {"base": 4},
    "segmenter/unetpp": {"base": 4},
    "segmenter/nnunet": {"base": 4},
    "generator/cut": {"width": 4, "blocks": 5, "patches": 8},
    "generator/cyclegan": {"width": 4, "blocks": 1},
    "generator/pix2pix": {"width": 4, "depth": 4, "noise": False},
    "generator/syndiff": {
        "preset": "small",
        "width": 4,
        "blocks": 1,
        "multipliers": (1, 1),
        "discriminator_width": 4,
        "translator_width": 4,
        "translator_blocks": 1,
    },
}
"""Options that make a network small, by name; others are exported as they are."""


@parametrize_with_checks(
    "transeg", options=SMALL, where=lambda check: check.name.startswith("exports_"), slow=pytest.mark.slow
)
def test_it_leaves_pytorch(check):
    check()
