"""sims/noise."""
