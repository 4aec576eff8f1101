# Everything runs from a virtual environment that the first target makes; a second run installs nothing.
#   make demo CONSTRAINTS=          torch without the CPU constraint (default where an NVIDIA GPU is found)
#   make test VENV=/tmp/env         another place for the environment
#   make test PYTEST_ARGS="-k plan" options for pytest
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench site docs
SHELL := /bin/bash

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= $(if $(shell command -v nvidia-smi),,-c constraints-cpu.txt)
WORKSPACE ?= runs
PYTEST_ARGS ?=
BENCH_ARGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
REPORT := $(WORKSPACE)/reports/quickstart/cpu/index.html

help: ## list the targets
	@echo "usage: make TARGET"
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 10

# Marked ready only when the whole installation has succeeded, and made again when these files change.
$(READY): pyproject.toml constraints-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "sfrbench needs Python 3.11 or newer; name one with: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "installing into $(VENV): some minutes, once"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check $(CONSTRAINTS) -e ".[dev]"
	@touch $@

demo: $(READY) ## a small complete experiment with a pretrained SAM, in minutes on two CPU cores
	$(BIN)/sfrbench weights get lite_medsam
	$(BIN)/sfrbench run quickstart --profile cpu --workspace $(WORKSPACE)
	@echo "Open $(abspath $(REPORT))"

test: $(READY) ## the tests, a process on each core
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile $(PYTEST_ARGS)

lint: $(READY) ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

site: $(READY) ## the documentation as a folder that needs no network, links checked: build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "Open $(abspath build/site/index.html)"

docs: site ## the same, and every example of its pages run: minutes
	$(BIN)/python -m docs.tools.blocks

bench: $(READY) ## speed against the peers, every script of benchmarks/
	@for script in benchmarks/[a-z]*.py; do \
	  echo "== $$script"; $(BIN)/python $$script $(BENCH_ARGS) || exit 1; \
	done
