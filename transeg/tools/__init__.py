"""What the toolkit does: a command each, beside its logic."""
