"""Objects in label maps: counted and measured."""
