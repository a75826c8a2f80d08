"""Stain transfer after Reinhard and after Macenko: a translation of H&E images that needs no training."""

from transeg.plugins.generators.stain.stain import Stain

__all__ = ["Stain"]
