"""Keys: of one generator whatever JAX takes by default, so that counts are the same."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sims
from sims.random import keys
from sims.sweep.plan import make_plan
from sims.sweep.run import sweep
from theory.claims.registry import find
from theory.domain import InvalidInput

CLAIM = find("gaussian-robust-risk-l2")


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, np.int64(5)])
def test_keys_are_those_of_jax_whatever_its_default(seed):
    expected = jax.random.key_data(jax.random.key(np.uint32(seed), impl="threefry2x32")).tolist()
    for generator in ("threefry2x32", "rbg", "unsafe_rbg"):
        with jax.default_prng_impl(generator):
            made = keys.key(seed)
            assert jax.random.key_data(made).tolist() == expected
            assert str(jax.random.key_impl(made)) == "threefry2x32"
            assert jax.random.key_data(keys.from_words(jax.random.key_data(made))).tolist() == (
                expected
            )
            keys.require_threefry(jax.random.split(made, 3))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (jax.random.key(0, impl="rbg"), "its generator is rbg; must be .*threefry2x32"),
        (jax.random.split(jax.random.key(0, impl="unsafe_rbg"), 3), "is unsafe_rbg"),
        (jax.random.PRNGKey(0), "must be a typed key"),
        (jnp.zeros(2), "must be a typed key"),
        (3, "key = 3: must be a typed key"),
        (None, "key = None: must be a typed key"),
    ],
)
def test_other_keys_are_refused(key, words):
    with pytest.raises(InvalidInput, match=words):
        keys.require_threefry(key)


def test_counts_do_not_follow_the_default_generator():
    grid, size = {"radius": (0.5,), "scale_ratio": (1,)}, {"trials": 2**14, "chunk": 2**14}
    counts = []
    for generator in ("threefry2x32", "rbg"):
        # Compiled anew: what one default has left in a cache must not hide the other.
        jax.clear_caches()
        with jax.default_prng_impl(generator):
            assert str(jax.random.key_impl(make_plan(CLAIM, grid).key(0))) == "threefry2x32"
            counts.append(sweep(CLAIM, grid, **size)["errors"].values.tolist())
    assert counts[0] == counts[1]


def test_every_key_of_the_package_is_made_in_one_place():
    made = {
        path.relative_to(pathlib.Path(sims.__file__).parent).as_posix()
        for path in pathlib.Path(sims.__file__).parent.rglob("*.py")
        if re.search(
            r"(?m)^[^\"#>]*random\.(?:key|PRNGKey|wrap_key_data)\(", path.read_text("utf-8")
        )
    }
    assert made == {"random/keys.py"}
