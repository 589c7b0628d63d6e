"""Random numbers that are functions of a key and an index alone, the same on every device.

`keys` are of one generator, `bits` random words, `draws` Gaussian and stable numbers made of them,
without the cut-off tails of float32 uniforms, and `polynomials` the elementary functions that keep
this fast.
"""

__all__ = ["bits", "draws", "keys", "polynomials"]
