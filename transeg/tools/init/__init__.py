"""Looks at images, and proposes an experiment."""
