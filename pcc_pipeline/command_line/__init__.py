"""The command line: `pcc` and the scripts in entrypoints/, which are the same code. Nothing heavy loads for --help."""
