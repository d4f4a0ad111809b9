# `make run` and `make test` work on a fresh machine with Python 3.11 or newer; `make help` lists the rest.

PYTHON ?= python3
WORKERS ?= 2
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The stamps carry a digest of all that decides what is in an environment (its place, the interpreter, the pins), so
# an environment is made again exactly when one of these has changed.
inputs = $(shell { echo "$(CURDIR)"; $(PYTHON) --version; cat pyproject.toml $(1); } 2>&1 | cksum | tr ' ' '-')

VENV := .venv
BENCH := .venv-bench
BIN := $(VENV)/bin
EVERYTHING := '.[all,dev]'
READY := $(VENV)/ready-$(call inputs,constraints.txt)
BENCH_READY := $(BENCH)/ready-$(call inputs,benchmarks/requirements.txt)

# $(call environment,directory): a virtual environment that works, kept if there is one already.
define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "veil needs Python 3.11 or newer, and \"$(PYTHON)\" is: $$($(PYTHON) --version 2>&1)."; \
		echo "Name another interpreter, for example: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; } >&2
	@if ! $(1)/bin/python -m pip --version >/dev/null 2>&1 || ! grep -qsF -- '$(CURDIR)/$(1)' $(1)/pyvenv.cfg || \
		[ "$$($(1)/bin/python --version)" != "$$($(PYTHON) --version)" ]; then \
		echo "environment: creating $(1) with $$($(PYTHON) --version)"; \
		$(PYTHON) -m venv --clear "$(CURDIR)/$(1)"; \
	fi
	@rm -f $(1)/ready-*
endef

# $(call install,directory,what): pip with a line of progress now and then; the whole log stays in the environment.
define install
	@$(1)/bin/python -m pip install --disable-pip-version-check --no-input $(2) 2>&1 | tee $(1)/install.log | awk ' \
		/^Collecting/ { if (++n % 25 == 0) print "environment: " n " packages collected"; fflush() } \
		/^Installing collected/ { print "environment: installing them"; fflush() }' || { \
		grep -v '^Requirement already' $(1)/install.log | tail -n 30; echo "environment: see $(1)/install.log"; exit 1; } >&2
endef

.PHONY: help run test format docs benchmark-environment clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-22s %s\n", $$1, $$2 }' Makefile

run: $(READY)  ## the tour: every family of models on bundled data; pictures and one page in tour/
	@$(BIN)/veil tour --out tour

test: $(READY)  ## every check and all tests
	@failed=; \
	check() { \
		local name=$$1 start=$$SECONDS output; shift; \
		if output=$$("$$@" 2>&1 </dev/null); then echo "ok      $$name ($$((SECONDS - start)) s)"; \
		else failed="$$failed $$name"; printf 'FAILED  %s\n%s\n' "$$name" "$$output"; fi; \
	}; \
	export NO_MKDOCS_2_WARNING=1; \
	check format $(BIN)/ruff format --check --output-format concise .; \
	check lint $(BIN)/ruff check --quiet --output-format concise .; \
	check types $(BIN)/mypy; \
	check imports $(BIN)/lint-imports; \
	check docs $(BIN)/mkdocs build --strict --quiet --site-dir site; \
	[ -z "$$failed" ] || echo "FAILED $$failed; the tests follow"; \
	tests() { $(BIN)/python -m pytest --quiet -n $(WORKERS) --dist loadfile --max-worker-restart=0 </dev/null 2>&1; }; \
	tests | tee $(VENV)/test.log || { \
		stuck=$$(grep -cE "^worker '[^']*' crashed while running '" $(VENV)/test.log); \
		if [ "$$stuck" -gt 0 ] && [ "$$(grep -cE '^(FAILED|ERROR) ' $(VENV)/test.log)" = "$$stuck" ]; then \
			echo "nothing failed but a process that hung or died ($$stuck, named above); all of it once more"; \
			tests || failed="$$failed tests"; \
		else failed="$$failed tests"; fi; \
	}; \
	[ -z "$$failed" ]

format: $(READY)  ## format the code and apply the safe lint fixes
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format .

docs: $(READY)  ## the documentation as a site in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo "documentation: site/index.html"

benchmark-environment: $(BENCH_READY)  ## .venv-bench, with the peers that benchmarks/ compares with

clean:  ## remove environments, caches and everything that was generated
	rm -rf $(VENV) $(BENCH) site tour build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY):
	$(call environment,$(VENV))
	@echo "environment: installing the versions in constraints.txt (a minute or two, once)"
	$(call install,$(VENV),-c constraints.txt hatchling editables)
	$(call install,$(VENV),-c constraints.txt --no-build-isolation -e $(EVERYTHING))
	@touch $@ && echo "environment: ready"

$(BENCH_READY):
	$(call environment,$(BENCH))
	@echo "environment: installing veil and its peers (several minutes, once)"
	$(call install,$(BENCH),-r benchmarks/requirements.txt -e '.[all]')
	@touch $@ && echo "environment: ready, $(BENCH)/bin/python"
