.DEFAULT_GOAL := help
# A worker takes a tenth less CPU with Debian's own Python than with one that pyenv has compiled (docs/performance.md).
PYTHON ?= $(shell for python in /usr/bin/python3.1[123] python3.11 python3.12 python3.13; do $$python -c "import ensurepip" 2>&- && break; done; echo $$python)
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help run demo admin test fuzz chaos bench bench-quick bench-recovery bench-scale profile check lock

help: ## What can be made
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

run: $(VENV)/ready ## Everything: servers, schema, topics, catalogue, worker; Ctrl-C stops it all
	@exec $(BIN)/python -m devstack run

demo: $(VENV)/ready ## Some hundreds of orders against the running worker, and what became of them
	@exec $(BIN)/python -m bench.demo

admin: $(VENV)/ready ## Make EMAIL an administrator of what `make run` runs; asks for a password
	@test -n "$(EMAIL)" || { echo "usage: make admin EMAIL=you@example.com"; exit 2; }
	@test -f .devstack/environment || { echo "make run is not running here"; exit 1; }
	@set -a; . ./.devstack/environment; exec $(BIN)/faust -A app create-admin --email "$(EMAIL)"

test: ARGS ?=
test: $(VENV)/ready ## All tests, on servers that they start themselves; or those of ARGS
	@exec $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

fuzz: CASES ?= 50000
fuzz: SEED ?= 1
fuzz: $(VENV)/ready ## CASES malformed and unusual requests (50,000), from SEED on; each answer held against OpenAPI
	@FUZZ_CASES=$(CASES) FUZZ_SEED=$(SEED) exec $(BIN)/python -m pytest tests/fuzz -o log_cli=true -o log_cli_level=INFO

chaos: ROUNDS ?= 5
chaos: SEED ?= 1
chaos: RATE ?= 6
chaos: $(VENV)/ready ## ROUNDS (5) of kills, cuts, stalls and poison under load, as SEED deals them; an audit after each
	@CHAOS_ROUNDS=$(ROUNDS) CHAOS_SEED=$(SEED) CHAOS_RATE=$(RATE) exec $(BIN)/python -m pytest tests/chaos/test_chaos.py -o log_cli=true -o log_cli_level=INFO

bench-recovery: $(VENV)/ready ## How long a worker takes to get ENTRIES (1,000,000) of a table back
	@exec $(BIN)/python -m bench.recovery --entries $(or $(ENTRIES),1000000)

bench: ARGS ?=
bench: $(VENV)/ready ## What the service can do on this machine, beside the limit: twenty minutes on a quiet one (ARGS=)
	@exec $(BIN)/python -m bench.run $(ARGS)

bench-quick: ARGS ?=
bench-quick: $(VENV)/ready ## One worker for a minute or two: its capacity, latency at half, CPU per order (ARGS=)
	@exec $(BIN)/python -m bench.run --quick --workers 1 --seconds 15 $(ARGS)

bench-scale: ARGS ?=
bench-scale: $(VENV)/ready ## By workers, partitions and orders already in the tables (ARGS="--orders 10000,1000000,10000000")
	@exec $(BIN)/python -m bench.scale $(ARGS)

profile: ARGS ?=
profile: $(VENV)/ready ## Where a worker under load spends its time, by function (ARGS="--native")
	@exec $(BIN)/python -m bench.profile $(ARGS)

check: $(VENV)/ready ## Formatting, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: $(VENV)/ready ## Pin the dependencies of pyproject.toml anew
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml -o requirements/app.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --all-extras -c requirements/app.txt pyproject.toml -o requirements/dev.txt

$(VENV)/ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))" || { echo "Python 3.11, 3.12 or 3.13 is needed: make $(MAKECMDGOALS) PYTHON=..."; exit 1; }
	@echo "Installing the locked dependencies into $(VENV) (about half a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(VENV)/ready
