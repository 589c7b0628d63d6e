"""Directions of largest robust margin when the noise has a covariance.

The margin (w . Delta - radius ||w||_q) / sqrt(w' Sigma w) is largest at w = Sigma^-1 (Delta - z),
where z, ||z||_p <= radius, is the perturbation that leaves the least Mahalanobis length to the
means: a convex program, whose value bounds every margin from above (theory document T3).
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from theory.numerics import dense
from theory.numerics.interior_point import solve_quadratic
from theory.numerics.local_search import ascend
from theory.numerics.norms import power_norm
from theory.numerics.root import bracketed_root

# From p = 2 to p: values of p on the way, and Newton steps at each. Fixed, to keep a batch in step.
_HOMOTOPY_STEPS, _NEWTON_STEPS = 16, 6


@functools.partial(jax.jit, static_argnames="p")
def direction(
    delta: Array, radius: Array, covariance: Array, p: float
) -> tuple[Array, Array, Array]:
    """Returns the weight, (d,), an upper bound on every margin, (), and whether it is exact, ().

    The bound is nan from the radius on at which no margin is positive. A covariance that is not
    positive definite gives nan.

    Args:
        delta: half the difference of the class means, (d,), not all zero.
        radius: of the l_p ball, >= 0, ().
        covariance: (d, d), symmetric positive definite.
        p: order of the norm, in [1, inf].

    References:
        bhagoji2019lowerbounds; dan2020sharp; theory document T3.
    """
    # In units of order one: tolerances below are absolute, and float32 must not overflow.
    top, unit = jnp.max(jnp.abs(delta)), jnp.max(jnp.diagonal(covariance))
    delta, radius, covariance = delta / top, radius / top, covariance / unit
    lower = dense.cholesky(covariance)
    delta = delta + 0 * lower[-1, -1]  # nan, unless positive definite
    inside = radius < _norm(delta, p)
    if p == 2:
        weight, exact = _against_l2(delta, radius, covariance)
    else:
        solve, beyond, known = {
            1.0: (_against_l1, _beyond_l1, False),
            jnp.inf: (_against_linf, _beyond_linf, True),
        }.get(p, (_against_lp, _beyond_lp, False))
        problem = delta, radius, covariance
        # A branch, not a `where`: the other solver is as costly. Under vmap both are taken.
        weight = lax.cond(inside, lambda: solve(*problem, p=p), lambda: beyond(*problem, p=p))
        exact = ~inside & known
    weight = jnp.where(jnp.isnan(lower[-1, -1]), jnp.nan, weight)
    # From the weight and not from the solver's multipliers: it certifies what is handed out.
    bound = _dual_value(*lax.stop_gradient((weight, delta, radius, covariance)), p)
    return weight, jnp.where(inside, bound * top / jnp.sqrt(unit), jnp.nan), exact


# Not `theory.rules.risk.dual_norm`: here p is static, and inf has its own formula.
def _norm(vector: Array, p: float) -> Array:
    return jnp.max(jnp.abs(vector)) if p == jnp.inf else power_norm(vector, p)


def dual_length(weight: Array, p: float) -> Array:
    """Returns the norm of one weight, (d,), dual to ||.||_p."""
    return _norm(weight, 1.0 if p == jnp.inf else jnp.inf if p == 1 else p / (p - 1))


def _dual_value(weight: Array, delta: Array, radius: Array, covariance: Array, p: float) -> Array:
    """Returns the Mahalanobis length left by the perturbation that belongs to the weight."""
    # The multiple of the weight for which Sigma w comes closest to Delta - z.
    loss = radius * dual_length(weight, p)
    scale = (weight @ delta - loss) / (weight @ covariance @ weight)
    # At the optimum this z is the worst perturbation; else, shrunk into the ball, it is feasible
    # all the same, and the dual value of any feasible z is an upper bound.
    z = delta - scale * covariance @ weight
    length = _norm(z, p)
    z = z * jnp.minimum(1, radius / jnp.where(length > 0, length, 1))
    left = delta - z
    return jnp.sqrt(left @ dense.solve(covariance, left))


def _against_l2(delta: Array, radius: Array, covariance: Array) -> tuple[Array, Array]:
    """Returns w = ((1 - c) Sigma + c I)^-1 Delta with c ||w|| = radius, Sigma of top eigenvalue 1.

    c < 1 inside the margin and c > 1 beyond it, where this is still the least negative margin: -t
    is the least radius of an ellipsoid about Delta that reaches out of the ball, a trust region
    problem. It is not exact if the radius is so large that c escapes: no part of Delta then lies
    along the longest axis.
    """
    # Constants bracket c and scale the equation; derivatives come from the root alone.
    values, axes = dense.eigh(lax.stop_gradient(covariance))
    largest = values[-1]
    components = axes.T @ lax.stop_gradient(delta)
    share = lax.stop_gradient(radius) / power_norm(components, 2.0)
    # Inside, c ||Delta|| <= c ||w|| = radius as no eigenvalue exceeds 1. Beyond, c is at least the
    # share, and at most radius over the part of Delta along the longest axis. Slack for rounding.
    slack = 1 + 16 * jnp.finfo(delta.dtype).eps
    along = jnp.maximum(jnp.abs(components[-1]), 1e-9 * power_norm(components, 2.0))
    low = jnp.where(share > 1, share / slack, 0)
    high = jnp.where(share > 1, slack * lax.stop_gradient(radius) / along, slack * share)

    def weight(c: Array, delta: Array, covariance: Array) -> Array:
        identity = jnp.eye(len(delta), dtype=delta.dtype)
        return dense.solve((1 - c) * covariance / largest + c * identity, delta)

    def excess(c: Array, delta: Array, radius: Array, covariance: Array) -> Array:
        return c * power_norm(weight(c, delta, covariance), 2.0) - radius

    c = bracketed_root(excess, low, high, delta, radius, covariance)
    accuracy = jnp.sqrt(jnp.finfo(delta.dtype).eps)
    exact = jnp.abs(excess(c, delta, radius, covariance)) <= accuracy * (1 + radius)
    return weight(c, delta, covariance), exact


def _on_face(basis: Array, loss: Array, used: Array, delta: Array, covariance: Array) -> Array:
    """Returns the best weight among basis @ y, where the dual norm times the radius is loss @ y.

    Entries of y that are not `used` are zero. The face is locally constant, so this carries the
    derivative of the optimum, and its accuracy.
    """
    basis = jnp.where(used[None], basis, 0)
    unused = jnp.diag(jnp.where(used, 0, 1).astype(delta.dtype))
    y = dense.solve(
        basis.T @ covariance @ basis + unused, basis.T @ delta - jnp.where(used, loss, 0)
    )
    return basis @ y


def _against_linf(delta: Array, radius: Array, covariance: Array, p: float) -> Array:
    fixed_delta, fixed_radius, fixed = lax.stop_gradient((delta, radius, covariance))
    identity = jnp.eye(len(delta), dtype=delta.dtype)
    precision = dense.inverse(fixed)
    # In z / radius, and the objective divided by the radius: nothing vanishes at radius 0.
    rows = jnp.concatenate([identity, -identity])
    share, multiplier, room = solve_quadratic(
        fixed_radius * precision, precision @ fixed_delta, rows, jnp.ones(len(rows), delta.dtype)
    )
    # A coordinate has weight where its perturbation is at the bound: strict complementarity tells
    # by which of multiplier and room is the larger.
    used = jnp.any((multiplier > room).reshape(2, -1), 0)
    sign = jnp.where(share < 0, -1, 1).astype(delta.dtype)
    return _on_face(identity, radius * sign, used, delta, covariance)


def _against_l1(delta: Array, radius: Array, covariance: Array, p: float) -> Array:
    fixed_delta, fixed_radius, fixed = lax.stop_gradient((delta, radius, covariance))
    count, dtype = len(delta), delta.dtype
    identity, zero = jnp.eye(count, dtype=dtype), jnp.zeros((count, count), dtype)
    precision = dense.inverse(fixed)
    # Variables: z / radius, and u >= |z / radius| whose sum is at most 1.
    rows = jnp.block([[identity, -identity], [-identity, -identity]])
    rows = jnp.concatenate([rows, jnp.repeat(jnp.asarray([0, 1], dtype), count)[None]])
    limits = jnp.zeros(2 * count + 1, dtype).at[-1].set(1)
    quadratic = jnp.block([[fixed_radius * precision, zero], [zero, zero]])
    linear = jnp.concatenate([precision @ fixed_delta, jnp.zeros(count, dtype)])
    solution, _, _ = solve_quadratic(
        quadratic, linear, rows, limits, jnp.repeat(jnp.asarray([0, 0.5 / count], dtype), count)
    )
    share = solution[:count]
    weight = precision @ (fixed_delta - fixed_radius * share)
    largest = jnp.max(jnp.abs(weight))
    # z lives on the coordinates of the largest |w| alone: complementarity again, in relative terms.
    tied = jnp.abs(share) > (largest - jnp.abs(weight)) / largest
    sign = jnp.where(weight < 0, -1, 1).astype(dtype)
    # One common size on the tied coordinates, and the others free.
    basis = jnp.concatenate([jnp.where(tied, sign, 0)[:, None], identity], 1)
    used = jnp.concatenate([jnp.ones(1, bool), ~tied])
    loss = radius * (jnp.arange(count + 1) == 0).astype(dtype)
    return _on_face(basis, loss, used, delta, covariance)


def _against_lp(delta: Array, radius: Array, covariance: Array, p: float) -> Array:
    """Returns the weight by Newton's method on the optimality conditions, from p = 2 to p.

    With sign and size in x, z = radius sgn|x|^a and w = c sgn|x|^b, b / a = p - 1 and the smaller
    exponent 1, they are c Sigma sgn|x|^b + radius sgn|x|^a = Delta and ||z||_p = radius.
    """

    # Both exponents are at least 1, so that residual and Jacobian are smooth at x = 0.
    def powers(order: Array) -> tuple[Array, Array]:
        ratio = order - 1
        return jnp.maximum(1 / ratio, 1), jnp.maximum(ratio, 1)

    def signed(x: Array, exponent: Array) -> Array:
        size = jnp.where(x == 0, 1, jnp.abs(x))
        return jnp.where(x == 0, 0, jnp.sign(x) * size**exponent)

    def residual(
        state: Array, order: Array, delta: Array, radius: Array, covariance: Array
    ) -> Array:
        x, level = state[:-1], jnp.exp(state[-1])
        a, b = powers(order)
        balance = level * covariance @ signed(x, b) + radius * signed(x, a) - delta
        length = power_norm(signed(x, a), order) - 1
        return jnp.concatenate([balance, length[None]])

    def improve(state: Array, order: Array, *problem: Array) -> Array:
        # Newton's step or the share of it that leaves the least residual; zero is among them.
        value = residual(state, order, *problem)
        step = dense.solve(jax.jacobian(residual)(state, order, *problem), value)
        shares = jnp.asarray([1, 0.5, 0.25, 0.1, 0.03, 0], state.dtype)
        tried: Array = jax.vmap(lambda share: state - share * step)(shares)
        sizes = jax.vmap(lambda s: power_norm(residual(s, order, *problem), 2.0))(tried)
        return tried[jnp.nanargmin(sizes)]

    fixed = lax.stop_gradient((delta, radius, covariance))
    share = fixed[1] / power_norm(fixed[0], p)

    def move(state: Array, order: Array) -> tuple[Array, None]:
        # The radius moves along: the same share of ||Delta||_order keeps the problem inside.
        reached = share * power_norm(fixed[0], order)
        return improve(state, order, fixed[0], reached, fixed[2]), None

    weight, _ = _against_l2(fixed[0], share * power_norm(fixed[0], 2.0), fixed[2])
    length = power_norm(weight, 2.0)
    start = jnp.append(weight / length, jnp.log(length))
    fractions = jnp.linspace(0, 1, _HOMOTOPY_STEPS + 1, dtype=delta.dtype)[1:]
    # p - 1 in equal ratios: p and its dual order are treated alike.
    orders = 1 + jnp.asarray(p - 1, delta.dtype) ** jnp.repeat(fractions, _NEWTON_STEPS)
    state, _ = lax.scan(move, start, orders)
    order = jnp.asarray(p, delta.dtype)
    state = lax.custom_root(
        lambda s: residual(s, order, delta, radius, covariance),
        state,
        lambda _, solution: solution,
        lambda linear, change: dense.solve(jax.jacobian(linear)(change), change),
    )
    return signed(state[:-1], powers(order)[1])


def _beyond_linf(delta: Array, radius: Array, covariance: Array, p: float) -> Array:
    """Returns the one coordinate of least negative margin, which no other weight beats."""
    margins = (jnp.abs(delta) - radius) / jnp.sqrt(jnp.diagonal(covariance))
    single: Array = jax.nn.one_hot(jnp.argmax(margins), len(delta), dtype=delta.dtype)
    return jnp.where(delta < 0, -single, single)


def _beyond_l1(delta: Array, radius: Array, covariance: Array, p: float) -> Array:
    """Returns the best vector of signs found by flipping one sign at a time."""

    def margin(signs: Array) -> Array:
        return (signs @ delta - radius) / jnp.sqrt(signs @ covariance @ signs)

    def flip(_: int, signs: Array) -> Array:
        tried = signs[None] * (1 - 2 * jnp.eye(len(delta), dtype=delta.dtype))
        tried = jnp.concatenate([signs[None], tried])
        return tried[jnp.argmax(jax.vmap(margin)(tried))]

    # Starts: the signs of Delta, and of each eigenvector turned to its side; the small multiple of
    # Delta decides the signs of zeros.
    _, axes = dense.eigh(covariance)
    starts = jnp.concatenate([delta[None], (delta @ axes)[:, None] * axes.T + 1e-9 * delta[None]])
    signs = jnp.where(starts < 0, -1, 1).astype(delta.dtype)
    local: Array = lax.map(lambda s: lax.fori_loop(0, 2 * len(delta), flip, s), signs)
    return lax.stop_gradient(local[jnp.argmax(jax.vmap(margin)(local))])


def _beyond_lp(delta: Array, radius: Array, covariance: Array, p: float) -> Array:
    """Returns the best of local searches from Delta, the axes and the eigenvectors."""

    def margin(w: Array) -> Array:
        loss = radius * power_norm(w, p / (p - 1))
        return (w @ delta - loss) / jnp.sqrt(w @ covariance @ w)

    delta, radius, covariance = lax.stop_gradient((delta, radius, covariance))
    _, axes = dense.eigh(covariance)
    starts = jnp.concatenate([delta[None], axes.T, jnp.eye(len(delta), dtype=delta.dtype)])
    starts = jnp.where((starts @ delta < 0)[:, None], -starts, starts) + 0.01 * delta[None]
    maximisers, values = lax.map(lambda start: ascend(margin, start), starts)
    best: Array = maximisers[jnp.argmax(values)]
    return best
