"""Trained models in MLflow: as files, as logged models, and as what MLflow serves."""
