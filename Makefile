# Every target bootstraps its own virtual environment from a bare python3 (3.11 or newer).
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
# Else every process compiles the packages that it imports anew.
export PYTHONDONTWRITEBYTECODE :=
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo ui test test-fast test-postgres test-long cover soak live lint docs lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## / - /' | awk -F' - ' '{printf "make %-13s %s\n", $$1, $$2}'

$(VENV)/.build: requirements-build.lock
	@test -n "$(PYTHON)" || { echo "aurora_sync needs Python 3.11 or newer, and found none on the PATH; name one with make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment (on Debian and Ubuntu the package python3-venv is missing)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-build.lock
	@touch $@

$(VENV)/.run: $(VENV)/.build requirements.lock pyproject.toml
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/.docs: $(VENV)/.run requirements-docs.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes -r requirements-docs.lock
	@touch $@

demo: $(VENV)/.run  ## seven legacy tables through S3 into a warehouse, twice, under concurrent writers
	@$(BIN)/aurora-sync demo

ui: $(VENV)/.run  ## the same tables in the Dagster UI
	@$(BIN)/aurora-sync ui

# Half of a test's time is waiting, so one worker more than there are cores.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PYTEST := $(BIN)/python -m pytest -n $(WORKERS)

test-fast: $(VENV)/.dev  ## the tests that start no server, for every save
	@$(PYTEST) -m 'not servers and not long and not live' $(ARGS)

test: $(VENV)/.dev  ## the tests (ARGS="-k name" to choose, WORKERS=1 for one process)
	@$(PYTEST) $(ARGS)

# What depends on the version of the source: tests that start a PostgreSQL server and send it more than plain reads.
SOURCE_TESTS := $(addprefix aurora_sync_tests/, source strategies provisioning advisor engine cli/test_triggers.py) \
	$(addprefix aurora_sync_tests/scenarios/, assessed catalogue_moves changed_under_the_cursor first_and_idle_runs \
	identity_token in_flight_commits logical outbox reconcile schema_changes triggers type_matrix wrapped_transaction_ids)

test-postgres: $(VENV)/.dev  ## the tests of the source on another PostgreSQL (POSTGRES_BIN=/usr/lib/postgresql/15/bin)
	@test -x "$(POSTGRES_BIN)/postgres" || { echo "POSTGRES_BIN=$(POSTGRES_BIN) has no program postgres; name the bin folder of a PostgreSQL, 13 or newer"; exit 1; }
	@AURORA_SYNC_TEST_POSTGRES_BIN=$(POSTGRES_BIN) $(PYTEST) -m 'servers and not long and not live' $(SOURCE_TESTS) $(ARGS)

test-long: $(VENV)/.dev  ## the full grids and long random trials, beyond make test
	@$(PYTEST) -m long $(ARGS)

cover: $(VENV)/.dev  ## make test, and which lines and branches of the package it does not run
	@$(PYTEST) --cov --cov-report=term:skip-covered --cov-report=html $(ARGS)

soak: $(VENV)/.dev  ## random writers and catalogue moves against every strategy (SECONDS=600, for each of the two)
	@$(BIN)/python -m aurora_sync_tests.scenarios.random_writers.soak --seconds $(or $(SECONDS),60) $(ARGS)
	@$(BIN)/python -m aurora_sync_tests.scenarios.catalogue_moves.soak --seconds $(or $(SECONDS),60) $(ARGS)

live: $(VENV)/.dev  ## try the rules of docs/live.md on the Snowflake account of the environment (ARGS=--fake: without one)
	@$(BIN)/python -W ignore -m aurora_sync_tests.live $(ARGS)

lint: $(VENV)/.dev  ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

docs: $(VENV)/.docs  ## the documentation site, in site/
	@$(BIN)/python -m docs.generate
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html was written; $(BIN)/python -m http.server -d site 8000 serves it, search included"

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade
PACKAGES := --extra embedded --extra ui --extra frames pyproject.toml

lock: $(VENV)/.build  ## resolve the dependencies anew, those of the build too
	@$(LOCK) $(PACKAGES) --group dev -o requirements-dev.lock
	@$(LOCK) $(PACKAGES) -c requirements-dev.lock -o requirements.lock
	@$(LOCK) --group lambda -c requirements.lock -o requirements-lambda.lock
	@$(LOCK) --group docs -c requirements-dev.lock -o requirements-docs.lock
	@$(LOCK) --group build -c requirements-dev.lock -o requirements-build.lock

clean:  ## stop the embedded stack and remove its data
	@if [ -x $(BIN)/aurora-sync ]; then $(BIN)/aurora-sync clean; else rm -rf .aurora_sync; fi
