"""Ours beside what a user would write with the usual libraries, in the same run: `make bench`."""
