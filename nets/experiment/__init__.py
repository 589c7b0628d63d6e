"""nets/experiment."""
