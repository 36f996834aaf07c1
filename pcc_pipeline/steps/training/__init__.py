"""What `train` does between reading its rows and writing its record: the search, and how the model answers."""
