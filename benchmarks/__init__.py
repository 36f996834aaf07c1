"""Ours beside what a user would write with the usual libraries, in the same run: `make bench`."""

import os

# Before any of them imports MLflow, which reports what it is used for.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
