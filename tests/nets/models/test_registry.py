"""Networks: published sizes, the structure against NumPy, starting weights, refusals."""

import math
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.models.conv import pool_by_windows
from nets.models.network import INITIALISERS
from nets.models.registry import (
    NAMES,
    build,
    count_parameters,
    initialise,
    logits_fn,
    of_settings,
)
from theory.domain import InvalidInput

KEY = jax.random.key(0)
MNIST, CIFAR = (28, 28, 1), (32, 32, 3)
PUBLISHED = {  # as PyTorch counts the networks of the papers' or the most copied code
    ("logistic", MNIST): 7850,
    ("mlp", CIFAR): 3072 * 200 + 200 + 200 * 10 + 10,
    ("small-cnn", MNIST): 312_202,
    ("preact-resnet-18", CIFAR): 11_172_170,
    ("resnet-18", CIFAR): 11_173_962,
    ("wrn-28-10", CIFAR): 36_479_194,
    ("vgg-11", CIFAR): 9_231_114,
    ("vgg-16", CIFAR): 14_728_266,
}


def shapes_of(name, image, **options):
    module = build(name, 10, **options)
    return module, jax.eval_shape(lambda key: initialise(key, module, image), KEY)


@pytest.mark.parametrize(("name", "image"), PUBLISHED)
def test_a_network_has_the_published_number_of_parameters(name, image):
    module, variables = shapes_of(name, image)
    assert count_parameters(variables) == PUBLISHED[name, image]
    logits = jax.eval_shape(
        lambda v, x: logits_fn(module, v)(x), variables, jax.ShapeDtypeStruct((5, *image), float)
    )
    assert (logits.shape, logits.dtype) == ((5, 10), jnp.float32)


def test_every_name_is_counted_and_so_is_the_other_preactivation_variant():
    assert {name for name, _ in PUBLISHED} == set(NAMES)
    other = {"shortcut": "activated", "final_norm": False}
    assert count_parameters(shapes_of("preact-resnet-18", CIFAR, **other)[1]) == 11_171_146


def multiply_adds(jaxpr):
    """Multiply-adds of the convolutions and products in a jaxpr and in those inside it."""
    total = 0
    for equation in jaxpr.eqns:
        out = equation.outvars[0].aval
        if equation.primitive.name == "conv_general_dilated":
            total += math.prod(out.shape) * math.prod(equation.invars[1].aval.shape[:3])
        elif equation.primitive.name == "dot_general":
            total += math.prod(out.shape) * equation.invars[1].aval.shape[0]
        for inner in jax.tree.leaves(list(equation.params.values())):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                total += multiply_adds(inner)
    return total


def test_forward_passes_cost_what_the_speed_figures_assume():
    for name, image, expected in (("small-cnn", MNIST, 19.9), ("preact-resnet-18", CIFAR, 1113)):
        module, variables = shapes_of(name, image)
        x = jax.ShapeDtypeStruct((1, *image), jnp.float32)
        traced = jax.make_jaxpr(lambda v, x, m=module: m.apply(v, x))(variables, x)
        assert 2e-6 * multiply_adds(traced.jaxpr) == pytest.approx(expected, rel=5e-3)


class Reference:
    """Forward passes in NumPy, in evaluation mode, from variables by name."""

    def __init__(self, variables):
        self.params = jax.tree.map(np.asarray, variables["params"])
        self.stats = jax.tree.map(np.asarray, variables.get("batch_stats", {}))

    def conv(self, name, x, stride=1, pad=1):
        kernel = self.params[name]["kernel"]
        size = kernel.shape[0]
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        seen = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
        out = np.einsum("nhwcij,ijco->nhwo", seen[:, ::stride, ::stride], kernel)
        return out + self.params[name].get("bias", 0)

    def norm(self, name, x):
        scale, bias = self.params[name]["scale"], self.params[name]["bias"]
        mean, variance = self.stats[name]["mean"], self.stats[name]["var"]
        return (x - mean) / np.sqrt(variance + 1e-5) * scale + bias

    def linear(self, name, x):
        return x @ self.params[name]["kernel"] + self.params[name]["bias"]


def relu(x):
    return np.maximum(x, 0)


def swish(x):
    return x / (1 + np.exp(-x))


def pool(x):
    h, w = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    return np.max([x[:, i:h:2, j:w:2] for i in (0, 1) for j in (0, 1)], axis=0)


def small_cnn(net, x):
    for stage in (0, 1):
        for place in (0, 1):
            x = relu(net.conv(f"conv_{stage}_{place}", x, pad=0))
        x = pool(x)
    x = x.reshape(len(x), -1)
    return relu(net.linear("linear_1", relu(net.linear("linear_0", x))))


