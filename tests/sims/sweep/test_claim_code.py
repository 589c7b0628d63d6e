"""A claim's code: of our modules, of scripts and of notebooks."""

import dataclasses
import runpy
import subprocess
import sys
import textwrap

import pytest

from sims.provenance import reached_modules
from sims.sweep import claim_code
from sims.sweep.plan import make_plan
from theory.claims.claim import Failure
from theory.claims.registry import find, registered

CLAIM = find("gaussian-robust-risk-l2")
SCRIPT = """
import jax.numpy as jnp
from theory.claims.claim import RISK, Axis, Claim, Problem, Source
from theory.domain import Interval
from theory.problem import GaussianMixture, L2Ball, LinearClassifier
from theory.rules import risk

SHIFT = 1.0


def mean(scale):
    return scale * jnp.ones(3)


def problem(radius):
    'A docstring.'
    means = jnp.stack([-mean(SHIFT), mean(0.5)])
    law = GaussianMixture(means, jnp.ones(2), jnp.asarray(0.3))
    return Problem(law, LinearClassifier(jnp.ones(3), jnp.asarray(0.0)), L2Ball(radius))


CLAIM = Claim(
    name="of-a-script",
    statement="",
    source=Source("hu2023accuracydisparity", ""),
    axes=(Axis("radius", "the radius", (0.0, 0.5), Interval(0, 1)),),
    problem=problem,
    predict=lambda **values: (risk.risk(*problem(**values)),),
    relation="==",
    estimand=RISK,
)
"""


def of_script(tmp_path, name="script.py", old="", new=""):
    """Returns the digest of the claim of the script with one text replaced."""
    assert old in SCRIPT
    path = tmp_path / name
    path.write_text(SCRIPT.replace(old, new) if old else SCRIPT)
    return claim_code.digest(runpy.run_path(str(path))["CLAIM"])


def test_the_code_of_a_sweep_is_that_of_its_claim():
    code = {name: make_plan(claim).identity()["code"] for name, claim in registered().items()}
    assert code["gaussian-robust-risk-l2"] != code["distance-class-errors"]


def test_closed_forms_of_other_kinds_count_only_where_a_bound_is_compared_with_them():
    plain = dataclasses.replace(CLAIM, fails=None)
    failing = dataclasses.replace(CLAIM, fails=Failure("somewhere"))
    assert claim_code.digest(plain) != claim_code.digest(failing)
    assert claim_code.CLOSED_FORMS not in reached_modules(*claim_code.SIMULATOR)


def test_a_number_that_only_a_closure_holds_counts():
    def with_shift(shift):
        return dataclasses.replace(CLAIM, predict=lambda **values: shift)

    assert claim_code.digest(with_shift(1.0)) == claim_code.digest(with_shift(1.0))
    assert claim_code.digest(with_shift(1.0)) != claim_code.digest(with_shift(2.0))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("'A docstring.'", "'Another.'"),
        ("'A docstring.'", "# A comment."),
        ("\n\n\ndef problem", "\n\n\n\n\ndef problem"),
        ('statement=""', 'statement="Other words."'),
    ],
)
def test_a_script_keeps_its_digest_whatever_it_says_in_words(tmp_path, old, new):
    assert of_script(tmp_path, "other.py", old, new) == of_script(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SHIFT = 1.0", "SHIFT = 1.5"),
        ("mean(0.5)", "mean(0.6)"),
        ("scale * jnp.ones(3)", "scale + jnp.ones(3)"),
        ("(risk.risk(*problem(**values)),)", "(2 * risk.risk(*problem(**values)),)"),
        ("from theory.rules import risk", "from theory.fairness import disparity as risk"),
    ],
)
def test_a_script_whose_numbers_change_has_another_digest(tmp_path, old, new):
    assert of_script(tmp_path, "other.py", old, new) != of_script(tmp_path)


def test_a_script_reaches_the_modules_of_ours_that_it_uses(tmp_path, monkeypatch):
    named = []

    def digest(*modules):
        named.append(modules)
        return "digest"

    monkeypatch.setattr(claim_code, "code_digest", digest)
    of_script(tmp_path)
    assert {"theory.rules.risk", "theory.problem"} <= set(named[0])


def test_a_digest_is_the_same_in_every_process_and_without_a_source(tmp_path):
    # As in a notebook: the functions have no file.
    program = textwrap.dedent(
        """
        import sys
        exec(compile(open(sys.argv[1]).read(), "<cell>", "exec"))
        from sims.sweep import claim_code
        print(claim_code.digest(CLAIM))
        """
    )
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    digests = {
        subprocess.run(
            [sys.executable, "-c", program, str(path)],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": str(seed), "JAX_PLATFORMS": "cpu"},
        ).stdout
        for seed in range(2)
    }
    assert len(digests) == 1
