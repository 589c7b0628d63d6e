"""sims/simulate."""
