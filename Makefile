# Everything runs in .venv, which is made on first use and again when pyproject.toml or constraints.txt change.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow lint clean

help: ## Say what can be made
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 18

quickstart: $(STAMP) ## Install, then run the quick start: a sweep on handwritten digits, and its report
	@$(BIN)/medoid run quickstart

test: lint ## Install, then check format, lint, types and imports, and run the tests
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(STAMP) ## Run the tests that take long
	$(BIN)/pytest -n 2 --dist loadfile -m slow

lint: $(STAMP) ## Check format, lint, types and the direction of imports
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean: ## Remove .venv and all that was built or cached; results stay
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# setuptools comes first, and builds medoid in .venv itself: an isolated build would fetch one that is not pinned.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input install --constraint constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || \
	  { echo "medoid needs Python 3.11 or later, and $(PYTHON) is not there: install it, or name another with PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "medoid needs Python 3.11 or later, and $(PYTHON) is $$("$(PYTHON)" --version 2>&1): name another with PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) lacks the venv module: install it (on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Installing medoid and all it needs into .venv: once, some gigabytes, usually 2 to 10 minutes ..."
	@start=$$(date +%s) && \
	  "$(PYTHON)" -m venv .venv && \
	  $(PIP) setuptools && \
	  $(PIP) --no-build-isolation --editable '.[dev]' && \
	  echo "Installed in $$(( $$(date +%s) - start )) s."
	@touch $@
