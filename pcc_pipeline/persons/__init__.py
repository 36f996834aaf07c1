"""Who stood in which rows, by keyed hashes: what is needed to find a person again, and tells nobody without the key."""
