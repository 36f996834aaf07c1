"""Solvers of logistic regression for scikit-learn's own objectives: numbers in, numbers out."""
