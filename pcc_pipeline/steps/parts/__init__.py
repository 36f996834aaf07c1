"""Data sets written in parts, one for each file of the input, by one process, several, or several machines."""
