"""figures/papers."""
