"""MLflow: runs, logging of typed payloads, models and the registry; the only floor that imports mlflow."""
