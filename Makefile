# `make` alone prints what there is. Everything works in .venv, which the first target to need it
# makes from requirements.lock; PYTHON chooses the interpreter for it: `make venv PYTHON=python3.12`.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
KERNELS := setup.py pyproject.toml $(wildcard _ext/*.pyx _ext/*.pxd)
# Processes that tests run in. Each test computes with one thread, and past eight they only start.
JOBS ?= auto
PYTEST = $(BIN)/pytest -n $(JOBS) --maxprocesses 8 --dist worksteal \
  -m "not browser$(if $(SLOW),, and not slow)" $(PYTEST_ARGS)

.PHONY: help
help: ## this list
	@sed -nE 's/^([a-z%-]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 22

# --- the environment ------------------------------------------------------------------------------

.PHONY: venv
venv: .venv/.kernels ## make .venv: the locked packages, playfield itself (editable), its kernels

.venv/.packages: requirements.lock
	@test -x $(BIN)/python || { \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "playfield needs Python 3.11 or newer: make venv PYTHON=python3.12" >&2; exit 1; }; \
	  $(PYTHON) -m venv .venv; }
	$(BIN)/python -m pip install --quiet -r requirements.lock
	@touch $@

# Setuptools and Cython come from the lock, so this needs no network; it compiles every kernel anew.
.venv/.kernels: .venv/.packages $(KERNELS)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.bench: .venv/.packages requirements-bench.lock
	$(BIN)/python -m pip install --quiet -r requirements-bench.lock
	@touch $@

.PHONY: lock
lock: venv ## resolve the newest versions into requirements*.lock (LOCK_ARGS="torch==2.13.0" holds one)
	$(BIN)/python .ci/lock $(LOCK_ARGS)

# --- use ------------------------------------------------------------------------------------------

.PHONY: demo
demo: venv ## train Pong for MINUTES=10 (Ctrl-C ends it early), evaluate, record a video
	@PATH="$(CURDIR)/$(BIN):$$PATH" examples/demo.sh $(MINUTES)

# Learning runs, which take hours, are in benchmarks/README.md.
BENCHMARKS := startup inspection logging_cost replay dqn_training ppo_training painter_training gan_training small_worlds

.PHONY: bench
bench: venv .venv/.bench ## run every measurement of speed; `make bench-replay` runs benchmarks/replay.py alone
	@set -e; for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py; done

bench-%: venv .venv/.bench
	$(BIN)/python benchmarks/$*.py

# --- checks ---------------------------------------------------------------------------------------

.PHONY: test
test: venv ## run the tests; SLOW=1 adds the slow ones, PYTEST_ARGS="-k dqn" goes to pytest, JOBS=0 is one by one
	@$(PYTEST)

# Numbers and programs of other packages, which ours are held against. `make test` skips what is missing.
PEERS := rliable metrics_peers inception resize replay_benchmark gan_training_benchmark benchmarks

.PHONY: test-peers
test-peers: venv .venv/.bench ## hold ours against rliable, torch-fidelity, torchmetrics and more, which it installs
	@$(PYTEST) $(PEERS:%=tests/test_%.py)

.PHONY: test-browser
test-browser: venv ## look at TensorBoard and a report in Chromium, which it installs if it can (apt-get)
	@.ci/browser $(PYTEST_ARGS) || [ $$? -eq 75 ] # skipped; REQUIRE_BROWSER=1 makes that a failure

.PHONY: lint
lint: .venv/.packages ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: .venv/.packages build/typing/playfield ## mypy on the package
	$(BIN)/mypy

# Type checkers look for a directory named `playfield`, and here the root is that package. Checked
# each time, because a moved or copied tree may hold a link that leads elsewhere.
.PHONY: build/typing/playfield
build/typing/playfield:
	@mkdir -p $(@D)
	@test $@/setup.py -ef setup.py || { rm -f $@; ln -s ../.. $@; }

.PHONY: format
format: .venv/.packages ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: build
build: .venv/.packages ## sdist and wheel into dist/; the wheel is built from the sdist
	$(BIN)/python -m build --no-isolation

.PHONY: clean
clean: ## remove what was built, .venv and runs/ excepted
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f _ext/*.c _ext/*.so _ext/*.pyd .venv/.kernels
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
