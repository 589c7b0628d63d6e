"""nets/runs."""
