"""Networks of one hidden layer, trained in a second, and their exact worst cases by HiGHS."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize

from nets.attacks.gradient import ascend
from nets.attacks.losses import cross_entropy
from theory.problem import LinfBall

SIZE, HIDDEN, CLASSES = 16, 12, 4


def points(count, seed, dtype=np.float32):
    """Returns x in [0, 1], (count, 16), and y: four overlapping clouds."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(99).uniform(0.25, 0.75, (CLASSES, SIZE))
    y = rng.integers(0, CLASSES, count)
    x = np.clip(means[y] + rng.normal(0, 0.1, (count, SIZE)), 0, 1)
    return jnp.asarray(x, dtype), jnp.asarray(y, jnp.int32)


def logits(params, x):
    """Returns the logits of the network, (B, 4); without a hidden layer it is linear."""
    for weight, bias in params[:-1]:
        x = jax.nn.relu(x @ weight + bias[None])
    weight, bias = params[-1]
    return x @ weight + bias[None]


@functools.partial(jax.jit, static_argnames=("hidden", "radius"))
def train(hidden=HIDDEN, radius=0.0):
    """Returns the weights after 300 full-batch gradient steps, adversarially if radius > 0."""
    x, y = points(400, 0)
    sizes = (SIZE, hidden, CLASSES) if hidden else (SIZE, CLASSES)
    keys = jax.random.split(jax.random.key(0), len(sizes))
    params = [
        (jax.random.normal(k, (a, b), jnp.float32) / a**0.5, jnp.zeros(b, jnp.float32))
        for k, a, b in zip(keys, sizes, sizes[1:], strict=False)
    ]
    tool = optax.sgd(0.1, momentum=0.9)

    def update(state, _):
        params, memory = state

        def loss(params, x):
            return cross_entropy(logits(params, x), y)

        there = x
        if radius:
            there = ascend(lambda v: loss(params, v), x, x, LinfBall(radius), steps=5, step=0.4)
        slope = jax.grad(lambda p: jnp.mean(loss(p, there)))(params)
        change, memory = tool.update(slope, memory)
        return (optax.apply_updates(params, change), memory), None

    return jax.lax.scan(update, (params, tool.init(params)), length=300)[0][0]


def exact_margin(params, x, y, radius):
    """Returns bounds (reached, impossible to pass) of the largest margin in ball and box.

    One mixed-integer linear program for each other class (Tjeng, Xiao and Tedrake 2019), in which
    every hidden unit that can change its sign is one binary variable. The first is the margin of
    the network at the solver's point, the second the solver's bound.
    """
    (w1, b1), (w2, b2) = ([np.asarray(a, float) for a in layer] for layer in params)
    low, high = np.maximum(x - radius, 0), np.minimum(x + radius, 1)
    middle, spread = (low + high) / 2 @ w1 + b1, (high - low) / 2 @ np.abs(w1)
    floor, top = middle - spread, middle + spread
    hidden, reached, bound = w1.shape[1], -np.inf, -np.inf
    zero, one = np.zeros((hidden, hidden)), np.eye(hidden)
    # Variables: inputs, activations, binaries. a >= h, a <= h - floor (1 - z), a <= top z.
    f, t = np.diag(np.minimum(floor, 0)), np.diag(np.maximum(top, 0))
    rows = np.block([[-w1.T, one, zero], [-w1.T, one, -f], [np.zeros_like(w1.T), one, -t]])
    upper = np.concatenate([np.full(hidden, np.inf), b1 - np.minimum(floor, 0), np.zeros(hidden)])
    lower = np.concatenate([b1, np.full(2 * hidden, -np.inf)])
    limits = scipy.optimize.Bounds(
        np.concatenate([low, np.zeros(hidden), (floor > 0) * 1.0]),
        np.concatenate([high, np.maximum(top, 0), (top > 0) * 1.0]),
    )
    kind = np.repeat([0, 0, 1], [len(x), hidden, hidden])
    for other in set(range(w2.shape[1])) - {int(y)}:
        cost = np.concatenate([0 * x, w2[:, y] - w2[:, other], np.zeros(hidden)])
        # A gap of 0: the default would stop where the bound is only near.
        solution = scipy.optimize.milp(
            cost,
            integrality=kind,
            bounds=limits,
            constraints=scipy.optimize.LinearConstraint(rows, lower, upper),
            options={"mip_rel_gap": 0},
        )
        assert solution.status == 0, solution.message
        # Clipped, since the solver's point may lie outside by its own tolerance.
        there = np.clip(solution.x[: len(x)], low, high)
        z = np.maximum(there @ w1 + b1, 0) @ w2 + b2
        reached = max(reached, np.delete(z, y).max() - z[y])
        bound = max(bound, b2[other] - b2[y] - solution.mip_dual_bound)
    return reached, bound
