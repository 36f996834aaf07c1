"""What people read of a step: pages of their own, and notes in MLflow's."""
