"""Flax networks under the same threat models and reports."""
