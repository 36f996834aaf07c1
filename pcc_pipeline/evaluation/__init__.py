"""What a model is worth: metrics, figures, report, predictions: pure functions of (y, probabilities, classes)."""
