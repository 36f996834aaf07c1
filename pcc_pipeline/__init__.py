"""Training side of the Privacy Case Classifier: embed, train, evaluate and version text classifiers with MLflow."""

__version__ = "0.1.0"
