"""The same bits however a sweep is cut, and nothing lost when it is not allowed to go on."""

import dataclasses
import os

import jax
import numpy as np
import pytest

from sims.__main__ import check
from sims.simulate.two_classes import BLOCK
from sims.sweep import file as sweep_file
from sims.sweep import run as sweep_run
from sims.sweep.plan import Shard, make_plan, parse_grid
from sims.sweep.run import prepare_sweep, run, sweep
from support.compilations import compiled_functions
from support.small import CLAIM
from theory.claims import evaluate
from theory.claims.registry import registered
from theory.domain import InvalidInput

TRIALS = 5 * BLOCK + 17
COUNTS = ["errors", "trials", "nonfinite"]


@pytest.fixture(scope="module")
def whole():
    return sweep(CLAIM, trials=TRIALS, seed=5, chunk=2 * BLOCK)


def _same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in COUNTS)


def test_a_sweep_is_labelled_counts_with_theory_and_verdict(whole):
    assert whole["errors"].dims == ("radius", "mean", "label")
    assert whole["errors"].dtype == np.int64
    assert (whole["trials"] == TRIALS).all()
    assert whole.sel(radius=0.5, mean=1.0)["theory"].values == pytest.approx(0.3085375387, abs=1e-9)
    assert whole.attrs["claim"] == "small"


def test_chunks_do_not_change_counts(whole):
    for chunk in (BLOCK, 16 * BLOCK):
        assert _same(whole, sweep(CLAIM, trials=TRIALS, seed=5, chunk=chunk))


def test_the_grid_around_a_point_does_not_change_its_counts(whole):
    part = sweep(CLAIM, {"radius": [0.5], "mean": [1.0, 0.7]}, trials=TRIALS, seed=5)
    assert _same(part.sel(mean=[1.0]), whole.sel(radius=[0.5], mean=[1.0]))


def test_another_seed_or_claim_changes_counts(whole):
    assert not _same(whole, sweep(CLAIM, trials=TRIALS, seed=6))
    other = dataclasses.replace(CLAIM, name="other")
    assert not _same(whole, sweep(other, trials=TRIALS, seed=5))


def test_points_are_independent_draws(whole):
    assert len(np.unique(whole["errors"].sel(radius=1.0, mean=1.0))) == 2
    keys = [jax.random.key_data(make_plan(CLAIM).key(point)).tolist() for point in range(6)]
    assert len({tuple(key) for key in keys}) == 6


def test_x64_does_not_change_counts(whole):
    with jax.enable_x64(False):
        assert _same(whole, sweep(CLAIM, trials=TRIALS, seed=5))


def test_shards_merge_to_the_undivided_file(whole, tmp_path):
    paths = [tmp_path / f"{i}.nc" for i in (1, 2, 3)]
    for i, path in enumerate(paths, 1):
        sweep(CLAIM, trials=TRIALS, seed=5, shard=Shard(i, 3), path=path)
    merged = sweep_file.merge(paths[::-1])
    assert _same(merged, whole)
    with pytest.raises(InvalidInput, match="shard 3/3 is missing"):
        sweep_file.merge(paths[:2])
    with pytest.raises(InvalidInput, match="does not fit"):
        sweep_file.merge([paths[0], paths[0], paths[1]])


def test_stopping_half_way_and_going_on_gives_the_same_file(tmp_path, monkeypatch):
    undisturbed, path = tmp_path / "a.nc", tmp_path / "b.nc"
    settings = {"trials": TRIALS, "seed": 5, "chunk": BLOCK}
    sweep(CLAIM, path=undisturbed, **settings)
    looks = []

    def stop(share):
        looks.append(share)
        if len(looks) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(CLAIM, path=path, progress=stop, **settings)
    assert 0 < sweep_file.load(path)["trials"].values.max() < TRIALS
    again = []
    sweep(CLAIM, path=path, progress=again.append, **settings)
    assert path.read_bytes() == undisturbed.read_bytes()
    assert again[-1] == 1.0
    assert len(looks) + len(again) == 6


def test_until_stops_each_point_at_its_width_and_resumes(tmp_path):
    path, width = tmp_path / "a.nc", 0.02
    first = sweep(CLAIM, until=width, seed=1, chunk=4 * BLOCK, path=path)
    assert np.all((first["high"] - first["low"]).values <= width)
    assert len(np.unique(first["trials"])) > 1
    assert _same(first, sweep(CLAIM, until=width, seed=1, chunk=4 * BLOCK, path=path))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 6},
        {"trials": TRIALS + 1},
        {"chunk": BLOCK},
        {"grid": {"radius": [0.25]}},
        {"until": 0.1},
    ],
)
def test_a_file_of_another_sweep_is_refused_and_kept(tmp_path, change):
    path = tmp_path / "a.nc"
    settings = {"trials": TRIALS, "seed": 5, "chunk": 2 * BLOCK}
    sweep(CLAIM, path=path, **settings)
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match="belongs to another sweep"):
        sweep(CLAIM, path=path, **(settings | change))
    assert path.read_bytes() == before


def test_a_file_of_other_code_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.nc"
    sweep(CLAIM, trials=10, path=path)
    monkeypatch.setattr("sims.sweep.claim_code.digest", lambda claim: "0" * 16)
    with pytest.raises(InvalidInput, match="code = "):
        sweep(CLAIM, trials=10, path=path)


