"""What is claimed of the noise itself: tail probabilities, and the ways in which they could be off.

Not a claim of a paper but what every other claim rests on, at many thresholds at once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from theory import stable
from theory.domain import InvalidInput

# Tail probabilities at which thresholds are set, and their mirror images.
LEVELS = (*np.linspace(0.48, 0.04, 12), *np.geomspace(0.02, 1e-4, 8))


class LawTails(NamedTuple):
    """Tail probabilities at increasing thresholds, and their derivatives in a parameter, (n,)."""

    thresholds: np.ndarray
    beyond: np.ndarray
    directions: dict[str, np.ndarray]


def law_tails(alpha: float | None, /, **off: float) -> LawTails:
    """Returns P(scale X + shift > t) for standard noise X, in float64.

    Args:
        alpha: stability index in [0.1, 2], or None for N(0, 1).
        off: errors planted in "scale" (its logarithm), "alpha" (where there is one) and "shift".

    Returns:
        40 thresholds at which the standard law has tail probabilities from 1e-4 to 1 - 1e-4, and
        the derivatives in the logarithm of the scale, in the shift and in alpha.

    Raises:
        InvalidInput: for alpha out of range or an unknown error.

    >>> tails = law_tails(1.0)
    >>> bool(abs(np.arctan(1 / tails.thresholds[-1]) / np.pi - 1e-4) < 1e-12)
    True
    >>> sorted(tails.directions)
    ['alpha', 'scale', 'shift']
    """
    if alpha is not None and not 0.1 <= alpha <= 2:
        raise InvalidInput(f"alpha = {alpha}: stability index, must lie in [0.1, 2], or be None")
    names = ("scale", "shift") if alpha is None else ("scale", "shift", "alpha")
    if unknown := set(off) - set(names):
        raise InvalidInput(f"off = {sorted(unknown)}: must be among {names}")
    with jax.enable_x64(True):
        levels = jnp.asarray(LEVELS, jnp.float64)
        index = jnp.asarray(2.0 if alpha is None else alpha, jnp.float64)
        # N(0, 1) is the law of index 2 at scale 1 / sqrt(2).
        half = stable.isf(levels, index) / (np.sqrt(2.0) if alpha is None else 1.0)
        thresholds = jnp.concatenate([-half, half[::-1]])
        planted = [jnp.asarray(off.get(name, 0.0), jnp.float64) for name in names]

        def beyond(*parameters: jax.Array) -> jax.Array:
            log_scale, shift, *rest = parameters
            standard = (thresholds - shift) * jnp.exp(-log_scale)
            return stable.sf(standard, index + rest[0]) if rest else ndtr(-standard)

        slopes = jax.jacfwd(beyond, argnums=tuple(range(len(names))))(*planted)
        directions = {n: np.asarray(slope) for n, slope in zip(names, slopes, strict=True)}
        order = np.argsort(np.asarray(thresholds))
        return LawTails(
            np.asarray(thresholds)[order],
            np.asarray(beyond(*planted))[order],
            {name: slope[order] for name, slope in directions.items()},
        )
