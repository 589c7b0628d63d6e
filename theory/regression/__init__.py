"""theory/regression."""
