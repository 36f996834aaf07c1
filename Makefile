# The commands of pcc_pipeline; each makes what it needs. `make help` lists them.
# The Python that makes .venv; without a name the first from 3.11 to 3.14 that is there and has venv.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
# Entry points run `python` and `mlflow` from PATH.
ACTIVE := PATH="$(CURDIR)/$(BIN):$$PATH"
EXPERIMENT ?= pcc-intent
ARGS ?=
# Test processes side by side.
WORKERS ?= 2
# On macOS AirPlay listens on 5000.
PORT ?= $(if $(filter Darwin,$(shell uname -s)),5050,5000)
STATE ?= outputs/server
# MLflow would report each command, and each page of its UI, to its makers.
export MLFLOW_DISABLE_TELEMETRY ?= true
export DO_NOT_TRACK ?= true

.DEFAULT_GOAL := help
.PHONY: help to-run to-answer to-serve to-develop run serve test test-long check bench ui server server-stop clean docs pins

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 20

# Each makes .venv, or mends it, and installs what is needed for that; what stands and is up to date is used as it is.
to-run to-answer to-serve to-develop:
	@sh deploy/venv.sh $@ "$(VENV)" "$(PYTHON)"

run: to-run  ## train on the sample (or ARGS="-P data=cases.csv"): embed, train, evaluate, register
	@test -n "$$MLFLOW_TRACKING_URI" -o -e mlflow.db || $(ACTIVE) python entrypoints/manage_models.py init
	@$(ACTIVE) mlflow run . --env-manager local --experiment-name $(EXPERIMENT) $(ARGS)
	@echo "browse:    make ui"

serve: to-answer  ## answer messages over HTTP by the champion (ARGS="--port 8001"); it prints a line to try it with
	@$(ACTIVE) pcc serve $(ARGS)

# A file's tests share what takes long to make, so they stay in one process, and the long files begin.
# A process that dies is not replaced: xdist would wait for ever for what it had left to do.
# Hundreds of processes are begun: none of them is to compile the package anew, whatever this machine's Python is told.
PYTEST = $(ACTIVE) PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# Those that send signals to their own process have one without the threads and libraries of all others; 5: none is meant.
test: to-develop  ## run the tests, but for those that take longest
	@$(PYTEST) -m "not long and not signals" $(ARGS) || [ $$? -eq 5 ]
	@$(ACTIVE) $(BIN)/python -m pytest $(ARGS) -m "signals and not long" || [ $$? -eq 5 ]

test-long: to-develop  ## run the tests that take longest
	@$(PYTEST) -m long $(ARGS)

check: to-develop  ## format, lint, floors, types and architecture
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_architecture.py

bench: to-develop  ## time the pipeline against the usual libraries, side by side
	@$(BIN)/python -m benchmarks $(ARGS)

ui: to-run  ## MLflow's UI on the local store (PORT=5050 names another port), with the address of the runs
	@$(BIN)/python deploy/local_ui.py --port $(PORT) --experiment "$(EXPERIMENT)"

server: to-serve  ## start the tracking server on this machine: PostgreSQL, a bucket emulator, MLflow with accounts
	@$(BIN)/python deploy/local_server.py start --port $(PORT) --state "$(STATE)"

server-stop: to-serve  ## end what `make server` started, and nothing else
	@$(BIN)/python deploy/local_server.py stop --state "$(STATE)"

docs: to-develop  ## write the table of options into docs/configuration.md, from the schema and params.yaml
	@$(BIN)/python -m pcc_pipeline.config.reference

pins: to-develop  ## write constraints.txt from what is installed in .venv
	@installed=$$($(BIN)/python -m pip list --format=freeze --exclude-editable) && { head -1 constraints.txt; echo "$$installed" | grep -viE '^(pip|setuptools|wheel)==' | sed 's/+cpu//'; } > constraints.new
	@mv constraints.new constraints.txt

clean:  ## remove .venv, outputs and the local MLflow store; end the server of outputs first
	@if [ -f outputs/server/state.json ] && [ -x $(BIN)/python ]; then $(BIN)/python deploy/local_server.py stop; fi
	rm -rf $(VENV) outputs mlflow.db mlruns mlartifacts .pytest_cache .mypy_cache .ruff_cache *.egg-info
