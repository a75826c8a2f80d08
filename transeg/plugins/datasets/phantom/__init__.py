"""A procedural colon: rendered here, nothing to download."""

from transeg.plugins.datasets.phantom.dataset import Phantom

__all__ = ["Phantom"]
