"""Every built-in generator keeps the contract that is checked for those of others."""

import pytest

from transeg.core.registry import Registry
from transeg.testing import checks_of, parametrize_with_checks

SMALL = {
    "cut": {"width": 4, "blocks": 5, "patches": 8},
    "cyclegan": {"width": 4, "blocks": 1, "pool": 2},
    "pix2pix": {"width": 4, "depth": 4},
    "syndiff": {
        "preset": "small",
        "width": 4,
        "multipliers": (1, 1, 2),
        "discriminator_width": 4,
        "translator_width": 4,
        "translator_blocks": 1,
    },
}
"""Options that make a generator small, by name; others are tested as they are."""
OPTIONS = {f"generator/{name}": options for name, options in SMALL.items()}


@parametrize_with_checks(
    "transeg", kind="generator", options=OPTIONS, where=lambda check: not check.name.startswith("exports_")
)
def test_contract(check):
    check()


@pytest.mark.parametrize("component", list(Registry().components("generator")), ids=str)
def test_it_cites_its_paper_and_counts_its_parameters(component):
    assert component.entry.paper
    assert component.entry.params is not None


def test_fastcut_keeps_things_where_they_are():
    """Its translations are learned from images that are flipped at random."""
    fast = {"generator/cut": {**SMALL["cut"], "variant": "fastcut"}}
    (check,) = (
        check
        for check in checks_of("transeg", kind="generator", options=fast)
        if str(check) == "generator/cut-generator_keeps_things_where_they_are"
    )
    check()
