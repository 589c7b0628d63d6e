"""sims/rare."""
