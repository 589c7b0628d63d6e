"""Accuracy and cost of theory.stable against scipy: ``python benchmarks/stable.py``.

One core, medians over interleaved repetitions of one run. Cost is given in nanoseconds a value, in
units of one `jnp.exp` of the same dtype, and as a multiple of scipy's. Accuracy is judged by
tests/support/references/stable_reference.npz (mpmath). Takes about two minutes; prints tables,
passes no judgement. scipy evaluates the density at alpha = 0.5 and 1 in closed form; there the
ratio is marked.
"""

import functools
import os
import pathlib
import time
import warnings

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import levy_stable

from theory import stable

jax.config.update("jax_enable_x64", True)
warnings.simplefilter("ignore")

ALPHAS = (0.5, 0.9, 1.37, 1.9)
CLOSED_FORMS = {("pdf", 0.5)}
SIZE = 1 << 17
REPEATS = 15
REFERENCE = pathlib.Path(__file__).parents[1] / "tests/support/references/stable_reference.npz"


def nanoseconds(call, count):
    """Returns the time of one call, per value."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return (time.perf_counter() - start) / count * 1e9


def medians(calls):
    """Returns the median time of each of {name: (call, values)}, repetitions interleaved."""
    for call, _ in calls.values():
        jax.block_until_ready(call())
    rounds = [[nanoseconds(*pair) for pair in calls.values()] for _ in range(REPEATS)]
    return dict(zip(calls, np.median(rounds, axis=0), strict=True))


def scipy_call(name, argument, alpha, count):
    """Returns a call of scipy's function at `count` values, and that count."""
    values = np.asarray(argument, np.float64)[:count]
    alphas = np.broadcast_to(np.asarray(alpha, np.float64), argument.shape)[:count]
    return lambda: getattr(levy_stable, name)(values, alphas, 0.0), count


def contenders(dtype, alpha):
    """Returns the calls to be timed at one alpha, or at one alpha an element."""
    rng = np.random.default_rng(0)
    size = SIZE if alpha is not None else SIZE // 8
    x = jnp.asarray(np.exp(rng.uniform(-5, 8, size)), dtype)
    p = jnp.asarray(10 ** rng.uniform(-6, np.log10(0.5), size), dtype)
    alphas = jnp.asarray(rng.uniform(0.3, 2, size) if alpha is None else alpha, dtype)
    exponential = jax.jit(jnp.exp)
    calls = {"exp": (functools.partial(exponential, -x), size)}
    for name in ("sf", "pdf", "logsf", "isf"):
        argument = p if name == "isf" else x
        calls[name] = (functools.partial(getattr(stable, name), argument, alphas), size)
        if dtype == "float64" and name != "logsf":
            few = 1 if name == "isf" else 4
            calls[f"scipy {name}"] = scipy_call(name, argument, alphas, few)
    return calls


def print_costs():
    """Prints the cost of every function."""
    print(f"{'':24}{'ns/value':>12}{'exp':>8}{'x scipy':>12}")
    for dtype in ("float64", "float32"):
        for alpha in (*ALPHAS, None):
            times = medians(contenders(dtype, alpha))
            label = "one a value" if alpha is None else f"{alpha:g}"
            print(f"{dtype}, alpha {label}")
            for name in ("exp", "sf", "pdf", "logsf", "isf"):
                ratio = times[name] / times["exp"]
                row = f"  {name:22}{times[name]:12.2f}{ratio:8.1f}"
                if f"scipy {name}" in times:
                    row += f"{times[f'scipy {name}'] / times[name]:12,.0f}"
                    row += "  (scipy: closed form)" if (name, alpha) in CLOSED_FORMS else ""
                print(row)


def print_setup():
    """Prints the time to compile, and to evaluate one value at a new alpha."""
    jax.clear_caches()
    for name in ("sf", "pdf", "isf"):
        f = getattr(stable, name)
        first = nanoseconds(lambda f=f: f(0.3, 1.3), 1e9)
        fresh = [nanoseconds(lambda f=f, a=a: f(0.3, a), 1e3) for a in np.linspace(0.3, 2, 200)]
        print(
            f"{name}: compilation {first:.2f} s, one value at a new alpha {np.median(fresh):.0f} us"
        )


def print_accuracy():
    """Prints relative errors over the reference grid, of this package and of scipy."""
    with np.load(REFERENCE) as file:
        reference = dict(file)
    alpha, x = reference["alpha"][:, None], reference["x"][None, 1:]
    print(f"{'':24}{'median':>10}{'90%':>10}{'largest':>10}{'> 1e-6':>8}")
    for name in ("sf", "pdf"):
        truth = reference[name][:, 1:]
        kept = truth > np.finfo(np.float64).tiny
        peer = getattr(levy_stable, name)(*map(np.ravel, np.broadcast_arrays(x, alpha)), 0.0)
        peer = peer.reshape(truth.shape)
        ours = getattr(stable, name)(jnp.asarray(x), jnp.asarray(alpha))
        for label, value in (("", ours), ("scipy ", peer)):
            error = np.nan_to_num(np.abs(np.asarray(value) / np.where(kept, truth, 1) - 1), nan=1.0)
            error = error[kept]
            quantiles = np.quantile(error, [0.5, 0.9, 1])
            numbers = "".join(f"{q:10.1e}" for q in quantiles)
            print(f"{label + name:24}{numbers}{np.mean(error > 1e-6):8.1%}")


if __name__ == "__main__":
    print(f"jax {jax.__version__} on {jax.default_backend()}, {SIZE} values\n")
    print_costs()
    print()
    print_setup()
    print()
    print_accuracy()
