"""Candidates one after another: none, grid, random or Optuna behind one Searcher, and the driver that runs them."""
