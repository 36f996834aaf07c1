"""What is held of persons, and its removal with all that came of it."""
