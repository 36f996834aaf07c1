"""What the management command answers: past runs and versions, and decisions about them."""
