"""What an evaluation tells people: its facts, put once into sections, and these written as a page or as Markdown."""
