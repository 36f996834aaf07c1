"""Whether to train again: which files there are, what demands it, and what stands against it."""
