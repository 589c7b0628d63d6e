"""figures/kit."""
