"""Ladders: what unlabelled target images, and labels of them, are worth to a segmenter, at one budget."""
