# make demo    install, fetch the starter models, watch a conversation being remembered
# make test    install and fetch what is missing, run the tests
# make soak    try for MINUTES (60) to lose, damage or leak something; prints what was tried
# make examples  install llm, LangChain and LlamaIndex beside memlora, and test docs/examples with them
# make audit   known faults of the pinned packages (pip-audit), where the network reaches its database
# make sbom    write build/sbom.json: every installed package with its version and licence (CycloneDX)
# make bench   measure this machine: docs/benchmark.md and docs/benchmark.json; LOCOMO=FILE reads LoCoMo's conversation
# make check   lint, types, and the table of licences
# make dist    compare the wheels of all forms of the source; dist/ gets the wheel and the sdist
# make pins    follow pyproject.toml in requirements/; NEWEST=1 takes the newest of everything
# make check-metal  what only a Mac shows, as one file to send: metal-check.json; not measured by us
# make students  write the table of docs/students.md from the checks of every family
# make licences  write docs/licences.md from what is installed
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
INSTALLED := $(VENV)/.installed
TESTABLE  := $(VENV)/.testable
# One more than there are cores: many tests wait for programs that they started.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
MINUTES ?= 60
SEED ?= 1
LOCOMO ?= $(wildcard ../shared/data/locomo-dev.json)
TOOLS := build/supply
EXAMPLES := build/examples
STARTERS := smollm2-135m all-minilm-l6-v2

.PHONY: demo test examples soak bench check models install dist audit sbom pins licences students check-metal clean
.DEFAULT_GOAL := install

install: $(INSTALLED)

$(INSTALLED): pyproject.toml requirements/install.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "memlora needs Python 3.11 or newer; name it with: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(PIP) --no-deps --require-hashes --requirement requirements/install.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# What the tests, the linter and the type checker need besides.
$(TESTABLE): $(INSTALLED) requirements/test.txt
	@echo "installing what the tests need ..."
	@$(PIP) --no-deps --require-hashes --requirement requirements/test.txt
	@touch $@

# `models path` succeeds only where a model is whole.
models: $(INSTALLED)
	@for name in $(STARTERS); do $(BIN)/memlora models path $$name >/dev/null 2>&1 || $(BIN)/memlora models pull $$name; done

demo: models
	@$(BIN)/memlora demo

test: models $(TESTABLE)
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal

# The packages of other people's programs, which memlora itself never loads, in an environment of their own.
$(EXAMPLES)/.installed: pyproject.toml
	@$(PYTHON) -m venv $(EXAMPLES)
	@$(EXAMPLES)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[serve]' \
		llm langchain-core llama-index-core openai pytest pytest-socket
	@touch $@

examples: $(EXAMPLES)/.installed
	@ALL_EXAMPLES=1 $(EXAMPLES)/bin/python -m pytest tests/serve/test_examples.py

soak: $(TESTABLE)
	@nice $(BIN)/python tests/soak --minutes $(MINUTES) --seed $(SEED)

bench: models
	@$(BIN)/python -m benchmarks $(if $(LOCOMO),--locomo $(LOCOMO))

check: $(TESTABLE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/licences.py --check

dist: $(TESTABLE)
	@$(BIN)/python -m pytest tests/test_packaging.py
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation --outdir dist

# Tools that look at the packages and are not installed with them.
$(TOOLS)/.installed:
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1 cyclonedx-bom==7.5.0
	@touch $@

audit: $(TOOLS)/.installed
	@$(TOOLS)/bin/python .ci/audit.py

sbom: $(INSTALLED) $(TOOLS)/.installed
	@$(TOOLS)/bin/cyclonedx-py environment --output-reproducible --of JSON --output-file build/sbom.json $(BIN)/python

pins:
	@PYTHON=$(PYTHON) NEWEST=$(NEWEST) .ci/pins

licences: $(INSTALLED)
	@$(BIN)/python .ci/licences.py

check-metal: models
	@$(BIN)/python -m benchmarks.metal_check $(if $(STUDENT),--student $(STUDENT)) --exchanges $(or $(EXCHANGES),500)

students: $(TESTABLE)
	@UPDATE_DOCS=1 $(BIN)/python -m pytest --quiet tests/models/test_families.py

clean:
	rm -rf $(VENV) build dist *.egg-info
