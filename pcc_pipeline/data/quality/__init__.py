"""What is to be known of a file before anything is made of it: repeated texts, sizes of classes, its whole profile."""
