"""The examples of CONTRIBUTING.md run as they stand there, and keep the promises they teach."""

import pathlib
import re
import struct

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from figures.kit import picture as figure_kit
from nets.attacks.attack import Target
from nets.data import load, sources
from nets.fairness.statistics import Statistics
from sims.sweep.run import sweep
from sims.sweep.verdict import summarise
from support.protocol import bibliography_of, violations
from theory.claims import registry as claim_registry
from theory.problem import LinfBall

ROOT = pathlib.Path(__file__).parents[2]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
# The first example of a heading, by its last word.
EXAMPLES = {
    heading.split()[-1]: re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for heading, text in re.findall(r"(?ms)^## (.*?)\n(.*?)(?=^## |\Z)", GUIDE)
}


def _run(name):
    """Returns the names that an example defines, as a module would."""
    (code,) = EXAMPLES[name]
    names = {"__name__": f"example_{name}"}
    exec(compile(code, f"CONTRIBUTING.md, {name}", "exec"), names)
    return names


@pytest.fixture
def claim():
    (defined,) = _run("theorem")["CLAIMS"]
    return defined


def test_the_examples_are_those_of_the_headings():
    written = [name for name, examples in EXAMPLES.items() if examples]
    assert written == ["theorem", "figure", "attack", "method", "set"]


@pytest.mark.parametrize("name", [name for name, examples in EXAMPLES.items() if examples])
def test_an_example_keeps_the_protocol(name):
    assert violations(name, EXAMPLES[name][0], bibliography_of(ROOT)) == []


def test_the_theorem_is_a_sound_claim_that_simulation_agrees_with(claim):
    assert claim_registry.collect([claim]) == {claim.name: claim}
    assert claim_registry.bibtex(claim.source.key)
    summary = summarise(sweep(claim, trials=20_000, level=1e-6))
    assert summary.agrees, summary.text
    assert f"`python -m theory {claim.name}`" in GUIDE


def test_the_figure_draws_the_claim(claim, monkeypatch):
    monkeypatch.setattr(figure_kit, "DRAWN", {})
    monkeypatch.setattr("figures.kit.panel.find", {claim.name: claim}.get)
    drawing = _run("figure")
    (picture,) = figure_kit.DRAWN.values()
    assert picture.claims == (claim.name,)
    figure = drawing["one_coordinate"]({claim.name: sweep(claim, trials=1000)})
    assert figure.axes[0].get_xlabel()
    assert len(figure.axes[0].lines) >= 2
    plt.close(figure)


def test_the_attack_stays_in_ball_and_bounds_and_sees_no_batch():
    attack = _run("attack")["gaussian_noise"]
    x = jnp.linspace(0.0, 1.0, 12).reshape(6, 2)
    y = jnp.array([0, 1, 0, 1, 0, 1])
    keys = jax.random.split(jax.random.key(0), 6)

    def logits(points):
        return points

    target = Target(x, y, LinfBall(0.1))
    found = attack(keys, logits, target)
    assert found.x_adv.shape == x.shape
    assert float(jnp.max(jnp.abs(found.x_adv - x))) <= 0.1 + 1e-12
    assert float(jnp.min(found.x_adv)) >= 0
    assert float(jnp.max(found.x_adv)) <= 1
    last = attack(keys[3:], logits, target._replace(x=x[3:], y=y[3:]))
    np.testing.assert_array_equal(last.x_adv, found.x_adv[3:])
    # Rising inputs, y = 0 is the smaller of the two: it is wrong as it stands, and left alone.
    np.testing.assert_array_equal(found.x_adv[y == 0], x[y == 0])
    assert bool(jnp.all(found.success[y == 0]))


def test_the_method_weighs_classes_by_their_errors():
    method = _run("method")["error_weights"]()
    state = method.start(jnp.array([5, 5]))
    assert not method.due(0)
    state = method.update(state, Statistics(robust_errors=jnp.array([0.75, 0.25], jnp.float32)))
    terms = method.weights(state, jnp.zeros((3, 2), jnp.float32), jnp.array([0, 1, 0]), 2.0)
    assert terms.label.tolist() == [1.5, 0.5, 1.5]
    assert terms.divergence.tolist() == [3.0, 1.0, 3.0]


def test_the_data_set_is_read_from_its_files(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "SOURCES", dict(sources.SOURCES))
    monkeypatch.setattr(load, "SOURCES", sources.SOURCES)
    glyphs = _run("set")["GLYPHS"]
    assert glyphs.key in bibliography_of(ROOT)
    for images, labels in (glyphs.train, glyphs.test):
        (tmp_path / images.name).write_bytes(
            struct.pack(">IIII", 0x803, 10, 28, 28) + bytes(10 * 28 * 28)
        )
        (tmp_path / labels.name).write_bytes(struct.pack(">II", 0x801, 10) + bytes(range(10)))
    data = load.load("glyphs", tmp_path, verify=False)
    assert data.train.images.shape == (10, 28, 28, 1)
    assert data.class_names == tuple("abcdefghij")
