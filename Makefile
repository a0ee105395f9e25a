# Everything sets itself up: `make demo` and `make test` need Python 3.11 or newer and nothing else.

VENV ?= .venv
# The newest Python that runs: a version manager may put names on PATH that do not.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

READY := $(VENV)/.ready
CHECKOV := .venv-checkov/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo run test check unit coverage format schema pictures bench chaos verify-google requirements clean

help: ## Show what can be made.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 15

setup: $(READY) ## Make the virtual environment.

demo: $(READY) ## Show a push being pruned, locally and on its own.
	@$(VENV)/bin/python -m tests.demo

run: $(READY) ## Start a registry and the function, and print how to send it messages.
	@$(VENV)/bin/python -m tests.local

test: check unit ## Check everything: format, lint, types, tests, Terraform.

check: $(READY)
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/ruff check --quiet .
	$(VENV)/bin/mypy

# One process more than there are cores, since many tests wait.  Neighbours share fixtures (an emulator, Terraform's
# plans), so each process begins with a run of neighbours, and takes some of another's rest when it has none left.
PROCESSES ?= $(shell $(PYTHON) -c 'import os; print(os.cpu_count() + 1)')
unit: $(READY) $(CHECKOV)
	$(VENV)/bin/python -m pytest --numprocesses=$(PROCESSES) --dist=worksteal

coverage: $(READY) ## Run the tests, and show which lines they miss; it takes twice as long.
	$(VENV)/bin/python -m pytest --numprocesses=$(PROCESSES) --dist=worksteal --cov --cov-report=term

bench: $(READY) ## Measure how fast it is, and what it takes.
	@$(VENV)/bin/python -m tests.bench

chaos: $(READY) ## Random faults against an independent oracle, for ten minutes.
	@$(VENV)/bin/python -m tests.chaos --seconds 600

# REPOSITORY=us-docker.pkg.dev/PROJECT/REPO[/PATH], and SUBSCRIPTION=projects/P/subscriptions/S and YES=1 if wanted.
verify-google: $(READY) ## Compare a scratch REPOSITORY of yours at Google with what is documented of it.
	@$(VENV)/bin/python -m tests.verify_google '$(REPOSITORY)' \
		$(if $(SUBSCRIPTION),'--subscription=$(SUBSCRIPTION)') $(if $(YES),--yes)

format: $(READY) ## Format the code and mend what lint can mend.
	$(VENV)/bin/ruff check --fix --quiet .
	$(VENV)/bin/ruff format .

# For the Python and the platform of the function.  What is pinned already stays, unless UPGRADE=1.
requirements: $(READY) ## Pin what is deployed, with hashes, from the dependencies in pyproject.toml.
	$(VENV)/bin/uv pip compile --quiet --generate-hashes --python-version 3.13 --python-platform x86_64-manylinux_2_28 \
		--only-binary :all: --no-emit-index-url --custom-compile-command 'make requirements' $(if $(UPGRADE),--upgrade) \
		--output-file requirements.txt pyproject.toml

schema: $(READY) ## Write the JSON Schema of policies.
	$(VENV)/bin/python -m cleaner.schema > cleaner/policies.schema.json

pictures: $(READY) ## Draw the pictures of the documentation.
	@$(VENV)/bin/python -m tests.pictures

clean: ## Remove what the other targets made.
	rm -rf $(VENV) .venv-checkov .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* *.egg-info

$(READY): pyproject.toml requirements.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[cli,dev]'
	@touch $@

# Checkov pins what it needs, so it lives on its own.
$(CHECKOV): pyproject.toml
	$(PYTHON) -m venv .venv-checkov
	.venv-checkov/bin/python -m pip install --quiet --disable-pip-version-check checkov==3.3.30
	@touch $@
