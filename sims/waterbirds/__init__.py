"""sims/waterbirds."""
