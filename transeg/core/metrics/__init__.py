"""What is measured on one image, each metric a function of arrays; `core.evaluation` puts them together."""
