# The commands of pcc_pipeline; each makes what it needs. `make help` lists them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Entry points run `python` and `mlflow` from PATH.
ACTIVE := PATH="$(CURDIR)/$(BIN):$$PATH"
EXPERIMENT ?= pcc-intent
ARGS ?=
# Test processes side by side.
WORKERS ?= 2
PORT ?= 5000
STATE ?= outputs/server
# MLflow would report each command, and each page of its UI, to its makers.
export MLFLOW_DISABLE_TELEMETRY ?= true
export DO_NOT_TRACK ?= true

.DEFAULT_GOAL := help
.PHONY: help run test test-long check bench ui server server-stop clean pins

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 20

# Installed anew when the dependencies change; otherwise what stands is used.
$(VENV)/installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not on PATH; install Python 3.11 with venv, or: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing packages into $(VENV) (several minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,openvino]'
	@touch $@

run: $(VENV)/installed  ## train on the sample (or ARGS="-P data=cases.csv"): embed, train, evaluate, register
	@test -n "$$MLFLOW_TRACKING_URI" -o -e mlflow.db || $(ACTIVE) python entrypoints/manage_models.py init
	@$(ACTIVE) mlflow run . --env-manager local --experiment-name $(EXPERIMENT) $(ARGS)
	@echo "browse:    make ui"

# A file's tests share what takes long to make, so they stay in one process, and the long files begin.
PYTEST = $(ACTIVE) $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(VENV)/installed  ## run the tests, but for those that take minutes each
	@$(PYTEST) -m "not long" $(ARGS)

test-long: $(VENV)/installed  ## run the tests that take minutes each
	@$(PYTEST) -m long $(ARGS)

check: $(VENV)/installed  ## format, lint, types and architecture
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_architecture.py

bench: $(VENV)/installed  ## time the pipeline against the usual libraries, side by side
	@$(BIN)/python -m benchmarks $(ARGS)

ui: $(VENV)/installed  ## open MLflow's UI on the local store at http://127.0.0.1:5000
	@$(ACTIVE) mlflow ui --host 127.0.0.1 --port 5000

server: $(VENV)/installed  ## start the tracking server on this machine: PostgreSQL, a bucket emulator, MLflow with accounts
	@$(BIN)/python deploy/local_server.py start --port $(PORT) --state "$(STATE)"

server-stop: $(VENV)/installed  ## end what `make server` started, and nothing else
	@$(BIN)/python deploy/local_server.py stop --state "$(STATE)"

pins: $(VENV)/installed  ## write constraints.txt from what is installed in .venv
	@{ head -1 constraints.txt; $(BIN)/python -m pip list --format=freeze --exclude-editable | grep -viE '^(pip|setuptools|wheel)==' | sed 's/+cpu//'; } > constraints.new
	@mv constraints.new constraints.txt

clean:  ## remove .venv, outputs and the local MLflow store; end the server of outputs first
	@if [ -f outputs/server/state.json ] && [ -x $(BIN)/python ]; then $(BIN)/python deploy/local_server.py stop; fi
	rm -rf $(VENV) outputs mlflow.db mlruns mlartifacts .pytest_cache .mypy_cache .ruff_cache *.egg-info
