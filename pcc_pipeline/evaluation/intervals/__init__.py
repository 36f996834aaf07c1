"""How far a score could be from its value by the luck of the test rows: of labels that were said, of probabilities."""
