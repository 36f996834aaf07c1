"""What a user runs: each step takes the configuration and returns a frozen outcome."""
