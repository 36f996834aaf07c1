"""One module a file format: rows in bounded batches, and errors that name the line."""
