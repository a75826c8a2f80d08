"""Pix2pix: paired translation, from label maps or images (arXiv:1611.07004)."""

from transeg.plugins.generators.pix2pix.pix2pix import Pix2pix

__all__ = ["Pix2pix"]
