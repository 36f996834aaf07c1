"""How what a run says reaches MLflow: at once, later, or by `resume`, and never twice."""
