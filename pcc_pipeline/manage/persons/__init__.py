"""What is asked of persons: where their rows went, what is held of them, and what must be kept."""
