"""Random regressions under attack, and their risk and its minimum by direct search."""

import functools

import numpy as np
import pytest
from scipy import optimize

from theory.problem import L1Ball, L2Ball, LinfBall, Regression
from theory.regression.fit import fit
from theory.regression.risk import zero_radius

BALLS = {1.0: L1Ball, 2.0: L2Ball, np.inf: LinfBall}
ORDERS = pytest.mark.parametrize("p", sorted(BALLS))
C = np.sqrt(2 / np.pi)


def dual(p, weight):
    """The dual norm, from NumPy."""
    return np.linalg.norm(weight, {1.0: np.inf, 2.0: 2, np.inf: 1}[p])


def risk(problem, weight, radius, p):
    """(1 - 2/pi) s^2 + (c s + radius N)^2: the other way to write the risk."""
    error = problem.weight - weight
    square = error @ problem.covariance @ error + problem.noise**2
    reach = C * np.sqrt(square) + radius * dual(p, weight)
    return (1 - 2 / np.pi) * square + reach**2


def random_problems(seed, count, d, sizes=None):
    """Problems of up to d features; those that are not there are padded with pure noise."""
    rng = np.random.default_rng(seed)
    weight = np.zeros((count, d))
    covariance = np.tile(np.eye(d), (count, 1, 1))
    noise, share = rng.choice([0, 1e-3, 0.3, 1, 5.0], count), rng.uniform(0, 1.1, count)
    for i in range(count):
        k = d if sizes is None else rng.integers(*sizes)
        factor = rng.normal(size=(k, k + 1 + rng.integers(2 * k + 1)))
        scale = np.exp(rng.normal(size=k) / 2)
        covariance[i, :k, :k] = factor @ factor.T / factor.shape[1] * np.outer(scale, scale)
        weight[i, :k] = rng.normal(size=k) * (rng.random(k) < rng.uniform(0.2, 1))
        weight[i, 0] += weight[i, 0] == 0
    return Regression(weight, covariance, noise), share


def one_of(problem, i):
    return Regression._make(np.asarray(field[i]) for field in problem)


def as_numpy(problem):
    return type(problem)._make(np.asarray(field) for field in problem)


def dual_value(problem, weight, radius, p):
    """A lower bound on every risk, from the residual at `weight` alone (nothing is inverted)."""
    error, size = problem.weight - weight, dual(p, weight)
    r = problem.covariance @ error
    s, power = np.sqrt(error @ r + problem.noise**2), error @ r
    alpha, beta = 2 * (s + C * radius * size), 2 * radius * (C * s + radius * size)
    steps = np.linspace(0, min(beta / np.linalg.norm(r, p), alpha / np.sqrt(power)), 2001)
    inside = np.maximum(alpha**2 - steps**2 * power, 0)
    gain = steps * (r @ problem.weight) + problem.noise * np.sqrt(inside)
    return np.max(gain) - risk(problem, weight, radius, p)


def minimum(problem, radius, p, starts):
    """The least risk over smooth pieces: SLSQP on (w, t) with t at least the dual norm."""
    d = len(problem.weight)

    def value(z):
        error = problem.weight - z[:d]
        square = error @ problem.covariance @ error + problem.noise**2
        return (1 - 2 / np.pi) * square + (C * np.sqrt(square) + radius * z[-1]) ** 2

    def room(z):
        if p == 1:
            return np.concatenate([z[-1] - z[:d], z[-1] + z[:d]])
        if p == 2:
            return np.array([z[-1] - np.sqrt(z[:d] @ z[:d] + 1e-300)])
        bound = z[d : 2 * d]
        return np.concatenate([bound - z[:d], bound + z[:d], [z[-1] - bound.sum()]])

    best = np.inf
    for start in starts:
        parts = [start, np.abs(start)] if p == np.inf else [start]
        z = np.concatenate([*parts, [dual(p, start)]])
        found = optimize.minimize(
            value,
            z,
            method="SLSQP",
            constraints={"type": "ineq", "fun": room},
            options={"ftol": 1e-15, "maxiter": 500},
        )
        best = min(best, risk(problem, found.x[:d], radius, p))
    return best


@functools.cache
def small_fits(p):
    """Twelve problems, their radii, and their fits."""
    problem, share = random_problems(1, 12, 3)
    radius = share * np.asarray(zero_radius(problem, BALLS[p](0.0)))
    return as_numpy(problem), radius, fit(problem, BALLS[p](radius))
