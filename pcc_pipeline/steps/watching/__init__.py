"""What is watched of files of messages: one file after another, or many at a time, and then all rows as one set."""
