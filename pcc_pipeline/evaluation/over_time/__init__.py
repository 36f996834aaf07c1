"""What changes with time: scores, and the messages themselves."""
