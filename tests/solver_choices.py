"""The problems that our own solvers take over, as hyperparameters."""

from __future__ import annotations

CHOICES = [
    {"solver": "liblinear", "penalty": "l1"},
    {"solver": "liblinear", "penalty": "l2"},
    {"solver": "saga", "penalty": "l1"},
    {"solver": "saga", "penalty": "l2"},
    {"solver": "saga", "penalty": "elasticnet", "l1_ratio": 0.5},
]
