"""What a version is judged by: evidence for the gates of a promotion, and the outlook that an evaluation gives."""
