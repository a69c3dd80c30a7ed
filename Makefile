# Two commands for a newcomer: `make demo` and `make test`. Everything lives in .venv and var/.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 1
CONTROL ?= none
INSTALLED := $(VENV)/.installed

.PHONY: help install demo prove test check bench format clean

help:
	@echo "make demo [SEED=n CONTROL=none|shuffled|nodrift]   the whole loop on real parts, told while it happens"
	@echo "make test                                          lint, types, import rules and all tests"
	@echo "make check                                         ruff, mypy --strict, import-linter"
	@echo "make bench                                         the figures, into var/bench/*.json"
	@echo "make prove                                         three seeds of each control (long, resumable)"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt api/client/pyproject.toml infra/local/install.sh
	@bash infra/local/install.sh "$(PYTHON)" "$(VENV)"

demo: $(INSTALLED)
	@"$(BIN)/python" -P -m infra.demo --seed "$(SEED)" --control "$(CONTROL)"

prove: $(INSTALLED)
	@"$(BIN)/python" -P -m infra.demo.prove

# What starts processes runs alone: beside others it would measure them.
test: $(INSTALLED) check
	"$(BIN)/python" -P -m pytest -m "not service" --numprocesses 2
	"$(BIN)/python" -P -m pytest -m service

check: $(INSTALLED)
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy" .
	"$(BIN)/lint-imports"

format: $(INSTALLED)
	"$(BIN)/ruff" check --fix .
	"$(BIN)/ruff" format .

bench: $(INSTALLED)
	@"$(BIN)/python" -P -m tests.bench

clean:
	rm -rf $(VENV) var .mypy_cache .ruff_cache .pytest_cache .hypothesis
