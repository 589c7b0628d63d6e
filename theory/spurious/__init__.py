"""theory/spurious."""
