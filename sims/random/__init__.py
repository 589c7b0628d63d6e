"""sims/random."""
