"""Trained networks on images of any size."""
