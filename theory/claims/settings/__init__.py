"""theory/claims/settings."""