def vgg(net, x):
    for name in ("0_0", "1_0", "1_1"):
        x = relu(net.norm(f"norm_{name}", net.conv(f"conv_{name}", x)))
        x = x if name == "1_0" else pool(x)
    return x.reshape(len(x), -1)


def preactivation(activate, activated_shortcut, final_norm):
    def forward(net, x):
        x = net.conv("conv", x)
        for stage in (0, 1):
            for block in range(blocks_of(net, stage)):
                name, stride = f"stage_{stage}_block_{block}", 2 if (stage, block) == (1, 0) else 1
                active = activate(net.norm(f"{name}_norm_1", x))
                y = net.conv(f"{name}_conv_1", active, stride)
                y = net.conv(f"{name}_conv_2", activate(net.norm(f"{name}_norm_2", y)))
                if f"{name}_shortcut" in net.params:
                    x = net.conv(f"{name}_shortcut", active if activated_shortcut else x, stride, 0)
                x = x + y
        return (activate(net.norm("norm", x)) if final_norm else x).mean((1, 2))

    return forward


def blocks_of(net, stage):
    return sum(f"stage_{stage}_block_{i}_conv_1" in net.params for i in range(9))


def postactivation(net, x):
    x = relu(net.norm("norm", net.conv("conv", x)))
    for stage in (0, 1):
        for block in range(blocks_of(net, stage)):
            name, stride = f"stage_{stage}_block_{block}", 2 if (stage, block) == (1, 0) else 1
            y = relu(net.norm(f"{name}_norm_1", net.conv(f"{name}_conv_1", x, stride)))
            y = net.norm(f"{name}_norm_2", net.conv(f"{name}_conv_2", y))
            if f"{name}_shortcut" in net.params:
                x = net.conv(f"{name}_shortcut", x, stride, 0)
                x = net.norm(f"{name}_shortcut_norm", x)
            x = relu(x + y)
    return x.mean((1, 2))


NARROW = {"widths": (3, 5), "blocks": 1}
SMALL = {
    "small-cnn": ("small-cnn", {"stages": ((3, 4), (5, 4)), "hidden": (6, 7)}, small_cnn),
    "vgg": ("vgg-11", {"stages": ((3,), (4, 5))}, vgg),
    "resnet": ("resnet-18", NARROW, postactivation),
    "preact": (
        "preact-resnet-18",
        {"stem": 3, "widths": (3, 5)},
        preactivation(relu, False, True),
    ),
    "preact without last norm": (
        "preact-resnet-18",
        {"stem": 3, "final_norm": False, "shortcut": "activated", **NARROW},
        preactivation(relu, True, False),
    ),
    "wide": (
        "wrn-28-10",
        {"stem": 2, "activation": "swish", **NARROW},
        preactivation(swish, True, True),
    ),
}
MEAN, STD = (0.1, 0.4), (0.5, 0.2)
IMAGE = (17, 18, 2)


def small(case, seed=0, **options):
    name, sizes, forward = SMALL[case]
    module = build(name, 3, dtype=jnp.float64, **sizes, **options)
    shapes = jax.eval_shape(lambda key: initialise(key, module, IMAGE), KEY)
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        positive = path[-1].key in ("var", "scale")
        low, high = (0.5, 2) if positive else (-0.5, 0.5)
        return jnp.asarray(rng.uniform(low, high, leaf.shape))

    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    return module, variables, jnp.asarray(rng.uniform(size=(3, *IMAGE))), forward


@pytest.mark.parametrize("case", SMALL)
def test_logits_are_those_of_the_structure_written_in_numpy(case):
    module, variables, x, forward = small(case, mean=MEAN, std=STD)
    net = Reference(variables)
    hidden = forward(net, (np.asarray(x) - MEAN) / STD)
    expected = net.linear("head", hidden)
    run = jax.jit(lambda v, x: (module.apply(v, x), module.apply(v, x, penultimate=True)))
    logits, penultimate = run(variables, x)
    np.testing.assert_allclose(penultimate, hidden, rtol=0, atol=1e-12 * np.abs(hidden).max())
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "train"), [("small-cnn", False), ("preact without last norm", True)]
)
def test_gradients_are_those_of_flax_layers(case, train):
    module, variables, x, _ = small(case)

    def energy(params, x):
        now = variables | {"params": params}
        return jnp.sin(module.apply(now, x, train=train, mutable=["batch_stats"])[0]).sum()

    def gradients():
        return jax.jit(lambda p, x: jax.grad(energy, (0, 1))(p, x))(variables["params"], x)

    found = gradients()
    with (
        mock.patch("nets.models.network.Conv", nn.Conv),
        mock.patch("nets.models.registry.max_pool", pool_by_windows),
    ):
        expected = gradients()
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * max(1, np.abs(b).max()))


