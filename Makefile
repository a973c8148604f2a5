# Everything needed is made on the first call: `make demo`, `make test`.
# PYTHON=/path/to/python3 chooses the interpreter, CORES=N the number of cores.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CORES ?= $(shell nproc 2>/dev/null || echo 2)
BIN := .venv/bin
INSTALLED := .venv/.installed
# An absolute path, so that jobs find the environment's programs wherever they run.
export PATH := $(CURDIR)/$(BIN):$(PATH)

# The newest Python that runs; numba has wheels for these. A plain python3 comes last because
# it may be newer than any of them.
CANDIDATES := python3.14 python3.13 python3.12 python3.11 python3
PYTHON ?= $(shell for p in $(CANDIDATES); do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then command -v $$p; break; fi; done)

.PHONY: help install install-cluster install-backends test-backends test-cluster test-gpu test-kills test-faults test-reruns soak fuzz demo demo-2channel test test-all benchmark lint format clean clean-all

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

install: $(INSTALLED) ## make .venv and install the project into it (the other targets do it by themselves)

$(INSTALLED): pyproject.toml envs/bootstrap_venv.py
	@if [ -z "$(PYTHON)" ]; then \
	  echo "No Python 3.11 or newer was found (looked for: $(CANDIDATES))." >&2; \
	  echo "Install one, for example 'apt-get install python3', or name it: make PYTHON=/path/to/python3" >&2; \
	  exit 2; fi
	@echo "Installing into .venv with $(PYTHON): a few minutes, only on the first call."
	@$(PYTHON) envs/bootstrap_venv.py .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

install-cluster: .venv/.installed-cluster ## the same, with Snakemake's plugins for clusters (profiles/README.md)

.venv/.installed-cluster: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,cluster]"
	@touch $@

demo: $(INSTALLED) ## simulate a session, align it, print how well it went (results in demo/session)
	@$(MAKE) --no-print-directory run-demo CONFIG=demo SESSION=session

demo-2channel: $(INSTALLED) ## the same with two-channel recordings (results in demo/session_2channel)
	@$(MAKE) --no-print-directory run-demo CONFIG=demo_2channel SESSION=session_2channel

.PHONY: run-demo
run-demo:
	@echo "Simulating demo/$(SESSION)"
	@$(BIN)/snakemake --snakefile rules/demo.smk --cores $(CORES) --quiet all -- $(SESSION)
	@echo "Aligning it: snakemake --cores $(CORES) --configfile config/$(CONFIG).yaml"
	@$(BIN)/snakemake --cores $(CORES) --configfile config/$(CONFIG).yaml --quiet rules
	@$(BIN)/python -m pyflowreg.quality.demo_table --configfile config/$(CONFIG).yaml \
	  --truth demo/$(SESSION)/truth --figure demo/$(SESSION)/final_results/before_after.png

test: $(INSTALLED) ## the test suite
	@$(BIN)/python -m pytest -n $(CORES) --dist worksteal tests

test-all: $(INSTALLED) ## the test suite without workers, slowest tests listed
	@$(BIN)/python -m pytest --durations 20 tests

# A version whose wheel for the CPU some indexes have under this very name; the others' is large.
TORCH ?= torch==2.13.0

install-backends: .venv/.installed-backends ## the same, with what backends of the optical flow need on the CPU (PyTorch, OpenCV)

.venv/.installed-backends: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)" || \
	  echo "$(TORCH) cannot be installed here: flowreg_torch is NOT tested. Name another with TORCH=." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,diso]"
	@touch $@

test-backends: .venv/.installed-backends ## what holds for every backend of the optical flow, with PyTorch and OpenCV on the CPU
	@PYFLOWREG_REQUIRE_BACKENDS="diso $$($(BIN)/python -c 'import torch' 2>/dev/null && echo flowreg_torch-cpu)" \
	  $(BIN)/python -m pytest -n $(CORES) --dist worksteal -m backends tests

