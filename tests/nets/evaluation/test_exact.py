"""Linear networks are evaluated by the exact attack: no other finds more, and it is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.attacks.attack import Target
from nets.evaluation import file as evaluation_file
from nets.evaluation import outcomes, protocols
from nets.models.registry import build, initialise, is_linear, of_settings
from theory.problem import L1Ball, L2Ball, LinfBall

SHAPE, CLASSES = (4, 4, 1), 3
MODULE = build("logistic", CLASSES, mean=0.4, std=0.3)
VARIABLES = initialise(jax.random.key(5), MODULE, SHAPE)
rng = np.random.default_rng(1)
IMAGES = rng.integers(0, 256, (200, *SHAPE), dtype=np.uint8)
LOGITS = MODULE.apply(VARIABLES, IMAGES.astype(np.float32) / np.float32(255))
# Mostly what the network says, so that there is something to attack.
LABELS = np.where(rng.uniform(size=200) < 0.9, np.argmax(LOGITS, -1), 0)


def evaluated(threat, methods):
    return outcomes.evaluate(
        jax.random.key(2),
        MODULE.apply,
        VARIABLES,
        IMAGES,
        LABELS,
        threat,
        methods,
        classes=CLASSES,
        block=100,
    )


@pytest.mark.parametrize("threat", [LinfBall(0.03), L2Ball(0.1), L1Ball(0.5)])
def test_no_attack_of_the_protocol_finds_more(threat):
    exact = evaluated(threat, protocols.methods("budget", CLASSES, threat, linear=True))
    found = evaluated(threat, protocols.methods("quick", CLASSES, threat))
    assert exact.attacks == ("clean", "exact")
    assert 0.1 < exact.correct[-1].mean() < exact.correct[0].mean() - 0.1
    # Whatever stands under the exact attack stands under every other.
    assert not (exact.correct[-1] & ~found.correct[-1]).any()


@pytest.mark.parametrize("radius", [0.01, 0.05])
def test_robust_accuracy_is_the_closed_form_where_no_bound_is_met(radius):
    inner = (100 + IMAGES // 5).astype(np.uint8)
    x = inner.astype(np.float64) / 255
    kernel, bias = (np.asarray(VARIABLES["params"]["head"][k], float) for k in ("kernel", "bias"))
    logits = ((x - 0.4) / 0.3).reshape(200, -1) @ kernel + bias
    # The lead of another class grows by radius times the l_1 norm of the difference of weights.
    reach = radius * np.abs(kernel[:, None, :] - kernel[:, :, None]).sum(0) / 0.3
    lead = logits - logits[np.arange(200), LABELS][:, None] + reach[LABELS]
    lead[np.arange(200), LABELS] = -np.inf
    found = outcomes.evaluate(
        jax.random.key(2),
        MODULE.apply,
        VARIABLES,
        inner,
        LABELS,
        LinfBall(radius),
        protocols.methods("quick", CLASSES, LinfBall(radius), linear=True),
        classes=CLASSES,
        block=100,
    )
    np.testing.assert_array_equal(found.correct[-1], lead.max(-1) < 0)


def test_the_worst_point_is_found_with_the_normalisation_of_pixels_inside():
    x = jnp.asarray(IMAGES[:7], jnp.float32) / 255
    scores = protocols._scores_of(lambda points: MODULE.apply(VARIABLES, points), x)
    product = x.reshape(7, -1) @ scores.weights.T + scores.biases[None]
    np.testing.assert_allclose(product, LOGITS[:7], atol=1e-5)
    target = Target(x, jnp.asarray(LABELS[:7]), LinfBall(0.02))
    moved = protocols.methods("quick", CLASSES, LinfBall(0.02), linear=True)["exact"].run(
        jax.random.split(jax.random.key(0), 7),
        lambda points: MODULE.apply(VARIABLES, points),
        target,
        jnp.asarray(0),
    )
    assert (jnp.abs(moved.x_adv - x) <= 0.02 + 1e-6).all()


def test_that_it_is_exact_is_said_and_of_attacks_it_is_not():
    for linear in (True, False):
        methods = protocols.methods("quick", CLASSES, LinfBall(0.03), linear=linear)
        dataset = evaluation_file.make(
            evaluated(LinfBall(0.03), methods), LABELS, ("a", "b", "c"), 0.05, {}
        )
        assert ("robust accuracy is exact" in evaluation_file.summary(dataset)) == linear


def test_which_networks_are_linear():
    assert is_linear(MODULE)
    assert is_linear(build("mlp", 3, hidden=()))
    assert not is_linear(build("mlp", 3))
    assert not is_linear(build("small-cnn", 3))
    # Rounded pixels move in steps.
    assert not is_linear(of_settings("logistic", 3, {}, "bfloat16"))
