# `make run` and `make test` do everything; `make help` lists the rest.
PY ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help setup run test test-postgres chaos check check-types check-rest format clean
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: $(STAMP) ## Make the environment (.venv), every version and digest pinned by requirements.lock

$(STAMP): requirements.lock
	@echo "1/2 environment: .venv"
	@$(PY) -m venv .venv
	@echo "2/2 packages: about 4 GB with PyTorch; once only, the second time is instant"
	@# --no-deps: the lock is whole, and pip otherwise looks past it for extras such as coverage[toml].
	@$(BIN)/pip install --quiet --progress-bar on --no-compile --no-deps --require-hashes -r requirements.lock
	@# pip would compile on one processor. What packages carry for other Pythons cannot be compiled, and need not be. To
	@# leave it to the first import would leave it to every one: the engine, confined, cannot write what it compiled.
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	@$(BIN)/pip check
	@touch $@

run: $(STAMP) ## Start the whole product; PORT, DATA_DIR and more from the environment
	@$(BIN)/python manage.py up

test: $(STAMP) ## Run the whole test suite, browser tests included
	@PYTHON=$(BIN)/python sh tests/find_browser.sh
	@# A worker for each processor, and one that waits for the running product meanwhile.
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 5 $(ARGS)

test-postgres: $(STAMP) ## The tests of services and queue on PostgreSQL and Redis; POSTGRES_URL, REDIS_URL
	@$(BIN)/python tests/on_postgresql.py -n $(WORKERS) --maxprocesses 5 $(ARGS)

chaos: $(STAMP) ## Break the product on purpose and check what must hold; SEED, FAULTS, DATABASE_URL, BROKER_URL
	@PYTHONPATH=.:tests:tests/engine $(BIN)/python -m chaos --seed $(or $(SEED),1) --faults $(or $(FAULTS),100) \
		--database-url "$(DATABASE_URL)" --broker-url "$(BROKER_URL)"

check: $(STAMP) ## Format, lint, types, import contracts, deployment settings, missing migrations
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target check-types check-rest

check-types: $(STAMP)
	DATA_DIR=.venv/check-types $(BIN)/mypy marketplace models_catalog finetuning

check-rest: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	DATA_DIR=.venv/check $(BIN)/python manage.py makemigrations --check --dry-run
	DATA_DIR=.venv/check ALLOWED_HOSTS=models.example.com SECRET_KEY=$$($(BIN)/python -c "import secrets; print(secrets.token_urlsafe(64))") $(BIN)/python manage.py check --deploy --fail-level WARNING

format: $(STAMP) ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the environment; data in ./var stays
	rm -rf .venv
