"""sims/projection."""
