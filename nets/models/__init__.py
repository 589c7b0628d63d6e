"""nets/models."""
