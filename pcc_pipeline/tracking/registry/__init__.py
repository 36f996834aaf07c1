"""MLflow's registry: versions, the champion, whose turn it is to move it, and what goes with a version."""
