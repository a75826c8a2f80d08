"""Networks: run, loaded, averaged, compiled, made ready for inference."""
