"""figures/results."""
