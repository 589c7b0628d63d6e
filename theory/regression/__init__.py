"""Linear regression under attack: squared risks, the weights of least risk, and their paths.

`risk` has the risk of any weights and its minimiser, `paths` the minimiser for every radius at
once, `pair` the case of one core and one spurious feature in closed form, and `fit` numerical fits
that carry a bound on what they miss.
"""

__all__ = ["fit", "pair", "paths", "risk"]
