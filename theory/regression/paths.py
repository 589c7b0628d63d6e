"""Weights of least adversarial squared risk along their path from zero to the true weights.

Against l_inf the path is the population lasso, and against l_1 the path of the sup-norm penalty:
both are piecewise linear, and are followed from breakpoint to breakpoint by principal pivots of
the covariance (theory document C2; Efron et al. 2004). Against l_2 it is ridge regression. No
batched factorisation is used but one eigendecomposition a problem for l_2.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from theory.numerics import dense
from theory.numerics.arguments import checked_arguments
from theory.numerics.root import bracketed_root

MEAN_SIZE = (2 / jnp.pi) ** 0.5  # E|Z| of a standard normal Z: c of the theory document

# How many units of rounding, for each coordinate, count as nothing: pivots sum that many products.
_ROUNDING = 16


class Optimum(NamedTuple):
    """A point of the path, (d,) each.

    Args:
        weight: the minimiser.
        direction: v, with u = Sigma v the subgradient of the dual norm at the minimiser.
        free: which coordinates are not tied by the norm: non-zero ones for l_inf, those below the
            largest for l_1, all for l_2.
        sign: of the coordinates where the norm has a corner or a face.
        natural: whether the minimiser is the true weight itself, ().
    """

    weight: Array
    direction: Array
    free: Array
    sign: Array
    natural: Array


@checked_arguments
def penalty_radius(penalty: Array, deviation: Array, norm: Array) -> Array:
    """Returns the radius at which a point of the path is optimal, (...).

    Args:
        penalty: kappa >= 0, the multiplier of the dual norm, (...).
        deviation: s >= 0, the standard deviation of the residual, (...).
        norm: N >= 0, the dual norm of the weights, (...).

    Returns:
        The positive root of s N eps^2 + c (s^2 - kappa N) eps - kappa s, c = sqrt(2 / pi); zero
        where s = 0.

    References:
        moayeri2022explicit; theory document C2.

    >>> round(float(penalty_radius(1.0, 2.0, 0.0)), 6)  # kappa / (c s)
    0.626657
    """
    s, n = jnp.asarray(deviation), jnp.asarray(norm)
    linear = MEAN_SIZE * (s * s - penalty * n)
    root = jnp.sqrt(linear * linear + 4 * s * s * n * penalty)
    positive = linear > 0
    # Of the two forms of the root each is used where it adds numbers of one sign: no digit is lost.
    below = jnp.where(positive & (root > 0), linear + root, 1)
    twice = jnp.where(s * n > 0, 2 * s * n, 1)
    return jnp.where(positive, 2 * penalty * s / below, (root - linear) / twice)


class _PathState(NamedTuple):
    """Where the path is: w = start + level * slope on the free set, all as a pivoted table."""

    table: Array  # Sigma with the free coordinates exchanged
    free: Array
    sign: Array
    start: Array  # outputs of the table: w on the free set, Sigma w elsewhere, at level zero
    slope: Array  # and their rate in the level
    level: Array  # kappa for l_inf, falling; N for l_1, rising
    target: Array  # the level of the next breakpoint
    last: Array  # whether that is where the path ends
    steps: Array
    done: Array


def _largest(values: Array, allowed: Array) -> tuple[Array, Array]:
    """Returns where the largest allowed value is, and what it is; -inf if none is allowed."""
    kept = jnp.where(allowed, values, -jnp.inf)
    index = jnp.argmax(kept)
    return index, kept[index]


def _quotient(over: Array, under: Array) -> Array:
    """Returns over / under, (...), for use where `under` is not zero only."""
    return over / jnp.where(under == 0, 1, under)


def _lasso_event(
    state: _PathState, weight: Array, moment: Array, may_enter: Array
) -> tuple[Array, Array, Array, Array]:
    """Returns which coordinate reaches its bound next as kappa falls, its sign and the level.

    Of coordinates already there, those count that move outwards: ties cost steps of length zero.
    """
    # A free set with all true weights in it is right down to kappa = 0, where they are reached.
    covers = jnp.all(state.free | (weight == 0))
    start = jnp.where(covers, jnp.where(state.free, weight, moment), state.start)
    offset, rate = moment - start, -state.slope
    # Efron et al. (2004, section 3.1) go on where |Sigma (w_o - w)|_j of a feature that is not used
    # has come down to the common kappa, or where a weight crosses zero, which drops the feature.
    leaves = state.free & (state.slope * state.sign > 0)
    zero_at = -_quotient(start, state.slope)
    up, down = ~state.free & may_enter & (rate < 1), ~state.free & may_enter & (rate > -1)
    upper, lower = _quotient(offset, 1 - rate), -_quotient(offset, 1 + rate)
    at = jnp.where(leaves, zero_at, -jnp.inf)
    at = jnp.maximum(at, jnp.where(up, upper, -jnp.inf))
    rising = jnp.where(up, upper, -jnp.inf) >= jnp.where(down, lower, -jnp.inf)
    at = jnp.maximum(at, jnp.where(down, lower, -jnp.inf))
    # Rounding can put an event above the level that the path has come down to: it is due now.
    index, level = _largest(jnp.minimum(at, state.level), leaves | up | down)
    sign = jnp.where(rising[index], 1, -1).astype(moment.dtype)
    last = level <= _ROUNDING * moment.size * np.finfo(moment.dtype).eps * jnp.max(jnp.abs(moment))
    return index, sign, jnp.where(last, 0, level), last


def _sup_event(
    state: _PathState, weight: Array, moment: Array, may_enter: Array
) -> tuple[Array, Array, Array, Array]:
    """Returns which coordinate reaches its bound next as the largest weight N grows.

    The mirror of `_lasso_event`: a weight that reaches N is tied to it, and a tied one is released
    once its share of kappa is used up. Result as there.
    """
    w, rate = state.start, state.slope
    up, down = state.free & (rate > 1), state.free & (rate < -1)
    pull = (moment - state.start) * state.sign
    loss = jnp.where(~state.free, state.slope * state.sign, 0)
    released = ~state.free & may_enter & (loss > 0)
    at = jnp.where(up, _quotient(w, 1 - rate), jnp.inf)
    at = jnp.where(down, -_quotient(w, 1 + rate), at)
    at = jnp.where(released, _quotient(pull, loss), at)
    index, level = _largest(-jnp.maximum(at, state.level), up | down | released)
    # The path ends where the tied weights together pull no more: kappa, their sum, is zero.
    total, fall = jnp.sum(jnp.where(state.free, 0, pull)), jnp.sum(loss)
    end = jnp.where(fall > 0, total / jnp.where(fall > 0, fall, 1), state.level)
    last = -level >= end * (1 - _ROUNDING * w.size * np.finfo(w.dtype).eps)
    sign = jnp.where(rate[index] > 0, 1, -1).astype(w.dtype)
    return index, sign, jnp.where(last, end, -level), last


def _exchange(state: _PathState, index: Array, sign: Array, moment: Array, sup: bool) -> _PathState:
    """Returns the state after one coordinate has changed sides: a principal pivot.

    It takes d^2 operations and no factorisation, unlike a new solve of the free block.
    """
    here = jnp.arange(moment.size) == index
    row, leaving = state.table[index], state.free[index]
    # The table is symmetric within the two sets and antisymmetric between them.
    column = jnp.where(state.free == leaving, row, -row)
    pivot = row[index]
    table = state.table - column[:, None] * (row / pivot)[None, :]
    table = jnp.where(here[:, None], (-row / pivot)[None, :], table)
    table = jnp.where(here[None, :], (column / pivot)[:, None], table)
    table = jnp.where(here[:, None] & here[None, :], 1 / pivot, table)
    # Inputs of the table: Sigma w on the free set, w elsewhere, as start and slope.
    old_sign = state.sign[index]
    sign = jnp.where(leaving, sign if sup else old_sign, old_sign if sup else sign)
    inside = moment[index], jnp.zeros_like(sign) if sup else -sign
    outside = jnp.zeros_like(sign), sign if sup else jnp.zeros_like(sign)

    def move(values: Array, inner: Array, outer: Array) -> Array:
        goal, now = jnp.where(leaving, outer, inner), jnp.where(leaving, inner, outer)
        change = (goal - values[index]) / pivot
        return jnp.where(here, now + change, values + column * change)

    return state._replace(
        table=table,
        free=state.free ^ here,
        sign=jnp.where(here, sign, state.sign),
        start=move(state.start, inside[0], outside[0]),
        slope=move(state.slope, inside[1], outside[1]),
    )


def _measures(
    error: Array, pull: Array, weight: Array, noise: Array, sup: bool
) -> tuple[Array, Array]:
    """Returns s and N, from w_o - w, Sigma (w_o - w), w and sigma."""
    size = jnp.max(jnp.abs(weight)) if sup else jnp.sum(jnp.abs(weight))
    # The residual from Sigma (w_o - w), not from weights: the table has it, and s may be tiny.
    return jnp.sqrt(jnp.maximum(jnp.sum(error * pull), 0) + noise * noise), size


def _walk(
    weight: Array, covariance: Array, noise: Array, radius: Array, moment: Array, sup: bool
) -> _PathState:
    """Returns the segment of the path on which the radius lies."""
    dtype, size = weight.dtype, weight.size
    least = _ROUNDING * size * np.finfo(dtype).eps * jnp.diagonal(covariance)
    zero, event = jnp.zeros_like(moment), _sup_event if sup else _lasso_event
    sign = jnp.where(moment < 0, -1, 1).astype(dtype)

    def advance(state: _PathState) -> _PathState:
        # A coordinate that the free ones explain entirely has no weight of its own.
        may_enter = jnp.diagonal(state.table) > least
        index, sign, target, last = event(state, weight, moment, may_enter)
        reached = state.start + target * state.slope
        # One vector holds both sides: weights of the free coordinates, moments of the others.
        w = jnp.where(state.free, reached, target * state.sign if sup else 0)
        pull = moment - reached
        tied = jnp.sum(jnp.where(state.free, 0, pull * state.sign)) if sup else target
        pull = jnp.where(state.free, 0 if sup else target * state.sign, pull)
        s, n = _measures(weight - w, pull, w, noise, sup)
        # From zero weights to the true ones the radius falls (C2): one segment holds what is asked.
        done = last | (penalty_radius(tied, s, n) <= radius)
        moved = _exchange(state, index, sign, moment, sup)
        stay: _PathState = jax.tree.map(lambda old, new: jnp.where(done, old, new), state, moved)
        # An unbounded last segment still has its level.
        level = jnp.where(done, state.level, target)
        return stay._replace(
            level=level, target=target, last=last, steps=state.steps + 1, done=done
        )

    first = _PathState(
        covariance,
        jnp.zeros(size, bool),
        sign,
        zero,
        jnp.matmul(covariance, sign, precision=lax.Precision.HIGHEST) if sup else zero,
        jnp.zeros((), dtype) if sup else jnp.max(jnp.abs(moment)),
        jnp.zeros((), dtype),
        jnp.asarray(False),
        jnp.asarray(0),
        # nan would not end the loop by itself.
        ~jnp.isfinite(jnp.sum(moment) + jnp.sum(covariance) + noise + radius),
    )
    # A path has few more than d breakpoints; ties cost steps of length zero, which could go on.
    most = 16 * size + 32

    def unfinished(state: _PathState) -> Array:
        return ~state.done & (state.steps < most)

    segment: _PathState = lax.while_loop(unfinished, advance, first)
    return segment


@checked_arguments
def polyhedral_optimum(
    weight: Array, covariance: Array, noise: Array, radius: Array, sup: bool
) -> Optimum:
    """Returns the optimum against an l_inf (or, if `sup`, an l_1) ball, below the zero radius.

    Args:
        weight: true weights, (d,).
        covariance: symmetric positive semidefinite, (d, d).
        noise: standard deviation of y given x, >= 0, ().
        radius: in [0, zero radius], ().
        sup: whether the dual norm is the largest absolute weight; otherwise it is their sum.
    """

    def times(vector: Array) -> Array:
        return jnp.matmul(covariance, vector, precision=lax.Precision.HIGHEST)

    # The walk says which coordinates are free; the point itself is computed anew from them, so that
    # its error does not grow with the number of pivots.
    moment = times(weight)
    state = _walk(weight, covariance, noise, radius, moment, sup)
    free, sign = state.free, state.sign

    def complete(tied: Array, goal: Array) -> Array:
        """Returns the vector that is `tied` off the free set, with Sigma times it `goal` on it."""
        value = jnp.where(free, 0, tied)
        for _ in range(4):  # the table has gathered rounding errors, the covariance has not
            rest = jnp.where(free, goal - times(value), 0)
            step = jnp.matmul(state.table, rest, precision=lax.Precision.HIGHEST)
            value = value + jnp.where(free, step, 0)
        return value

    nothing = jnp.zeros_like(weight)
    low, high, last = state.target, state.level, state.last
    size = nothing[0]
    if sup:  # in units of kappa instead of N, which is counted from the mean of the tied weights
        tied = jnp.where(free, 0, sign)
        size = jnp.sum(tied * weight) / jnp.maximum(jnp.sum(jnp.abs(tied)), 1)
        error, slope = complete(weight - size * sign, nothing), complete(sign, nothing)
        offset, fall = jnp.sum(tied * times(error)), jnp.sum(tied * times(slope))
        fall = jnp.where(fall > 0, fall, 1)
        low, high = offset - (low - size) * fall, offset - (high - size) * fall
        error, slope, size = error - slope * (offset / fall), -slope / fall, size + offset / fall
    else:
        error, slope = complete(weight, nothing), complete(nothing, -sign)
    start = weight - error
    if sup:
        start = jnp.where(free, start, size * sign)
    low = jnp.where(last, 0, low)
    # The last segment ends at the true weight, or at what the covariance identifies of it.
    error = jnp.where(last, 0, error)
    pulls = times(error), times(slope)

    def excess(penalty: Array) -> Array:
        s, n = _measures(
            error - penalty * slope,
            pulls[0] - penalty * pulls[1],
            start + penalty * slope,
            noise,
            sup,
        )
        return penalty_radius(penalty, s, n) - radius

    penalty = bracketed_root(excess, jnp.maximum(low, 0), high)
    steep = jnp.sqrt(jnp.maximum(jnp.sum(slope * pulls[1]), 0))
    # Without noise the last segment ends at s = 0, where every kappa is zero: the true weights are
    # optimal for all radii up to c / sqrt(g' Sigma^-1 g), and `slope` is -Sigma^-1 g (C4.d).
    natural = last & ((radius == 0) | ((noise == 0) & (radius * steep <= MEAN_SIZE)))
    penalty = jnp.where(natural, 0, penalty)
    # v = (w_o - w) / kappa is error / kappa - slope; on the last segment `error` is zero.
    over = jnp.where(last, 1, jnp.where(penalty > 0, penalty, 1))
    return Optimum(start + penalty * slope, error / over - slope, free, sign, natural)


@checked_arguments
def ridge_optimum(weight: Array, covariance: Array, noise: Array, radius: Array) -> Optimum:
    """Returns the optimum against an l_2 ball, below the zero radius.

    Args:
        weight: true weights, (d,).
        covariance: symmetric positive semidefinite, (d, d).
        noise: standard deviation of y given x, >= 0, ().
        radius: in [0, zero radius], ().
    """
    values, vectors = dense.eigh(covariance)
    # Of directions in which the features do not vary nothing is known, and no weight is put there.
    kept = values > _ROUNDING * weight.size * np.finfo(weight.dtype).eps * values[-1]
    values = jnp.where(kept, values, 1)
    inside = jnp.where(kept, jnp.matmul(weight, vectors, precision=lax.Precision.HIGHEST), 0)

    def size(vector: Array) -> Array:
        return jnp.sqrt(jnp.sum(vector * vector))

    def excess(log_ridge: Array) -> Array:
        ridge = jnp.exp(log_ridge)
        error = inside / (1 + values / ridge)  # nothing overflows, whatever the ridge
        s, penalty = size(jnp.append(jnp.sqrt(values) * error, noise)), size(values * error)
        return penalty_radius(penalty, s, penalty / ridge) - radius

    # exp(-80) is below rounding even in float64, on either side of the largest eigenvalue.
    middle = jnp.log(values[-1])
    ridge = jnp.exp(bracketed_root(excess, middle - 80, middle + 80))
    steep = size(inside / jnp.sqrt(values))
    natural = (radius == 0) | ((noise == 0) & (radius * steep <= MEAN_SIZE * size(inside)))
    # (w_o - w) / ridge in the eigenbasis: v times ||w||, and it stays finite as the ridge vanishes.
    shrunk = inside / (values + jnp.where(natural, 0, ridge))
    n = size(values * shrunk)

    def back(vector: Array) -> Array:
        return jnp.matmul(vectors, vector, precision=lax.Precision.HIGHEST)

    direction = back(shrunk) / jnp.where(n > 0, n, 1)
    ones = jnp.ones_like(weight)
    return Optimum(back(values * shrunk), direction, ones > 0, ones, natural)
