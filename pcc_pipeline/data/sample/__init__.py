"""The generated sample set that `make run` trains on."""
