"""CycleGAN: unpaired translation, both ways, by going there and back (arXiv:1703.10593)."""

from transeg.plugins.generators.cyclegan.cyclegan import CycleGAN

__all__ = ["CycleGAN"]
