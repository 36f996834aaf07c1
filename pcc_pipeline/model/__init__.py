"""Classifiers by name, balancing of training rows, and what a fold or a final model is fitted with."""
