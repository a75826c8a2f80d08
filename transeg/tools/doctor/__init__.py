"""The command `toolkit doctor`."""
