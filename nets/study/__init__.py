"""nets/study."""
