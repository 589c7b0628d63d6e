"""Attacks on networks: any function from a batch of inputs to logits, any threat of the toolkit."""
