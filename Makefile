PYTHON ?= python3
BIN = .venv/bin

.PHONY: audit demo docs lock setup site test

demo: .venv/installed
	$(BIN)/toolkit run --generator cut --segmenter hardnet
	@echo "The command is $(BIN)/toolkit, or toolkit after: source $(BIN)/activate"

docs: setup
	$(BIN)/python docs/generate.py

# What is known against the locked versions.
audit: setup
	$(BIN)/pip-audit --requirement requirements.lock --no-deps --disable-pip --progress-spinner off

# The versions of this environment, in which the suite is run, and on other systems those that go with them.
lock: setup
	@mkdir -p build
	$(BIN)/uv pip freeze --exclude-editable > build/tested
	{ sed -n '/^#/p' requirements.lock; $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
		--constraint build/tested --no-emit-index-url --no-header --no-annotate pyproject.toml; } > build/lock
	mv build/lock requirements.lock

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
