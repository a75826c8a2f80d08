"""CUT and FastCUT: unpaired translation by patchwise contrast (arXiv:2007.15651)."""

from transeg.plugins.generators.cut.cut import CUT

__all__ = ["CUT"]
