"""From built parts to checkpoints."""
