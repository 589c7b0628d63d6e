"""nets/compute."""
