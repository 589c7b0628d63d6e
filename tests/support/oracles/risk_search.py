"""Direct minimisation of the population risk over weights and intercept: no direction, no shift.

`python -m support.oracles.risk_search 40` in `tests` tries 40 random settings for each law and
norm, and prints the gaps.
"""

import functools
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from theory import problem, stable
from theory.rules import optimal
from theory.rules import risk as linear

BALLS = {
    1: problem.L1Ball,
    1.5: lambda radius: problem.LpBall(radius, 1.5),
    2: problem.L2Ball,
    3: lambda radius: problem.LpBall(radius, 3.0),
    np.inf: problem.LinfBall,
}
# Laws, the norms for which the optimum is claimed, and radii as a share of ||Delta||_p.
LAWS = {
    "isotropic": (tuple(BALLS), (0, 0.2, 0.5, 0.8)),
    "covariance": (tuple(BALLS), (0, 0.2, 0.5, 0.8)),
    "stable": (tuple(BALLS), (0, 0.2, 0.5, 0.8)),
    "cauchy": (tuple(BALLS), (0, 0.2, 0.5, 0.8)),
    "below one": ((1, np.inf), (0, 0.2, 0.5, 0.8)),
    "elliptical": (tuple(BALLS), (0, 0.2, 0.5, 0.8)),
    "isotropic, beyond": ((1, 2, np.inf), (1.0, 1.05, 1.5)),
    "covariance, beyond": ((2, np.inf), (1.0, 1.05, 1.5)),
    "stable, beyond": ((1, np.inf), (1.0, 1.05, 1.5)),
}


@functools.partial(jax.jit, static_argnames="gaussian")
@jax.value_and_grad
def _risk(parts, delta, scales, prior, radius, alpha, matrix, p, gaussian):
    """Returns the risk at means -delta and +delta, with w = parts[0] - parts[1], b = parts[2, 0].

    Both parts are non-negative and their sum stands for |w|: never less than it, and equal at the
    optimum, so that every norm is smooth inside the bounds. Against l_1 they are at most 1, which
    stands for the largest of them.
    """
    weight, size, bias = parts[0] - parts[1], parts[0] + parts[1], parts[2, 0]
    between = (p > 1) & (p < jnp.inf)
    q = jnp.where(between, p / jnp.where(between, p - 1, 1), 2)
    length = jnp.sum((size + 1e-300) ** q) ** (1 / q)
    dual = jnp.where(between, length, jnp.where(p == 1, 1, jnp.sum(size)))
    if matrix is not None:
        scale = jnp.sqrt(weight @ matrix @ weight)
    else:
        scale = jnp.sum((size + 1e-300) ** alpha) ** (1 / alpha)
    survival = jax.scipy.stats.norm.sf if gaussian else (lambda x: stable.sf(x, alpha))
    negative = survival((weight @ delta - bias - radius * dual) / (scales[0] * scale))
    positive = survival((weight @ delta + bias - radius * dual) / (scales[1] * scale))
    return (1 - prior) * negative + prior * positive


