"""MLflow: runs, logging of typed payloads, models and the registry; the only floor that imports mlflow."""

import os

# Before the first import of MLflow, whoever asks for it: it reports what it is used for unless the first stands there,
# and draws a bar for every small file. A user may still ask for both.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
