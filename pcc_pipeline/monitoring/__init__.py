"""What becomes of a version in use, as numbers: pure functions that read no file and no server."""
