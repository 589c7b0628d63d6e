"""theory/numerics."""
