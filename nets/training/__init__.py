"""nets/training."""
