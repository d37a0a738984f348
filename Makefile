# make train    train configs/dicm.py on the built-in data; ARGS='--config.train.steps=50' adds to it
# make test     the tests; ARGS='tests/metrics -k gauc' narrows them, WORKERS=0 runs one at a time
# make check    format, lint, types
# make bench    the quick benchmarks; BENCHMARKS='name other' chooses
# make env      only the environment, in .venv; PYTHON=/path/to/python chooses the interpreter
# make hooks    check every commit before it is made
# make clean    remove the environment and what tools left behind; runs/ stays

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env train test check lint types format bench hooks clean

VENV := .venv
RUN := $(VENV)/bin/python
ARGS ?=
# Test files run side by side; much of a test is compiling, which takes one core.
WORKERS ?= 2
# The quick ones. peer_torch also needs PyTorch: .venv/bin/pip install -c constraints.txt -e '.[bench]'
BENCHMARKS ?= metrics lazy_adam traffic

# The first interpreter that runs, is new enough and can make environments. A name on PATH is not
# proof that it runs: version managers leave shims for versions that are not selected.
CANDIDATES := python3.12 python3.13 python3.11 python3 python
PROBE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach name,$(CANDIDATES),\
    $(shell $(name) -c '$(PROBE)' >/dev/null 2>&1 && echo $(name))))

help:
	@sed -n 's/^# make/make/p' Makefile

env: $(VENV)/.installed-test

$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with venv found on PATH (tried:" \
	    "$(CANDIDATES)). Install one, or name it: make env PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c '$(PROBE)' || { echo "PYTHON=$(PYTHON) is not a Python 3.11 or newer with" \
	    "venv. Name another: make env PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Making $(VENV) with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed-%: pyproject.toml constraints.txt $(VENV)/.created
	@echo "Installing dicm-jax[$*] into $(VENV)"
	@$(RUN) -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[$*]'
	@touch $@

train: env
	$(RUN) -m dicm_jax.train --config=configs/dicm.py --workdir=runs/dicm $(ARGS)

test: env
	$(RUN) -m pytest -n $(WORKERS) --dist=loadfile $(ARGS)

check: lint types

lint: $(VENV)/.installed-dev
	$(RUN) -m ruff format --check
	$(RUN) -m ruff check

types: env $(VENV)/.installed-dev
	$(RUN) -m pyright

format: $(VENV)/.installed-dev
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

bench: env
	@set -e; for name in $(BENCHMARKS); do \
	    echo "== python -m benchmarks.$$name"; $(RUN) -m benchmarks.$$name $(ARGS); done

hooks: $(VENV)/.installed-dev
	$(RUN) -m pre_commit install

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist
	find dicm_jax tests configs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
