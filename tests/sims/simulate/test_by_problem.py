"""Sums of squared losses: the same bits however they are cut, against plain NumPy, and refused
where they say nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.random import draws
from sims.simulate import by_problem
from sims.simulate.regression import BLOCK, MOST_BLOCKS
from sims.sweep import file as sweep_file
from sims.sweep.plan import Shard, make_plan
from sims.sweep.run import sweep
from sims.sweep.verdict import summarise
from support.compilations import compiled_functions
from theory.claims import evaluate
from theory.claims.registry import find
from theory.domain import InvalidInput

CLAIM = find("trained-squared-risk-linf")
GRID = {"radius": [0.0, 0.5], "scale_ratio": [2.0], "noise": [0.5]}
TRIALS = (MOST_BLOCKS + 2) * BLOCK + 17  # more than one call, and a block in part
TOTALS = ["losses", "residuals", "responses", "nonfinite", "trials"]


@pytest.fixture(scope="module")
def whole():
    return sweep(CLAIM, GRID, trials=TRIALS, seed=5)


def _same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in TOTALS)


@pytest.mark.slow
def test_chunks_do_not_change_a_bit(whole):
    assert whole["losses"].dtype == np.float64
    assert (whole["trials"] == TRIALS).all()
    for chunk in (BLOCK, 5 * BLOCK, 64 * BLOCK):
        assert _same(whole, sweep(CLAIM, GRID, trials=TRIALS, seed=5, chunk=chunk))


def test_x64_and_the_grid_around_a_point_do_not_change_a_bit(whole):
    with jax.enable_x64(False):
        assert _same(whole, sweep(CLAIM, GRID, trials=TRIALS, seed=5))
    part = sweep(CLAIM, GRID | {"radius": [0.5, 0.3]}, trials=TRIALS, seed=5)
    assert _same(part.sel(radius=[0.5]), whole.sel(radius=[0.5]))
    assert not _same(whole, sweep(CLAIM, GRID, trials=TRIALS, seed=6))


@pytest.mark.slow
def test_shards_merge_and_a_stopped_run_goes_on_to_the_same_file(whole, tmp_path):
    paths = [tmp_path / f"{i}.nc" for i in (1, 2)]
    for i, path in enumerate(paths, 1):
        sweep(CLAIM, GRID, trials=TRIALS, seed=5, shard=Shard(i, 2), path=path)
    assert _same(sweep_file.merge(paths[::-1]), whole)
    undisturbed, path = tmp_path / "a.nc", tmp_path / "b.nc"
    settings = {"trials": TRIALS, "seed": 5, "chunk": 8 * BLOCK}
    sweep(CLAIM, GRID, path=undisturbed, **settings)

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(CLAIM, GRID, path=path, progress=stop, **settings)
    assert sweep_file.load(path)["trials"].values.max() == 8 * BLOCK
    sweep(CLAIM, GRID, path=path, **settings)
    assert path.read_bytes() == undisturbed.read_bytes()
    assert _same(sweep_file.load(path), whole)
    with pytest.raises(InvalidInput, match="belongs to another sweep"):
        sweep(CLAIM, GRID, path=path, **(settings | {"seed": 6}))


@pytest.mark.slow
def test_the_sums_are_those_of_the_draws_in_plain_numpy(whole):
    """The draws are the simulator's own, so that only rounding of float32 may differ."""
    plan = make_plan(CLAIM, GRID, trials=TRIALS, seed=5)
    problem = jax.tree.map(lambda field: field[1], evaluate.problems(CLAIM, plan.points))
    law, key = problem.law, plan.key(1)
    white = np.concatenate(
        [
            np.asarray(draws.normal(jax.random.fold_in(key, b), (BLOCK, 3), jnp.float32), float)
            for b in range(MOST_BLOCKS + 3)
        ]
    )[:TRIALS]
    for arm in range(4):
        x = white[:, :2] @ np.linalg.cholesky(law.covariance[arm]).T
        y = x @ law.weight[arm] + law.noise[arm] * white[:, 2]
        residual = y - x @ problem.weight[arm]
        # No point of the square does more harm than the best corner.
        corners = problem.threat.radius[arm] * np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
        losses = np.max(
            [(y - (x + corner) @ problem.weight[arm]) ** 2 for corner in corners], axis=0
        )
        for name, values in (("losses", losses), ("residuals", residual**2), ("responses", y**2)):
            mine = whole[name].values[1, 0, 0, arm]
            np.testing.assert_allclose(mine, values.sum(), rtol=1e-6)


@pytest.mark.slow
def test_until_goes_on_to_its_width_and_resumes(tmp_path):
    path = tmp_path / "a.nc"
    settings = {"until": 0.05, "seed": 1, "chunk": 4 * BLOCK, "path": path}
    first = sweep(CLAIM, GRID, **settings)
    assert np.all((first["high"] - first["low"]).values <= 0.05)
    assert len(np.unique(first["trials"])) > 1
    # At its last look a point has spent but 1 / (k (k + 1)) of its level.
    looks = first["trials"].values.max() // (4 * BLOCK)
    fixed = first.assign_attrs(until_width=0.0)
    tight = by_problem.estimates(CLAIM.estimand, fixed, 1e-3 / (looks * (looks + 1))).bounds
    loose = by_problem.estimates(CLAIM.estimand, first, 1e-3).bounds
    at = first["trials"].values == first["trials"].values.max()
    np.testing.assert_allclose(loose.high[at], tight.high[at], rtol=1e-12)
    assert _same(first, sweep(CLAIM, GRID, **settings))


def test_draws_that_are_not_finite_forbid_a_verdict():
    def broken(**parameters):
        problem = CLAIM.problem(**parameters)
        law = problem.law._replace(covariance=problem.law.covariance * 1e30)
        return problem._replace(law=law, weight=1e10 * problem.weight)

    claim = dataclasses.replace(CLAIM, problem=broken)
    dataset = sweep(claim, GRID, trials=BLOCK)
    assert summarise(dataset).text.startswith("no verdict: ")
    assert np.isfinite(dataset["losses"]).all()


def test_a_point_not_drawn_is_not_judged():
    judged = sweep(CLAIM, GRID, trials=BLOCK, shard=Shard(1, 2))
    assert summarise(judged).points == 2


@pytest.mark.slow
def test_one_executable_sums_for_all_norms():
    jax.clear_caches()
    with compiled_functions() as compiled:
        for norm in ("l1", "l2", "linf"):
            sweep(find(f"trained-squared-risk-{norm}"), trials=BLOCK)
    assert compiled.count("jit(count)") == 1


def test_other_problems_are_refused():
    with pytest.raises(InvalidInput, match="not of a kind that claims speak of"):
        by_problem.simulate(3.0, None, None, None)
