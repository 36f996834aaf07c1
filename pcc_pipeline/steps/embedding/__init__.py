"""Rows with their sentence vectors: how they are made, and the file that they are written into."""
