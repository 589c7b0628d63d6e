"""nets/objectives."""
