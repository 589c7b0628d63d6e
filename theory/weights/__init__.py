"""Class weights, radii and logit shifts of published training methods, from what they measured.

`dafa` has the weights by class similarity (and TRIX, built on it), `long_tail` the remedies from
class counts alone, and `rules` those of FRL, CFA, WAT, FAAL and CFOL. Pure functions: `nets` calls
the same ones in training that `theory` calls in its formulas.
"""

__all__ = ["dafa", "long_tail", "rules"]
