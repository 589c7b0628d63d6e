"""Signs of gradient masking in an evaluation: found, kept in the file, and said in plain words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.evaluation import file as evaluation_file
from nets.evaluation import outcomes, protocols
from nets.evaluation.masking import check_masking, masking_lines
from sims import files
from theory.domain import InvalidInput
from theory.problem import LinfBall

SIDE, CLASSES, RADIUS = 4, 3, 0.02
rng = np.random.default_rng(0)
WEIGHTS = rng.normal(size=(SIDE * SIDE, CLASSES)).astype(np.float32)
IMAGES = rng.uniform(0.1, 0.9, (120, SIDE, SIDE, 1)).astype(np.float32)
LABELS = np.argmax((IMAGES - 0.5).reshape(120, -1) @ WEIGHTS, -1)


def honest(weights, x):
    return (x - 0.5).reshape(len(x), -1) @ weights


def rounded(weights, x):
    """Logits of an input rounded to steps of 1 / 8: right everywhere, without any gradient."""
    return honest(weights, jnp.round(8 * x) / 8)


def evaluated(apply, masking=True):
    key, threat = jax.random.key(3), LinfBall(RADIUS)
    findings = check_masking(key, apply, WEIGHTS, IMAGES, LABELS, threat) if masking else None
    found = outcomes.evaluate(
        key,
        apply,
        WEIGHTS,
        IMAGES,
        LABELS,
        threat,
        protocols.methods("quick", CLASSES, threat),
        classes=CLASSES,
        block=120,
    )
    attributes = {"norm": "linf", "radius": RADIUS}
    return evaluation_file.make(found, LABELS, ("a", "b", "c"), 0.05, attributes, findings)


@pytest.fixture(scope="module")
def datasets():
    return {apply.__name__: evaluated(apply) for apply in (honest, rounded)}


def test_an_honest_network_raises_no_check(datasets):
    dataset = datasets["honest"]
    assert (dataset["masking"] <= dataset["masking_limit"]).all()
    (line,) = masking_lines(dataset)
    assert line == (
        "gradient masking: no sign of it in 9 checks on 100 samples, 100 of them correct"
    )
    assert line in evaluation_file.summary(dataset)


def test_rounded_pixels_are_found_out_and_the_advice_is_printed(datasets):
    dataset = datasets["rounded"]
    raised = dataset["check"].values[(dataset["masking"] > dataset["masking_limit"]).values]
    assert {"zero_gradients", "stuck"} <= set(raised)
    assert float(dataset["masking"].sel(check="zero_gradients")) == 1
    # What it is there for: to the attacks the network looks more robust than the one inside it.
    robust = {name: float(each["correct"][-1].mean()) for name, each in datasets.items()}
    assert robust["rounded"] > robust["honest"] + 0.1
    text = evaluation_file.summary(dataset)
    assert f"gradient masking: {len(raised)} of 9 checks" in text
    assert "may be too high" in text
    assert "the gradient of the cross-entropy vanishes" in text
    assert "zero_gradients = 1, limit 0.05" in text


def test_a_number_that_is_nan_fails(datasets):
    dataset = datasets["honest"].copy(deep=True)
    dataset["masking"][2] = np.nan
    assert "1 of 9 checks" in masking_lines(dataset)[0]


def test_what_was_found_is_in_the_file_and_files_without_it_still_read(datasets, tmp_path):
    path = tmp_path / "evaluation.nc"
    files.save(datasets["rounded"], path)
    read = evaluation_file.load(path)
    assert evaluation_file.summary(read) == evaluation_file.summary(datasets["rounded"])
    without = evaluated(honest, masking=False)
    files.save(without, path)
    read = evaluation_file.load(path)
    assert masking_lines(read) == []
    assert "masking" not in evaluation_file.summary(read)
    # And the checks change no other number of the file.
    with_checks = datasets["honest"].drop_dims("check")
    assert without.equals(with_checks)


def test_the_checks_have_randomness_of_their_own_that_is_given_by_the_key():
    call = (WEIGHTS, IMAGES, LABELS, LinfBall(RADIUS))
    first, again = (check_masking(jax.random.key(1), rounded, *call) for _ in range(2))
    assert first == again


def test_a_radius_of_zero_is_refused():
    with pytest.raises(InvalidInput, match="above 0"):
        check_masking(jax.random.key(0), honest, WEIGHTS, IMAGES, LABELS, LinfBall(0.0))
