"""Reading, splitting, augmenting and streaming of images."""
