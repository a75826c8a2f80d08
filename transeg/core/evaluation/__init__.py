"""How good segmentations and translations are."""
