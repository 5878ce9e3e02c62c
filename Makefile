# make demo    install, fetch the starter models, watch a conversation being remembered
# make test    install and fetch what is missing, run the tests
# make bench   measure this machine: docs/benchmark.md and docs/benchmark.json; LOCOMO=FILE reads LoCoMo's conversation
# make check   lint and types
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
LOCOMO ?= $(wildcard ../shared/data/locomo-dev.json)
STARTERS := smollm2-135m all-minilm-l6-v2

.PHONY: demo test bench check models install clean
.DEFAULT_GOAL := install

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "memlora needs Python 3.11 or newer; name it with: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

# `models path` succeeds only where a model is whole.
models: $(STAMP)
	@for name in $(STARTERS); do $(BIN)/memlora models path $$name >/dev/null 2>&1 || $(BIN)/memlora models pull $$name; done

demo: models
	@$(BIN)/memlora demo

test: models
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

bench: models
	@$(BIN)/python -m benchmarks $(if $(LOCOMO),--locomo $(LOCOMO))

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info
