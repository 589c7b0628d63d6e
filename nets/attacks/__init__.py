"""Attacks on networks: any function from a batch of inputs to logits, any threat of the toolkit.

`gradient` has FGSM and PGD, `apgd` Auto-PGD, `square` the search without gradients and `linear` the
exact attack on linear networks. They raise one of the `losses`, stay in a `ball`, take the
`threats` by name, and return an `attack` result; `masking` asks whether they can be believed.
"""

__all__ = ["apgd", "attack", "ball", "gradient", "linear", "losses", "masking", "square", "threats"]
