"""nets/evaluation."""
