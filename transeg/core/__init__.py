"""Everything that is true of every component."""
