PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo docs site test setup

demo: .venv/installed
	$(BIN)/toolkit run --generator cut --segmenter hardnet
	@echo "The command is $(BIN)/toolkit, or toolkit after: source $(BIN)/activate"

docs: setup
	$(BIN)/python docs/generate.py

site: setup
	$(BIN)/mkdocs build --strict

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

setup: .venv/ready

.venv:
	$(PYTHON) -m venv .venv

# PyTorch and what transeg needs of others, and nothing for development
.venv/installed: pyproject.toml | .venv
	@echo "Downloading PyTorch and about 70 packages; see README.md for a smaller PyTorch, without CUDA."
	$(BIN)/python -m pip install --quiet .
	@touch $@

.venv/ready: pyproject.toml | .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
