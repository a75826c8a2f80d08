"""What several commands show, as rich tables."""
