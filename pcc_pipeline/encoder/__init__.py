"""The sentence encoder: texts to 384 numbers, by the fastest backend that is exact enough, each text once."""
