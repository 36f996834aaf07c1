"""From texts to 584 numbers: 384 of a frozen sentence encoder and 200 of TF-IDF reduced by truncated SVD."""
