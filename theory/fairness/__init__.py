"""theory/fairness."""
