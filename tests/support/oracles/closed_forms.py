"""Independent roads to the numbers that the package gives in closed form, in mpmath."""

import itertools

import mpmath as mp
import numpy as np

mp.mp.dps = 25


def dual_norm(weight: np.ndarray, p: float) -> mp.mpf:
    """Returns the largest weight . delta over ||delta||_p <= 1, from the ball's own geometry."""
    w = [mp.mpf(float(v)) for v in weight]
    if p == 1:  # the vertices of the cross-polytope
        return max(max(v, -v) for v in w)
    if p == np.inf:  # each coordinate of the cube is free
        return mp.fsum(max(v, -v) for v in w)
    # Lagrange: delta_i is proportional to sign(w_i) |w_i|^(1 / (p - 1)).
    power = [abs(v) ** (mp.mpf(1) / (mp.mpf(p) - 1)) for v in w]
    length = mp.fsum(v ** mp.mpf(p) for v in power) ** (1 / mp.mpf(p))
    return (
        mp.fsum(a * abs(b) for a, b in zip(power, w, strict=True)) / length if length else mp.mpf(0)
    )


def gaussian_exponent(weight, covariance):
    """Returns t -> -log of the characteristic function of weight . noise, Gaussian."""
    d = len(weight)
    variance = mp.fsum(
        mp.mpf(float(weight[i])) * mp.mpf(float(covariance[i, j])) * mp.mpf(float(weight[j]))
        for i, j in itertools.product(range(d), range(d))
    )
    return lambda t: t * t * variance / 2


def stable_exponent(weight, alpha):
    """Returns t -> -log of the characteristic function of weight . noise, independent stable."""
    a = mp.mpf(float(alpha))
    powers = mp.fsum(abs(mp.mpf(float(w))) ** a for w in weight)
    return lambda t: t**a * powers


def probability_below(z, exponent, reach):
    """Returns P(Z < z) by Gil-Pelaez inversion of exp(-exponent(t)), for a symmetric law.

    Args:
        reach: where the characteristic function has fallen below the working precision.
    """
    z = mp.mpf(z)
    pieces = max(6, int(abs(z) * reach / 12) + 1)
    edges = mp.linspace(0, reach, pieces + 1)
    integral = mp.quad(lambda t: mp.sin(t * z) * mp.exp(-exponent(t)) / t, edges, maxdegree=5)
    return mp.mpf(1) / 2 + integral / mp.pi


def class_risk(label, mean, scale, weight, bias, radius, p, exponent, reach):
    """Returns P(label * (weight . (x - worst) + bias) <= 0 | label) by inversion.

    `exponent` belongs to weight . noise at unit class scale; past `reach` it leaves nothing.
    """
    score = mp.fsum(
        mp.mpf(float(w)) * mp.mpf(float(m)) for w, m in zip(weight, mean, strict=True)
    ) + mp.mpf(float(bias))
    margin = mp.mpf(float(radius)) * dual_norm(weight, p) - label * score
    return probability_below(margin / mp.mpf(float(scale)), exponent, reach)