def test_running_statistics_move_by_a_tenth_towards_the_batch():
    module, variables, x, _ = small("vgg")
    train = jax.jit(lambda v, x: module.apply(v, x, train=True, mutable=["batch_stats"])[1])
    updated = train(variables, x)["batch_stats"]["norm_0_0"]
    seen = Reference(variables).conv("conv_0_0", np.asarray(x))
    before = variables["batch_stats"]["norm_0_0"]
    for name, value in (("mean", seen.mean((0, 1, 2))), ("var", seen.var((0, 1, 2)))):
        expected = 0.9 * np.asarray(before[name]) + 0.1 * value
        np.testing.assert_allclose(updated[name], expected, rtol=1e-12)


def test_activations_may_be_bfloat16_and_everything_kept_is_float32():
    module, variables = shapes_of("preact-resnet-18", CIFAR, dtype=jnp.bfloat16, blocks=1)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    x = jax.ShapeDtypeStruct((2, *CIFAR), jnp.float32)
    traced = jax.make_jaxpr(lambda v, x: module.apply(v, x, train=True, mutable=["batch_stats"]))(
        variables, x
    )
    text = str(traced)
    convolutions = [line for line in text.splitlines() if "conv_general_dilated" in line]
    assert convolutions
    assert all("bf16[" in line for line in convolutions)
    logits, rest = traced.out_avals[0], traced.out_avals[1:]
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in rest} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", INITIALISERS)
def test_starting_weights_have_their_law(name):
    shape = (3, 3, 32, 64)
    weights = np.asarray(INITIALISERS[name](KEY, shape, jnp.float32), float)
    again = INITIALISERS[name](KEY, shape, jnp.float32)
    fan = 9 * (64 if name == "he-out" else 32)
    scale = math.sqrt(1 / (3 * fan) if name == "pytorch" else 2 / fan)
    unit, count = weights / scale, weights.size
    fourth = 9 / 5 if name == "pytorch" else 3.0
    # Two-sided 5 sigma: a false alarm has probability 6e-7; a scale off by 1.3 % would be seen.
    assert abs(unit.mean()) < 5 / math.sqrt(count)
    assert abs((unit**2).mean() - 1) < 5 * math.sqrt((fourth - 1) / count)
    assert abs((unit**4).mean() - fourth) < 5 * math.sqrt((105 if fourth == 3 else 9) / count)
    if name == "pytorch":
        assert np.abs(unit).max() <= math.sqrt(3)
        assert np.abs(unit).max() > math.sqrt(3) * (1 - 20 / count)  # missed: probability 2e-9
    np.testing.assert_array_equal(weights.astype(np.float32), again)


def test_a_network_built_from_lists_starts_too():
    shapes = jax.eval_shape(
        lambda key: initialise(key, build("mlp", 2, hidden=[3], mean=[0.5, 0.1]), (2, 2, 2)), KEY
    )
    assert count_parameters(shapes) == 8 * 3 + 3 + 3 * 2 + 2


