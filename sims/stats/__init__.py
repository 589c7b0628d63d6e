"""sims/stats."""
