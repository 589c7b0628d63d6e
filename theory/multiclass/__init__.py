"""theory/multiclass."""