def test_layers_start_independently_and_with_zero_biases():
    module = build("mlp", 2, hidden=(40, 40))
    params = initialise(KEY, module, (4, 5, 2))["params"]
    first, second = (np.asarray(params[f"linear_{i}"]["kernel"]) for i in (0, 1))
    assert first.shape == second.shape
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 5 / math.sqrt(first.size)
    assert not any(np.any(layer["bias"]) for layer in params.values())


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("preact-resnet18", 10), {}, "name = 'preact-resnet18': unknown; .*preact-resnet-18"),
        (("mlp", 1), {}, "classes = 1: must be an integer >= 2"),
        (("mlp", 2.0), {}, "classes = 2.0: must be an integer >= 2"),
        (("mlp", 2), {"hiden": (3,)}, "option of mlp = 'hiden': unknown; did you mean hidden"),
        (("mlp", 2), {"name": "x"}, "option of mlp = 'name': unknown"),
        (("vgg-16", 2), {"activation": "relo"}, "activation = 'relo': unknown; .*relu"),
        (("mlp", 2), {"std": (0.5, 0.0)}, "std = 0: every standard deviation must lie in"),
        (("mlp", 2), {"mean": math.nan}, "mean = nan: every mean must lie in"),
        (("mlp", 2), {"dtype": jnp.int32}, "dtype = .*int32.*: must be a floating dtype"),
        (("resnet-18", 2), {"widths": (8, 0)}, r"widths = \(8, 0\): must be integers >= 1"),
        (("resnet-18", 2), {"widths": ()}, r"widths = \(\): must be integers >= 1"),
        ((None, 2), {}, "name = null: must be a text"),
        ((["mlp"], 2), {}, r"name = \['mlp'\]: must be a text"),
        (("mlp", None), {}, "classes = None: must be an integer"),
        (("mlp", True), {}, "classes = True: must be an integer"),
        (("mlp", "10"), {}, "classes = '10': must be an integer"),
        (("mlp", 10**9), {}, "classes = 1000000000: must be at most 65536"),
        (("mlp", 2), {"hidden": 200}, "hidden = 200: must be a list"),
        (("mlp", 2), {"hidden": None}, "hidden = null: must be a list"),
        (("mlp", 2), {"hidden": "200"}, "hidden = '200': must be a list"),
        (("mlp", 2), {"hidden": (True,)}, r"hidden\[0\] = True: must be an integer"),
        (("mlp", 2), {"hidden": ((3,),)}, r"hidden\[0\] = \(3,\): must be an integer"),
        (("mlp", 2), {"hidden": (-3,)}, r"hidden = \(-3,\): must be integers >= 1"),
        (("mlp", 2), {"hidden": (10**9,)}, "hidden = 1000000000: must be at most 65536"),
        (("mlp", 2), {"hidden": (1,) * 2000}, "number of hidden = 2000: must be at most 1000"),
        (("vgg-11", 2), {"stages": (64,)}, r"stages\[0\] = 64: must be a list"),
        (("resnet-18", 2), {"blocks": 10**6}, "blocks = 1000000: must be at most 1000"),
        (("resnet-18", 2), {"blocks": (2,)}, r"blocks = \(2,\): must be an integer"),
        (("preact-resnet-18", 2), {"final_norm": "no"}, "final_norm = 'no': must be true or false"),
        (("mlp", 2), {"mean": "0.5"}, "mean = '0.5': must be a number or a list or null"),
        (("mlp", 2), {"mean": ()}, r"mean = \(\): must be one number or one for each channel"),
        (("mlp", 2), {"mean": (125.3, 123.0)}, "mean = 125.3: must be at most 1.*125.3/255"),
        (("mlp", 2), {"std": 63.0}, "std = 63: must be at most 1.*63/255 is meant"),
        (("mlp", 2), {"dtype": "float33"}, "dtype = 'float33': must be a floating dtype"),
        (("mlp", 2), {"dtype": None}, "dtype = None: must be a floating dtype"),
        (("mlp", 2), {"activation": 3}, "activation = 3: must be a text"),
    ],
)
def test_build_refuses(arguments, options, message):
    with pytest.raises(InvalidInput, match=message):
        build(*arguments, **options)


@pytest.mark.parametrize(
    ("options", "precision", "message"),
    [
        (None, "float32", "options = null: must be a table"),
        ([1], "float32", r"options = \[1\]: must be a table"),
        ({1: 2}, "float32", "must be a text"),
        ({}, None, "precision = null: must be a text"),
        ({}, 16, "precision = 16: must be a text"),
        ({}, "float16", "precision = 'float16': unknown"),
        ({"dtype": "float16"}, "float32", "options.dtype = 'float16': is set by precision"),
    ],
)
def test_a_network_in_words_is_refused_in_one_line(options, precision, message):
    with pytest.raises(InvalidInput, match=message):
        of_settings("mlp", 2, options, precision)


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        (
            "vgg-11",
            (28, 28, 1),
            {},
            r"image_shape = \(28, 28, 1\): does not fit this VGG: .*pooled",
        ),
        ("small-cnn", (12, 12, 1), {}, r"image_shape = \(12, 12, 1\): does not fit this SmallCNN"),
        ("mlp", (28, 28), {}, r"image_shape = \(28, 28\): must be \(h, w, c\)"),
        ("mlp", (4, 4, 0), {}, r"image_shape = \(4, 4, 0\): must be \(h, w, c\), integers >= 1"),
        ("mlp", (4, 4, 3), {"mean": (0.5, 0.5)}, r"mean = \(0.5, 0.5\): must be one number or"),
        ("mlp", (4, 10**9, 3), {}, "image_shape = 1000000000: must be at most 65536"),
        (
            "mlp",
            (60000, 60000, 3),
            {},
            r"layer of shape \(10800000000, 200\) has 2160000000000 num",
        ),
        ("resnet-18", (8, 8, 3), {"widths": (60000,)}, r"\(3, 3, 60000, 60000\) has 32400000000"),
        ("mlp", (4, 4, 3), {"hidden": (30000,) * 4}, "parameters = 2701620002: this MLP on images"),
    ],
)
def test_initialise_refuses(name, shape, options, message):
    with pytest.raises(InvalidInput, match=message):
        initialise(KEY, build(name, 2, **options), shape)
