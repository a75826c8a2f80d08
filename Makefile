PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test setup

demo: setup
	$(BIN)/toolkit run --generator cut --segmenter hardnet

test: setup
	$(BIN)/python -m pytest

setup: .venv/ready

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
