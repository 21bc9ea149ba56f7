# Needs Python 3.11 or newer, make and git; everything else comes from the locked requirements.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= $(BIN)/cliffracer run examples.shop
PYTEST_OPTIONS ?= -n auto --maxprocesses 4 --dist loadfile
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header

EXTRAS := --extra accounts --extra dev --extra nkeys --extra oidc --extra otel --extra redis --extra swagger

.DEFAULT_GOAL := help
.PHONY: help run test check lint docs bench build clean lock python

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' Makefile

run: .venv/.dev.stamp ## Set up and run the demo
	@echo "The shop: its page shows orders as they come, and sends customers by a button. Many more, from another terminal:"
	@echo "$(BIN)/python -m examples.shop.drive --orders 500"
	@$(DEMO)

test: .venv/.tools.stamp ## Set up and run every test; TRANSPORT=stock on the stock transport, LONG=1 with floods of a minute and objects of a GiB
	$(if $(TRANSPORT),TEST_TRANSPORT=$(TRANSPORT) )$(if $(LONG),TEST_LONG=1 )$(BIN)/python -m pytest $(PYTEST_OPTIONS)

check: .venv/.dev.stamp ## Look for mistakes without running or changing anything
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pyright

lint: .venv/.dev.stamp ## Mend what can be mended by itself: layout and simple lint
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: .venv/.dev.stamp ## Build the documentation into site/
	$(BIN)/python scripts/reference.py
	$(BIN)/zensical build --strict
	@echo "Open site/index.html."

bench: .venv/.bench.stamp ## Compare with the peers and write benchmarks/RESULTS.md; QUICK=1 for a short run, ONLY=rpc,http_get for some tables
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

build: .venv/.dev.stamp ## Build wheel and source archive into dist/
	$(BIN)/python -m build --no-isolation

clean: ## Remove what make and the tools made
	rm -rf .venv .venv.lock .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .cache build dist site
	rm -f docs/reference/commands.md docs/reference/more.md docs/reference/settings.md
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: .venv/.dev.stamp ## Choose new versions for requirements/*.txt
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) pyproject.toml --upgrade $(EXTRAS) --group test --group lint --group docs --group build --output-file requirements/dev.txt
	$(LOCK) --constraint requirements/dev.txt pyproject.toml --output-file requirements/base.txt
	$(LOCK) --constraint requirements/dev.txt --group build --output-file requirements/build.txt
	$(LOCK) --upgrade --group tls --output-file requirements/tls.txt
	$(LOCK) --constraint requirements/dev.txt --upgrade --group nameko --output-file requirements/nameko.txt
	$(LOCK) --constraint requirements/dev.txt pyproject.toml $(EXTRAS) --group test --group lint --group build --group bench \
		--output-file requirements/bench.txt

# An interrupted or half-done set-up leaves no stamp; the next make starts it afresh.
.venv/.%.stamp: requirements/%.txt requirements/install.py pyproject.toml | python
	@$(PYTHON) requirements/install.py $*

# Never fails: what it cannot get is said, and the tests that need it say so again. It tries anew until it has all.
.venv/.tools.stamp: .venv/.dev.stamp requirements/tools.py requirements/tls.txt requirements/nameko.txt requirements/node/package-lock.json
	@$(BIN)/python requirements/tools.py

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Cliffracer needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 | head -n 1)." \
		"Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
