"""Ranks: who they are, and what they share."""
