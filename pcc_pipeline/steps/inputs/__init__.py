"""What a step is given: files, vectors, and which rows train, validate and test."""
