"""Whether a version may become the champion: criteria, evidence and verdicts, as pure functions."""
