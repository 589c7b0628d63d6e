"""theory/rules."""
