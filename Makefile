# Everything that a person or a machine does with this repository. `make` alone lists the targets.

VENV ?= .venv
PYTHON ?= $(firstword $(shell for name in python3.11 python3.12 python3; do command -v $$name; done))
CONFIG ?= conf/demo.yaml
WORKSPACE ?=
# Further arguments of pytest, such as ARGS="-k cleaning".
ARGS ?=
# OSV's export of advisories for PyPI, a zip: the audit then asks no network.
ADVISORIES ?=
# Extras of pyproject.toml that the packed environment has too.
EXTRAS ?=
# Processes that share the tests, file by file in the order of their names; WORKERS=0 runs them in one, as a debugger wants it.
WORKERS ?= 2

BIN := $(VENV)/bin
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
STAMP := $(VENV)/.installed
OVERRIDES := $(if $(WORKSPACE),--set workspace=$(WORKSPACE))
WITH_JAVA = export JAVA_HOME="$$(scripts/ensure_java.sh)" && test -n "$$JAVA_HOME" &&

.DEFAULT_GOAL := help
.PHONY: help setup java demo summary serve test test-all test-extra lint format docs dist audit clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-11s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make the environment in .venv (VENV=folder for another place)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no python3 found: install Python 3.11 or 3.12, or run make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || { echo "$(PYTHON) is $$("$(PYTHON)" --version): Python 3.11 or 3.12 is needed; install it, or run make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -c 'import ensurepip, venv' || { echo "$(PYTHON) lacks venv: on Debian or Ubuntu install python3-venv" >&2; exit 2; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e ".[demo,dev]"
	@touch $(STAMP)

java:  ## find Java 17 or 21 (as root on Debian or Ubuntu: install it)
	@scripts/ensure_java.sh

demo: $(STAMP)  ## run the main job on 1,469,307 real purchases and show what came out
	@$(WITH_JAVA) $(BIN)/python jobs/run_pipeline.py --config $(CONFIG) $(OVERRIDES)
	@$(BIN)/python -m recsys_spark.evaluation.summary --config $(CONFIG) $(OVERRIDES)

summary: $(STAMP)  ## show again what the last demo made
	@$(BIN)/python -m recsys_spark.evaluation.summary --config $(CONFIG) $(OVERRIDES)

serve: $(STAMP)  ## serve the last demo's lists at http://127.0.0.1:8000, with live events; Ctrl-C ends it
	@$(WITH_JAVA) scripts/serve.sh $(BIN)/python --config $(CONFIG) $(OVERRIDES)

test: $(STAMP)  ## run the tests
	@$(WITH_JAVA) $(PYTEST) $(ARGS)

test-all: $(STAMP)  ## run the tests, also the slow ones, those on a real Spark cluster and on real PostgreSQL and Redis servers
	@scripts/ensure_postgres.sh
	@scripts/ensure_redis.sh
	@scripts/ensure_chromium.sh
	@$(WITH_JAVA) $(PYTEST) -m "" $(ARGS)

test-extra: $(STAMP)  ## run only what test-all has more than test
	@scripts/ensure_postgres.sh
	@scripts/ensure_redis.sh
	@scripts/ensure_chromium.sh
	@$(WITH_JAVA) $(PYTEST) -m "slow or cluster" $(ARGS) || test $$? -eq 5

lint: $(STAMP)  ## check style, types and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## put the code into its format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(STAMP)  ## write docs/configuration.md, docs/tables.md, conf/base.yaml and conf/models/
	$(BIN)/python -m recsys_spark.config.document

dist: $(STAMP)  ## make what a cluster is sent: dist/recsys_spark.zip and dist/environment.tar.gz (EXTRAS="text redis": with these)
	$(BIN)/python scripts/build_zip.py dist/recsys_spark.zip
	$(BIN)/python scripts/build_environment.py dist/environment.tar.gz --extras $(EXTRAS)

audit: $(STAMP)  ## write dist/sbom.cdx.json and list known vulnerabilities (ADVISORIES=file: without a network)
	$(BIN)/python scripts/build_sbom.py dist/sbom.cdx.json
	@$(if $(ADVISORIES),,$(BIN)/python -m pip install --disable-pip-version-check -q -e ".[audit]" -c constraints.txt)
	$(BIN)/python scripts/audit.py $(if $(ADVISORIES),--advisories $(ADVISORIES))

clean:  ## remove caches and built files (the environment and the workspace stay)
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache spark-warehouse metastore_db derby.log
	find recsys_spark jobs tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
