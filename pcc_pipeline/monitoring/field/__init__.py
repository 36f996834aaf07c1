"""Which of two versions is better by the labels that came back, and how many that takes."""
