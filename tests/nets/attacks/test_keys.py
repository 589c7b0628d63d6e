"""Random numbers of a sample: its own key decides, whatever generator JAX takes by default."""

import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nets
from nets.attacks.attack import Target, keys_of
from nets.attacks.gradient import pgd
from nets.training import monitor
from theory.domain import InvalidInput
from theory.problem import LinfBall

X = np.full((3, 4), 0.5, np.float32)
TARGET = Target(X, np.zeros(3, np.int32), LinfBall(np.float32(0.1)))


def network(x):
    return jnp.stack([x[:, 0], x[:, 1]], 1)


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_keys_of_other_generators_are_refused(impl):
    key = jax.random.key(0, impl=impl)
    for keys in (key, jax.random.split(key, 3)):
        with pytest.raises(InvalidInput, match=f"key: its generator is {impl}, .*threefry2x32"):
            keys_of(keys, 3)
        with pytest.raises(InvalidInput, match="its generator"):
            pgd(keys, network, TARGET, steps=1)
    with pytest.raises(InvalidInput, match="typed key"):
        keys_of(jnp.zeros(2, jnp.uint32), 3)


def test_the_other_way_to_draw_from_a_key_is_refused():
    with jax.threefry_partitionable(False), pytest.raises(InvalidInput, match="partitionable"):
        keys_of(jax.random.key(0, impl="threefry2x32"), 3)


def drawn():
    """Numbers of which none may depend on the default: of the package's own keys."""
    keys = monitor._keys(jnp.uint32(3), jnp.arange(4, dtype=jnp.uint32))
    return jax.random.key_data(keys).tolist()


def test_every_key_that_the_package_makes_names_its_generator():
    made = [
        call
        for path in pathlib.Path(nets.__file__).parent.rglob("*.py")
        for call in re.findall(r"(?m)^[^\"#]*random\.(?:key|PRNGKey)\(.*$", path.read_text("utf-8"))
    ]
    assert len(made) >= 5
    for call in made:
        assert 'impl="threefry2x32"' in call or "keys.key(" in call, call


@pytest.mark.slow
@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_the_packages_own_keys_do_not_follow_the_environment(impl):
    environment = os.environ | {"JAX_DEFAULT_PRNG_IMPL": impl}
    code = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); import test_keys;"
        "print(test_keys.drawn())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == str(drawn()), done.stderr
