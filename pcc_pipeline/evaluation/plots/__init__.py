"""Figures of a training and of an evaluation."""
