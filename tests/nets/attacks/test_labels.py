"""Labels in every type of integers: class 261 of 300 is no label 5, wherever classes are compared.

In the type of a small label the numbers of the classes wrap, and nobody is told.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.attacks import losses
from nets.attacks.apgd import apgd, apgd_targeted, rival
from nets.attacks.attack import Target, class_numbers, require_valid
from nets.attacks.gradient import fgsm, pgd
from nets.attacks.linear import exact
from nets.evaluation.per_class import class_counts, confusion
from nets.fairness import balance, cfa, dafa, faal, frl, method, methods, statistics, wat
from nets.objectives import losses as objectives
from nets.objectives import mixup
from theory.domain import InvalidInput
from theory.problem import LinearScores, LinfBall
from theory.weights.dafa import class_similarity, trix_targeted
from theory.weights.long_tail import ldam_logits
from theory.weights.rules import cfol_update

KINDS = [np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)]
CLASSES, LABEL, TWIN = 300, 5, 261
Y = np.array([LABEL, 7, 7])
LOGITS = np.zeros((3, CLASSES), np.float32)
LOGITS[0, TWIN], LOGITS[1, 7], LOGITS[2, 263] = 20, 9, 9
VALUES = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, CLASSES), jnp.float32)
WEIGHTS = np.zeros((CLASSES, 3), np.float32)
WEIGHTS[7, 1], WEIGHTS[263, 2], WEIGHTS[TWIN, 0] = 1, 1, 1
X = np.eye(3, dtype=np.float32) * 0.5 + 0.2
SCORES = LinearScores(jnp.asarray(WEIGHTS), jnp.zeros(CLASSES, jnp.float32))


CHANCES = np.asarray(jax.nn.softmax(LOGITS, -1))


def network(x):
    return x @ WEIGHTS.T


def attacked(attack, y):
    return attack(jax.random.key(0), network, Target(X, y, LinfBall(np.float32(0.2))))


def apply(variables, x, train):
    return network(x), variables


def objective(recipe, y):
    train, inner = objectives.RECIPES[recipe]
    attack = inner(LinfBall(np.float32(0.1))) if inner else None
    return train(jax.random.key(0), apply, {"params": {}}, X, y, attack)[1].losses


def weighted(kind, y):
    chosen = {"frl": frl.frl, "wat": wat.wat, "cfa": cfa.cfa, "dafa": dafa.dafa, "faal": faal.faal}
    made = chosen[kind]() if kind in chosen else methods.build(kind)
    state = made.start(jnp.arange(1, CLASSES + 1), jnp.float32)
    if kind == "dafa":
        state = state._replace(weights=VALUES)
    terms = made.weights(state, LOGITS, y, 2.0)
    plain = objectives.RECIPES["pgd"].inner
    assert plain is not None
    radii = method.inner(made, state, plain(LinfBall(0.1)), y).moves
    return terms, made.label_loss(state, LOGITS, y), radii


TAKERS = {
    **{
        name: functools.partial(getattr(losses, name), LOGITS)
        for name in ("misclassified", "own_and_rival", "cross_entropy", "margin", "dlr")
    },
    **{name: functools.partial(getattr(losses, name), LOGITS) for name in ("is_label", "entry")},
    "targeted dlr": lambda y: losses.targeted_dlr(LOGITS, y, y),
    "targeted margin": lambda y: losses.targeted_margin(LOGITS, jnp.zeros(3, jnp.int32), y),
    "targeted entropy": lambda y: losses.targeted_cross_entropy(LOGITS, y, y),
    "rival": lambda y: rival(jnp.asarray(LOGITS), y, 0),
    "exact": lambda y: exact(SCORES, Target(X, y, LinfBall(np.float32(0.2)))),
    "fgsm": functools.partial(attacked, fgsm),
    "pgd": functools.partial(attacked, functools.partial(pgd, steps=1)),
    "apgd": functools.partial(attacked, functools.partial(apgd, steps=1)),
    "apgd-t": functools.partial(attacked, functools.partial(apgd_targeted, steps=1, targets=1)),
    "rival loss": lambda y: objectives.rival_loss(jnp.asarray(LOGITS), y),
    **{f"objective {name}": functools.partial(objective, name) for name in objectives.RECIPES},
    **{f"method {name}": functools.partial(weighted, name) for name in methods.METHODS},
    "balance": lambda y: balance.weights(balance.FixedWeights(VALUES), LOGITS, y, 1.0),
    "sums": lambda y: statistics.add(statistics.no_samples(CLASSES), LOGITS, y),
    "margins": lambda y: faal.class_margins(LOGITS, y),
    "partners": lambda y: mixup.partners(jax.random.key(1), y),
    "similarity": lambda y: class_similarity(CHANCES, y),
    "trix": lambda y: trix_targeted(CHANCES, y),
    "cfol": lambda y: cfol_update(np.zeros(CLASSES), y[0], 1.0, np.full(CLASSES, 0.5)),
    "ldam logits": lambda y: ldam_logits(LOGITS, y, np.ones(CLASSES)),
    "counts": lambda y: class_counts(y, y == y, CLASSES),
    "confusion": lambda y: confusion(y, Y[::-1].astype(y.dtype), CLASSES),
}
# What all others compare labels by; they are tried in two types, for each is compiled anew.
EVERY_KIND = {"is_label", "misclassified", "counts", "confusion"}
ONE_KIND = {"fgsm", "pgd", "apgd", "apgd-t", "exact", "objective trades", "objective mart"}


@functools.cache
def expected(name):
    return jax.tree.map(np.asarray, TAKERS[name](Y.astype(np.int32)))


@pytest.mark.parametrize("name", TAKERS)
def test_every_type_of_labels_means_the_same(name):
    for kind in KINDS if name in EVERY_KIND else KINDS[4 : 5 if name in ONE_KIND else 8 : 3]:
        found = TAKERS[name](Y.astype(kind))
        jax.tree.map(np.testing.assert_array_equal, found, expected(name))


def test_a_rival_whose_number_wraps_to_the_label_is_a_rival():
    y = Y.astype(np.uint8)
    assert losses.misclassified(LOGITS, y).tolist() == [True, False, True]
    assert losses.margin(LOGITS, y).tolist() == [20, -9, 9]
    assert jax.jit(losses.margin)(LOGITS, y).tolist() == [20, -9, 9]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([-1, 0], np.int8), r"y = -1: labels must lie in \[0, K\)"),
        (np.array([0, 2**32 + 5]), r"y = 4294967301: labels must lie in \[0, K\)"),
        (np.array([0, 2**63], np.uint64), r"y = 9223372036854775808: labels must lie"),
        (np.array([0.0, 1.0]), r"y.dtype = float64: labels must be integers"),
        (np.array([True, False]), r"y.dtype = bool: labels must be integers"),
    ],
)
def test_labels_that_are_none_are_refused_before_they_are_cast(y, message):
    with pytest.raises(InvalidInput, match=message):
        class_numbers(y)
    with jax.enable_x64(False), pytest.raises(InvalidInput, match=r"^y"):
        require_valid(Target(np.zeros((2, 3), np.float32), y, LinfBall(0.1)))
