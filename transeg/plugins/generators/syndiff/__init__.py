"""SynDiff: unpaired translation, both ways, by adversarial diffusion (arXiv:2207.08208)."""

from transeg.plugins.generators.syndiff.syndiff import SynDiff

__all__ = ["SynDiff"]
