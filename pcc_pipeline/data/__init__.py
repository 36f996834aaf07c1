"""Readers, the column contract, quarantine of bad rows, fingerprint, splits, duplicates and the sample set."""