def least_risk(delta, scales, prior, radius, p, alpha=2.0, matrix=None, gaussian=True, starts=()):
    """Returns the least risk found by bounded quasi-Newton searches, constant rules included."""
    d, found = len(delta), [prior, 1 - prior]
    limit = 1.0 if p == 1 else None
    bounds = [(0, limit)] * (2 * d) + [(None, None)] * d
    if matrix is None:
        # Turning the sign of a weight against its gap only costs, and a sum of both parts beyond
        # |w| would overstate the scale, which helps where the margin is negative.
        for i, gap in enumerate(delta):
            bounds[d + i if gap >= 0 else i] = (0, 0)

    def value(x):
        arguments = (x.reshape(3, d), delta, scales, prior, radius, alpha, matrix)
        risk, gradient = _risk(*arguments, p=jnp.asarray(float(p)), gaussian=gaussian)
        return float(risk), np.asarray(gradient, float).ravel()

    def descend(begin, **options):
        return optimize.minimize(
            value, begin, jac=True, method="L-BFGS-B", bounds=bounds, options=options
        )

    largest, rough = np.abs(delta) > np.abs(delta).max() * 0.99, []
    for start in (np.sign(delta), delta, delta * largest, *starts):
        unit = start / np.abs(start).max()
        for bias in (0.0, np.sign(prior - 0.5) * np.abs(delta).max()):
            begin = np.concatenate([np.maximum(unit, 0), np.maximum(-unit, 0), np.zeros(d)])
            begin[2 * d] = bias
            rough.append(descend(begin, maxiter=300, ftol=1e-13, maxcor=20))

    # The best of the rough searches go on, afresh from where they stopped: their memory is of the
    # way that led there. Shaken a little, the best of all may leave a kink at which it was stuck.
    def polish(result):
        for _ in range(3):
            result = descend(result.x, maxiter=3000, maxfun=6000, ftol=1e-17, gtol=1e-13, maxcor=30)
        return result

    best = min(map(polish, sorted(rough, key=_value)[:3]), key=_value)
    shaking = np.random.default_rng(0)
    for size in (0.1, 0.01, 0.001):
        shaken = best.x * np.exp(size * shaking.normal(size=3 * d))
        best = min(best, polish(descend(shaken, maxiter=300)), key=_value)
    return min(*found, best.fun)


def _value(result):
    return result.fun


def random_problem(rng, law, p, d):
    """Returns a random mixture centred at zero, its threat, and the arguments of `least_risk`."""
    delta = rng.normal(size=d) * rng.uniform(0.5, 3) / d**0.25
    scales = np.exp(rng.normal(size=2) * 0.5)
    if "beyond" not in law and rng.random() < 0.5:
        scales[:] = 1
    prior, share = rng.uniform(0.1, 0.9), rng.choice(LAWS[law][1])
    radius = share * np.linalg.norm(delta, p)
    square = rng.normal(size=(d, d))
    matrix = square @ square.T / d + 0.2 * np.eye(d)
    means = np.stack([-delta, delta])
    alpha = {"cauchy": 1.0, "below one": rng.choice([0.5, 0.8])}.get(
        law, rng.choice([1.05, 1.2, 1.5, 1.8])
    )
    kind = law.split(",")[0]
    mixture, options = {
        "isotropic": (problem.GaussianMixture(means, scales, prior), {}),
        "covariance": (problem.GaussianMixture(means, scales, prior, matrix), {"matrix": matrix}),
        "elliptical": (
            problem.EllipticalStableMixture(means, scales, prior, alpha, matrix),
            {"matrix": matrix, "alpha": alpha, "gaussian": False},
        ),
    }.get(
        kind,
        (problem.StableMixture(means, scales, prior, alpha), {"alpha": alpha, "gaussian": False}),
    )
    starts = [np.eye(d)[i] * np.sign(delta[i]) for i in range(min(d, 2))] + [square[0]]
    arguments = {"delta": delta, "scales": scales, "prior": prior, "radius": radius, "p": p}
    return mixture, BALLS[p](radius), arguments | options | {"starts": starts}


def attained_risk(mixture, threat):
    """Returns the risk of the rule under test, and whether it is constant.

    Its parts are compiled one by one: all laws and norms share that of the intercept.
    """
    rule = optimal.optimal_classifier(mixture, threat)
    return linear.risk(mixture, rule, threat), jnp.all(rule.weight == 0)


def main(count):
    """Prints, for each law and norm, how far the search stays above the optimum, least and most."""
    rng = np.random.default_rng(2024)
    for law, (orders, _) in LAWS.items():
        for p in orders:
            begin, gaps, constant = time.time(), [], 0
            for _ in range(count):
                mixture, threat, arguments = random_problem(
                    rng, law, p, int(rng.choice([1, 5, 20]))
                )
                mine, trivial = attained_risk(mixture, threat)
                gaps.append(least_risk(**arguments) - float(mine))
                constant += bool(trivial)
            print(
                f"{law}, p = {p}: search - optimum in [{min(gaps):.1e}, {max(gaps):.1e}], "
                f"{constant} of {count} constant, {time.time() - begin:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main(int(sys.argv[1]))