@pytest.mark.parametrize("content", [b"", b"not netCDF", None])
def test_truncated_and_foreign_files_are_refused_and_kept(tmp_path, content):
    path = tmp_path / "a.nc"
    sweep(CLAIM, trials=10, path=path)
    path.write_bytes(path.read_bytes()[:3000] if content is None else content)
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match="not a readable file"):
        sweep(CLAIM, trials=10, path=path)
    assert path.read_bytes() == before


def test_a_full_disk_is_reported_and_the_last_chunk_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "a.nc"
    settings = {"trials": 3 * BLOCK, "chunk": BLOCK}
    replace, calls = os.replace, []

    def full(*args):
        calls.append(args)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        replace(*args)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InvalidInput, match=r"cannot be written \(No space left on device\)"):
        sweep(CLAIM, path=path, **settings)
    monkeypatch.undo()
    assert sweep_file.load(path)["trials"].values.max() == BLOCK
    assert [p.name for p in tmp_path.iterdir()] == ["a.nc"]
    assert _same(sweep(CLAIM, path=path, **settings), sweep(CLAIM, **settings))


def test_an_unwritable_folder_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_run, "_count_chunk", lambda *_: pytest.fail("worked"))
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match=r"output = .*must be a folder that can be written to"):
        sweep(CLAIM, path=tmp_path / "file" / "a.nc")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 0}, "trials = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": 2**32}, "seed = 4294967296"),
        ({"until": 1.5}, "until = 1.5"),
        ({"chunk": 100}, "chunk = 100"),
        ({"level": 0.0}, "level = 0"),
        ({"shard": Shard(9, 9)}, "shard = 9/9: the grid has only 6 points"),
        ({"grid": {"raduis": [1.0]}}, "did you mean radius"),
        ({"grid": {"mean": [4.0]}}, r"mean = 4: class mean must lie in \(0, 3\]"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(change, message, monkeypatch):
    monkeypatch.setattr(sweep_run, "_count_chunk", lambda *_: pytest.fail("worked"))
    with pytest.raises(InvalidInput, match=message):
        sweep(CLAIM, **change)


@pytest.mark.parametrize("text", ["radius", "radius=", "radius=1:2", "radius=a,b", "radius=0:1:x"])
def test_bad_grid_texts_are_refused(text):
    with pytest.raises(InvalidInput, match="must look like radius=0:2:9"):
        parse_grid(text)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "-1/2"])
def test_bad_shard_texts_are_refused(text):
    with pytest.raises(InvalidInput, match="must be i/n"):
        Shard.parse(text)


def test_grid_texts_mean_what_they_look_like():
    assert parse_grid("radius=0:1:3") == ("radius", (0.0, 0.5, 1.0))
    assert parse_grid("radius=0,2") == ("radius", (0.0, 2.0))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian-robust-risk-l2", "stable-robust-risk"])
def test_one_executable_counts_a_whole_grid_and_all_claims_of_its_kind(name):
    jax.clear_caches()
    with compiled_functions() as compiled:
        claim = dataclasses.replace(registered()[name], name=f"{name}-again")
        sweep(registered()[name], trials=BLOCK)
        sweep(claim, trials=3 * BLOCK + 1, chunk=BLOCK)
    assert compiled.count("jit(count)") == 1


# What eager keys and layouts compile: a few operations each, once for a session.
GLUE = {
    f"jit({n})" for n in ("_threefry_seed", "convert_element_type", "_threefry_fold_in", "stage")
}


@pytest.mark.parametrize(
    "name", ["mixup-law-gaussian", "line-class-errors", "nearest-class-is-most-reachable"]
)
def test_a_sweep_of_any_kind_compiles_what_is_said_and_what_is_counted_once(name):
    """Squared risks are in test_by_problem."""
    jax.clear_caches()
    # Another test may have asked for the same points in this process.
    evaluate._evaluate_cached.cache_clear()
    with compiled_functions() as compiled:
        sweep(registered()[name], trials=2 * BLOCK + 1, chunk=BLOCK)
    assert compiled.count("jit(count)") == compiled.count("jit(_block_of_rows)") == 1
    assert set(compiled) - {"jit(count)", "jit(_block_of_rows)"} <= GLUE


def test_a_prepared_sweep_is_what_it_was_after_it_has_been_run(tmp_path, whole):
    plan = make_plan(CLAIM, trials=TRIALS, seed=5, chunk=2 * BLOCK)
    prepared = prepare_sweep(plan, path=tmp_path / "a.nc")
    first, second = run(prepared), run(prepared)
    assert not prepared.dataset["trials"].any()
    assert _same(first, whole)
    assert _same(second, whole)


def test_nothing_is_drawn_or_written_by_the_preparation(tmp_path, monkeypatch):
    monkeypatch.setattr("sims.sweep.devices.count_all", None)
    prepare_sweep(make_plan(CLAIM, trials=TRIALS), path=tmp_path / "a.nc")
    assert list(tmp_path.iterdir()) == []


def test_the_command_looks_at_each_file_once(tmp_path, monkeypatch):
    looked = []
    resume = sweep_file.resume

    def counting(path, plan):
        looked.append(path.name)
        return resume(path, plan)

    monkeypatch.setattr(sweep_file, "resume", counting)
    names = ("gaussian-robust-risk-l2", "gaussian-robust-risk-l1")
    assert check(names, trials=10, grid=("radius=0.5", "scale_ratio=1"), out=tmp_path) == 0
    assert looked == [f"{name}.nc" for name in names]
