"""The claims, one module for each paper."""
