"""nets/data."""
