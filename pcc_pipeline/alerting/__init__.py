"""Telling people: which alerts stand, what waits to be sent, and who gets it."""
