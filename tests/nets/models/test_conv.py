"""Convolution and pooling against loops in NumPy and against JAX's own derivatives."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.compute import compiler
from nets.models import conv
from theory.domain import InvalidInput

PLAIN = "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"
# strides, kernel, image, padding: both parities of the size, and sizes that a stride leaves rows of
CASES = [
    (1, (1, 1), (5, 4), 0),
    (1, (3, 3), (7, 5), 1),
    (1, (3, 3), (6, 7), "VALID"),
    (1, (5, 5), (7, 6), "SAME"),
    (1, (3, 2), (5, 5), ((2, 0), (1, 3))),
    (2, (1, 1), (7, 8), 0),
    (2, (1, 1), (5, 6), ((1, 2), (0, 1))),
    (2, (3, 3), (7, 8), 1),
    (2, (3, 3), (8, 5), "SAME"),
    (2, (3, 3), (6, 8), "VALID"),
    (2, (5, 5), (9, 6), 2),
    ((2, 1), (5, 3), (9, 6), ((0, 3), (2, 0))),
]


def arrays(kernel, image, seed=0, dtype=float, features=4):
    rng = np.random.default_rng(seed)
    x, k = rng.normal(size=(2, *image, 3)), rng.normal(size=(*kernel, 3, features))
    return jnp.asarray(x, dtype), jnp.asarray(k, dtype)


def pads_of(padding, image, kernel, steps):
    if padding == "VALID":
        return (0, 0), (0, 0)
    if padding == "SAME":
        lacking = [
            max((-(-n // s) - 1) * s + k - n, 0)
            for n, k, s in zip(image, kernel, steps, strict=True)
        ]
        return tuple((m // 2, m - m // 2) for m in lacking)
    return ((padding, padding),) * 2 if isinstance(padding, int) else padding


def by_loops(x, kernel, steps, pads):
    """Cross-correlation as it is defined: one window at a time."""
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    height, width = kernel.shape[:2]
    rows = range(0, x.shape[1] - height + 1, steps[0])
    columns = range(0, x.shape[2] - width + 1, steps[1])
    out = np.zeros((x.shape[0], len(rows), len(columns), kernel.shape[3]))
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            seen = x[:, top : top + height, left : left + width]
            out[:, i, j] = np.tensordot(seen, kernel, 3)
    return out


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolution_and_gradients_are_those_of_the_definition_and_of_jax(case):
    strides, kernel, image, padding = case
    steps = (strides, strides) if isinstance(strides, int) else strides
    pads = pads_of(padding, image, kernel, steps)
    x, k = arrays(kernel, image)
    expected = by_loops(np.asarray(x), np.asarray(k), steps, pads)
    g = jnp.asarray(np.random.default_rng(1).normal(size=expected.shape))

    @jax.jit
    def all_of(x, k, g):
        y, pull = jax.vjp(lambda x, k: conv.conv(x, k, strides, padding), x, k)
        own = conv.lax_input_gradient(x, k, g, steps, pads)
        return y, *pull(g), own, conv.lax_kernel_gradient(x, k, g, steps, pads)

    y, dx, dk, own_dx, own_dk = all_of(x, k, g)
    assert y.shape == expected.shape
    assert relative(y, expected) < 1e-12
    assert relative(dx, own_dx) < 1e-12
    assert relative(dk, own_dk) < 1e-12
    # The adjoint identity ties the gradients to the loops, not only to JAX.
    assert np.vdot(x, dx) == pytest.approx(np.vdot(expected, g), rel=1e-11)
    assert np.vdot(k, dk) == pytest.approx(np.vdot(expected, g), rel=1e-11)


def gradients_text(platform, steps):
    x, k = arrays((3, 3), (7, 7), dtype=jnp.float32)
    gradients = jax.grad(lambda x, k: conv.conv(x, k, steps, 1).sum(), (0, 1))
    return jax.jit(gradients).trace(x, k).lower(lowering_platforms=(platform,)).as_text()


def test_on_cpu_every_convolution_is_plain_so_that_loop_bodies_are_fast():
    for steps, count in ((1, 2), (2, 1)):
        text = gradients_text("cpu", steps)
        assert text.count("stablehlo.convolution") == text.count(PLAIN) == count
        assert not re.search(r"(lhs|rhs)_dilate = \[2, 2\]", text)
    own = gradients_text("cuda", 2)
    assert own.count("stablehlo.convolution") == 2
    assert own.count(PLAIN) < 2
    assert "dilate = [2, 2]" in own


def test_an_attacks_loop_does_not_compute_the_kernels_gradient():
    x, k = arrays((3, 3), (7, 7), dtype=jnp.float32)
    climb = jax.grad(lambda x: jnp.square(conv.conv(x, k)).sum())
    climbed = compiler.jit(lambda x: jax.lax.fori_loop(0, 3, lambda _, z: z + climb(z), x))
    text = jax.jit(climbed).lower(x).compile().as_text()
    assert len(re.findall(r"\bconvolution\(", text)) == 2  # of the images, and of their gradient


@pytest.mark.parametrize("steps", [1, 2])
def test_a_batch_of_kernels_is_the_loop_over_them(steps):
    pairs = [arrays((3, 3), (5, 6), seed) for seed in range(3)]
    x, k = (jnp.stack(part) for part in zip(*pairs, strict=True))

    def energy(x, k):
        return jnp.sin(conv.conv(x, k, steps, 1)).sum()

    gradient = jax.value_and_grad(energy, (0, 1))
    together = jax.jit(jax.vmap(gradient))(x, k)
    single = jax.jit(gradient)
    for i in range(3):
        alone = single(x[i], k[i])
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            assert relative(a[i], b) < 1e-12


def test_forward_mode_says_that_it_is_not_there():
    x, k = arrays((3, 3), (5, 5))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(conv.conv, (x, k), (x, k))


def test_pooling_is_the_same_on_both_roads_with_ties_odd_sizes_and_nan():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (3, 7, 5, 4)).astype(float)  # most windows have ties
    x[0, 0, 1, 0] = x[1, 3, 2, 1] = x[2, 0, 0, 0] = np.nan
    g = jnp.asarray(rng.normal(size=(3, 3, 2, 4)))
    expected = np.empty((3, 3, 2, 4))
    for i, j in np.ndindex(3, 2):
        expected[:, i, j] = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((1, 2))
    for pool in (conv.max_pool, conv.pool_by_slices, conv.pool_by_windows):
        np.testing.assert_array_equal(pool(jnp.asarray(x)), expected)
    finite = jnp.asarray(np.nan_to_num(x))
    slow, fast = (
        jax.jit(lambda x, pool=pool: jax.vjp(pool, x)[1](g)[0])(finite)
        for pool in (conv.pool_by_windows, conv.max_pool)
    )
    np.testing.assert_array_equal(slow, fast)
    first = jax.grad(lambda x: conv.max_pool(x).sum())(jnp.ones((1, 2, 2, 1)))
    assert first[0, :, :, 0].tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_the_layer_reads_a_flax_checkpoint():
    x, _ = arrays((1, 1), (7, 6), dtype=jnp.float32)
    for settings in ({}, {"strides": 2, "padding": 1, "use_bias": False}):
        theirs, ours = (kind(5, (3, 3), **settings) for kind in (nn.Conv, conv.Conv))
        shapes = [jax.eval_shape(layer.init, jax.random.key(0), x) for layer in (theirs, ours)]
        assert shapes[0] == shapes[1]
        variables = jax.tree.map(lambda a: jnp.full(a.shape, 0.3, a.dtype), shapes[0])
        variables["params"]["kernel"] = arrays((3, 3), (1, 1), 1, jnp.float32, 5)[1]
        np.testing.assert_allclose(
            ours.apply(variables, x), theirs.apply(variables, x), rtol=1e-5, atol=1e-5
        )
    narrow = jax.eval_shape(conv.Conv(5, (3, 3), dtype=jnp.bfloat16).apply, variables_of_bias(), x)
    assert narrow.dtype == jnp.bfloat16


def variables_of_bias():
    shapes = {"kernel": (3, 3, 3, 5), "bias": (5,)}
    return {"params": {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes.items()}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"x": jnp.zeros((1, 4, 4, 2))}, r"x.shape = \(1, 4, 4, 2\): must be .* the c of kernel"),
        ({"x": jnp.zeros((4, 4, 3))}, r"x.shape = \(4, 4, 3\)"),
        ({"padding": "valid"}, "padding = 'valid': must be 'SAME', 'VALID' or numbers"),
        ({"padding": -1}, "padding = -1: must be one or two integers >= 0"),
        ({"strides": 0}, "strides = 0: must be one or two integers >= 1"),
        ({"x": jnp.zeros((1, 2, 9, 3)), "padding": 0}, "axis 1, must be no smaller than .* 3"),
    ],
)
def test_a_convolution_refuses(settings, message):
    x, k = arrays((3, 3), (5, 5))
    with pytest.raises(InvalidInput, match=message):
        conv.conv(**({"x": x, "kernel": k} | settings))


def test_pooling_refuses_what_it_would_empty():
    with pytest.raises(InvalidInput, match=r"x.shape = \(1, 1, 4, 2\): must be"):
        conv.max_pool(jnp.zeros((1, 1, 4, 2)))


def test_compiler_options_are_dropped_where_they_are_unknown(monkeypatch):
    double = compiler.jit(lambda x, times: x * times, static_argnames="times")
    compiler.options.cache_clear()
    monkeypatch.setattr(compiler, "_CPU_OPTIONS", {"xla_there_is_no_such_option": ""})
    assert compiler.options() == {}
    assert double(2.0, times=3) == 6
    compiler.options.cache_clear()


def test_a_function_with_options_works_under_every_transformation():
    square = compiler.jit(lambda x: x * x)
    assert square(3.0) == jax.jit(square)(3.0) == compiler.jit(lambda x: square(x))(3.0) == 9
    assert jax.grad(square)(3.0) == 6
    assert jax.vmap(square)(jnp.arange(3.0)).tolist() == [0, 1, 4]
