# Needs Python 3.11 or newer and make; everything else goes into .venv. Paths are relative: any clone will do.
PYTHON ?= python3
PYTEST_ARGS ?= -n 2 --dist loadfile
PY := .venv/bin/python
PIP := $(PY) -m pip -qq --no-input
INSTALLED := .venv/.installed
APT := timeout 300 apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o DPkg::Lock::Timeout=60
RECENT := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# A clone that was moved points its editable install at the old place: renew it (needs no network).
MOVED := $(shell test "$$(cat $(INSTALLED) 2>/dev/null)" = "$$(pwd -P)" || echo moved)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install figure1 paper figures notebooks smoke environment benchmark browser lint types test clean moved

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## Set up .venv with the pinned requirements

figure1: $(INSTALLED) ## Main job, laptop scale: best-of-n and RL overoptimization into results/figure1
	$(PY) experiments/run.py +experiment=figure1 scale=laptop output=results/figure1 store=results/store

# Each into its folder below results/. What one finished is in the store for the next, and for who begins again.
PAPER := figure1 data_size data_size_rl kl_penalty policy_size oracle heavy_tails

paper: $(INSTALLED) $(PAPER:%=paper-%) ## Every experiment of the paper, laptop scale, resumable, then every figure and verdict
	$(PY) experiments/figures.py

paper-%: $(INSTALLED)
	$(PY) experiments/run.py +experiment=$* scale=laptop output=results/$* store=results/store

figures: $(INSTALLED) ## Draw every figure and report under results/ again from its records (seconds)
	$(PY) experiments/figures.py

notebooks: $(INSTALLED) ## Run the notebooks anew and save what they show (minutes)
	.venv/bin/jupyter-execute --inplace notebooks/*.ipynb

smoke: $(INSTALLED) ## The same at smoke scale (about a minute) into results/smoke
	$(PY) experiments/run.py +experiment=figure1 scale=smoke output=results/smoke store=results/store

environment: $(INSTALLED) ## Rebuild the shipped environment release from the human ratings
	$(PY) experiments/build_environment.py

benchmark: .venv/.benchmark ## Speed beside PyTorch, transformers and TRL (installs them)
	$(PY) experiments/benchmarks/throughput.py

browser: ## A headless Chromium for the tests of pages, by apt-get (needs root)
	@command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || { \
	export DEBIAN_FRONTEND=noninteractive; $(APT) update && $(APT) install --yes --no-install-recommends \
	chromium-headless-shell >/dev/null; }

lint: $(INSTALLED) ## Style and formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(INSTALLED) ## Static types
	$(PY) -m mypy

test: lint types ## Lint, types and tests; options for pytest in PYTEST_ARGS
	$(PY) -m pytest $(PYTEST_ARGS)

clean: ## Remove caches and smoke results (.venv and results/store stay)
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis outputs multirun results/smoke
	find . -path ./.venv -prune -o -type d -name __pycache__ -exec rm -rf {} +

$(INSTALLED): requirements.txt pyproject.toml $(MOVED)
	@$(PY) -m pip --version >/dev/null 2>&1 && $(PY) $(RECENT) || { \
	$(PYTHON) $(RECENT) 2>/dev/null \
	|| { echo 'Python 3.11 or newer is needed, $(PYTHON) is not: try make PYTHON=python3.11'; exit 1; }; \
	$(PYTHON) -m venv --clear .venv; }
	@echo 'Installing the pinned requirements into .venv (a few minutes the first time)'
	@$(PIP) install --requirement requirements.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@pwd -P > $@

.venv/.benchmark: $(INSTALLED)
	@echo 'Installing PyTorch, transformers and TRL into .venv'
	@$(PIP) install --constraint requirements.txt --no-build-isolation --editable '.[benchmark]'
	@touch $@
