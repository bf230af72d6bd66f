# make demo      install into .venv and run the whole path on real data
# make test      the tests                make check    format, lint, types, tests, README, the reference
# make bench     speed, next to peers     make format   rewrite files the way check wants them
# make docs      the reference, a page for each part of the library, into build/reference
# make claims    run every paper's claim, and write docs/claims.md
# make picture   the README's picture, drawn again from runs/laser-s4d (needs chromium)
#
# PYTHON=python3.12      another interpreter          VENV=somewhere    another environment
# PIP_FLAGS=...          options for pip, for example an index that holds CPU builds of torch

PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
BIN := $(VENV)/bin
# One worker a core; passive, because the workers' own threads would otherwise spin while they wait.
PYTEST = OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -q -n auto -rs

.PHONY: demo test check docs bench claims format picture clean clean-kernels
.DEFAULT_GOAL := demo

demo: $(VENV)/.installed
	$(BIN)/separatrix fit laser

test: $(VENV)/.installed-dev
	$(PYTEST)

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)
	$(BIN)/python -m docs.reference

docs: $(VENV)/.installed-dev
	$(BIN)/python -m docs.reference

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks

# A claim that fails does not keep what the others said from the page.
claims: $(VENV)/.installed
	@$(BIN)/separatrix reproduce --all; ended=$$?; $(BIN)/python -m separatrix.claims.page; exit $$ended

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

picture:
	chromium --headless=new --no-sandbox --hide-scrollbars --force-device-scale-factor=1.5 --window-size=860,1240 \
		--screenshot=docs/img/report.png "file://$(CURDIR)/runs/laser-s4d/report.html"

clean-kernels:
	rm -rf separatrix/recurrence/kernels/__pycache__

clean: clean-kernels
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

# -qq: one line a phase instead of pages; pip still prints what goes wrong.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing separatrix into $(VENV) (torch is large: this can take some minutes)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing the tools for tests and checks"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "separatrix needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
