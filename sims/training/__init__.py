"""sims/training."""
