PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo docs test setup

demo: setup
	$(BIN)/toolkit run --generator cut --segmenter hardnet

docs: setup
	$(BIN)/python docs/generate.py

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

setup: .venv/ready

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
