"""HarDNet-MSEG (arXiv:2101.07172)."""

from transeg.plugins.segmenters.hardnet.mseg import HarDNetMSEG

__all__ = ["HarDNetMSEG"]
