"""sims/cli."""