test-kills: $(INSTALLED) ## every stage killed, or its disk failing, at every step; runs killed at random moments; an hour
	@PYFLOWREG_ALL_KILLS=1 $(BIN)/python -m pytest -n $(CORES) --dist worksteal tests/unit/test_faults.py \
	  tests/unit/test_checkpoint.py tests/unit/test_checkpoint_trouble.py tests/unit/test_two_runs.py \
	  tests/workflow/test_killed.py tests/workflow/test_interrupted.py tests/workflow/test_at_once.py

test-faults: $(INSTALLED) ## every damage of every file for every stage, a disk that fails at every step
	@PYFLOWREG_ALL_FAULTS=1 $(BIN)/python -m pytest -n $(CORES) --dist worksteal tests/unit/test_half_truths.py \
	  tests/unit/test_failing_disk.py tests/workflow/test_half_truths.py tests/workflow/test_disks.py

test-reruns: $(INSTALLED) ## every change of a session with real runs, finished and interrupted
	@PYFLOWREG_ALL_RERUNS=1 $(BIN)/python -m pytest -n $(CORES) --dist worksteal tests/workflow/test_changes.py \
	  tests/workflow/test_changes_for_real.py

SECONDS ?= 1200
fuzz: .venv/.installed-fuzz ## damaged files for every reader, SECONDS=1200 in all; findings in fuzz_results/found
	@cd tests && PYTHONPATH=. ../$(BIN)/python -m fuzz --seconds $(SECONDS) --folder ../fuzz_results $(TARGETS)

# atheris has no build for every Python; without it files are mutated blindly.
.venv/.installed-fuzz: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris \
	  || echo "atheris cannot be installed for this Python: files will be mutated blindly." >&2
	@touch $@

MINUTES ?= 20
soak: $(INSTALLED) ## a session under kills, full disks, damage, changed settings for MINUTES=20 (SEED= repeats)
	@PYTHONPATH=tests $(BIN)/python -m soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

test-gpu: .venv/.installed-cuda ## the backend flowreg_cuda on this machine's GPU: tests, then speed (PEER= as in benchmark, ARGS=--profile)
	@PYFLOWREG_TEST_GPU=1 $(BIN)/python -m pytest tests/cuda
	@PYFLOWREG_REQUIRE_BACKENDS=flowreg_cuda-cuda:0 $(BIN)/python -m pytest -m backends -k flowreg_cuda tests
	@$(BIN)/python tests/performance/gpu.py $(if $(PEER),--peer $(PEER)) $(ARGS)

.venv/.installed-cuda: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,cuda]"
	@touch $@

# These tests mostly wait, so the three schedulers are tested at the same time.
test-cluster: .venv/.installed-cluster ## sessions through real schedulers, if tests/cluster/install.sh installed them (REQUIRE=all: none is skipped)
	@$(BIN)/python tests/cluster/run_all.py $(REQUIRE)

benchmark: $(INSTALLED) ## speed, memory and errors, beside PEER=, PEER_FRESH=, SUITE2P= (interpreters; see tests/performance)
	@$(BIN)/python tests/performance/benchmark.py $(if $(PEER),--peer $(PEER)) \
	  $(if $(PEER_FRESH),--peer-fresh $(PEER_FRESH)) $(if $(SUITE2P),--suite2p $(SUITE2P)) $(ARGS)

lint: $(INSTALLED) ## ruff, snakefmt, mypy, snakemake --lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/snakefmt --check Snakefile rules
	@$(BIN)/mypy
	@$(BIN)/snakemake --snakefile rules/demo.smk --cores 1 --quiet all -- session
	@$(BIN)/snakemake --snakefile rules/demo.smk --lint
	@$(BIN)/snakemake --configfile config/demo.yaml --lint

format: $(INSTALLED) ## format every file
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/snakefmt Snakefile rules

clean: ## remove the demo, logs and caches
	rm -rf demo logs benchmarks fuzz_results .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

clean-all: clean ## the same, and the environment and Snakemake's own records
	rm -rf .venv .snakemake
