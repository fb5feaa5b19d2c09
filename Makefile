# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# The build backend's advice about editable installs is not for the people who run this.
# Modules are compiled when they are first used, or by the rule for .bytecode: of 15,000 most never are.
PIP    := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
SCREENER_TEST_DATA ?= $(abspath ../shared/data)
export SCREENER_TEST_DATA

# The tests start hundreds of processes: where a shell forbids it, each would compile our code anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv demo test check lint types imports unit integration test-slow test-gpu fuzz bench chaos services conformance figures clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# ── environments ────────────────────────────────────────────────────────────────────────────

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; name one with: make PYTHON=/path/to/python3 demo"; exit 2; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
	  || { rm -rf $(VENV); [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && $(PYTHON) -m venv $(VENV); } \
	  || { echo "python3 cannot make a virtual environment; install it with: sudo apt install python3-venv"; exit 2; }

$(VENV)/.runtime: pyproject.toml | $(BIN)/python
	@echo "Installing the light runtime (no torch) into $(VENV) ..."
	@$(PIP) --editable '.[cpu]'
	@touch $@

$(VENV)/.full: pyproject.toml | $(BIN)/python
	@echo "Installing the full environment (tests, training) into $(VENV) ..."
	@$(PIP) --editable '.[cpu,dev,train]'
	@touch $@ $(VENV)/.runtime

# Of what we installed, some is no Python that this version knows; whoever imports it will be told.
$(VENV)/.bytecode: $(VENV)/.full
	@$(BIN)/python -m compileall -qq $(VENV)/lib >/dev/null || true
	@touch $@

venv: $(VENV)/.full ## make the full development environment

# Not before Python's environment: both may ask Debian's package manager, which serves one.
services: | $(BIN)/python ## install what the integration tests start: Redis, PostgreSQL, Orthanc, DCMTK, Chromium
	@tests/install-services

# ── people ──────────────────────────────────────────────────────────────────────────────────

demo: $(VENV)/.runtime ## screen four synthetic studies over real C-STORE and show what comes back
	@$(BIN)/screener demo

# ── gates, cheapest first ───────────────────────────────────────────────────────────────────

lint: $(VENV)/.full ## format and lint
	$(BIN)/ruff format --check screener workers models tests
	$(BIN)/ruff check screener workers models tests

types: $(VENV)/.full ## mypy, strict
	$(BIN)/mypy

imports: $(VENV)/.full ## import contracts
	$(BIN)/lint-imports

check: lint types imports ## every static gate

unit: $(VENV)/.full ## unit tests alone
	$(BIN)/pytest tests/unit

integration: $(VENV)/.full services ## integration tests alone
	$(BIN)/pytest tests/integration -m "not slow and not gpu"

# Reordered, the journeys through whole nodes, which wait more than they compute, would all come last.
# Two things at a time, on two cores: packages of Debian and of Python, then the static gates. Of three
# tests at a time one mostly waits: for a process, a deadline, a disk.
test: ## every gate and every test that is not slow
	@$(MAKE) --no-print-directory -j2 $(VENV)/.full services
	@$(MAKE) --no-print-directory -j2 --output-sync=target check $(VENV)/.bytecode
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

conformance: $(VENV)/.full services ## golden set and input matrix under every validator, with mutations
	CI=1 $(BIN)/pytest -n 2 -m conformance

test-slow: $(VENV)/.full services ## the tests that take longer than a minute each
	$(BIN)/pytest -m "slow and not gpu"

test-gpu: $(VENV)/.full ## the tests that need a CUDA device and the gpu extra
	$(BIN)/pytest -m gpu

fuzz: $(VENV)/.full ## mutate what strangers may send, ten minutes; FUZZ="--seconds 3600 --seed 7"
	$(BIN)/python -m tests.fuzz $(FUZZ)

chaos: $(VENV)/.full services ## force every fault upon a whole node, on both engines (CHAOS="--seed 7 --studies 6")
	$(BIN)/python -m tests.chaos $(CHAOS)

bench: $(VENV)/.full ## lung Dice end to end, and speed as ratios measured side by side (BENCH="receiving results")
	$(BIN)/python -m tests.bench $(BENCH)

FIGURES_RECIPE  ?= covid-ct-mobile
FIGURES_DATA    ?= $(SCREENER_TEST_DATA)/train/covid-ct
FIGURES_WEIGHTS ?= $(SCREENER_TEST_DATA)/weights/mobilenet_v2_1.0_224_imagenet_int8.tflite
FIGURES_OUT     ?= build/figures/$(FIGURES_RECIPE)

figures: $(VENV)/.full ## train and measure a research model: FIGURES_RECIPE, FIGURES_DATA, FIGURES_WEIGHTS, FIGURES_OUT
	$(BIN)/screener models train $(FIGURES_RECIPE) --data $(FIGURES_DATA) --out $(FIGURES_OUT) --resume --set network.weights=$(FIGURES_WEIGHTS)
	@if grep -q '^split = "folds"' $(FIGURES_OUT)/recipe.toml; \
	then echo "Every picture trained one of the networks: the figures are those above, out of fold."; \
	else $(BIN)/screener models evaluate $(FIGURES_OUT)/model --layout covid-ct --data $(FIGURES_DATA) --part validation --out $(FIGURES_OUT)/report; \
	fi

clean: ## remove the environment and every cache
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
