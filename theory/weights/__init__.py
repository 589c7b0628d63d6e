"""theory/weights."""
