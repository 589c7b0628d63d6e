"""The cell engine: right counts, one executable, the same bits however the work is cut."""

import hashlib
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sims.projection import cells
from sims.projection.cells import BLOCK, LANES, Cells, count
from sims.random import draws
from sims.stats import interval
from support.compilations import compiled_functions
from theory import stable
from theory.domain import InvalidInput

KEY = jax.random.key(40)
ALPHAS = (0.7, 1.0, 1.5, 1.9)


def some_cells(size, alphas=None):
    """Cells of all kinds: unequal scales, bias, no radius and a large one, a scale of zero."""
    rng = np.random.default_rng(1)
    locations = np.stack([rng.uniform(-2, 0, size), rng.uniform(0, 2, size)], axis=1)
    scales = rng.uniform(0.5, 2, (size, 2))
    scales[size // 2] = 0
    radius = rng.uniform(0, 1.5, size) * (np.arange(size) % 8 > 0)
    index = None if alphas is None else np.resize(alphas, size)
    rounded = (locations, scales, rng.uniform(-0.5, 0.5, size), radius, index)
    return Cells(*(None if field is None else np.float32(field) for field in rounded))


def closed_form(problems):
    """The risks by hand, (n, 4), as `counted` orders them."""
    locations, scales, bias, radius = (np.asarray(field, float) for field in problems[:4])
    alpha = None if problems[4] is None else np.asarray(problems[4], float)

    def below(z):
        return stats.norm.cdf(z) if alpha is None else np.asarray(stable.cdf(z, alpha))

    risks = [
        below(-y * (locations[:, k] - y * moved + bias) / np.where(scales > 0, scales, 1e-9)[:, k])
        for moved in (0, radius)
        for k, y in enumerate((-1, 1))
    ]
    return np.stack(risks, axis=1)


def counted(found):
    return np.concatenate([found.natural, found.robust], axis=1)


@pytest.mark.parametrize("alphas", [None, ALPHAS], ids=["gaussian", "stable"])
def test_counts_agree_with_the_closed_form(alphas):
    """Exact intervals at 1e-6 together: an error of 0.0044 in any of 256 risks would be seen."""
    trials, problems = 2**21, some_cells(LANES, alphas)
    errors = counted(count(KEY, problems, trials))
    low, high = interval.clopper_pearson(errors, trials, 1e-6 / errors.size)
    exact = closed_form(problems)
    assert errors.dtype == np.int64
    assert np.all((low <= exact) & (exact <= high))
    assert (high - low).max() < 0.0044
    wrong = closed_form(problems._replace(radius=problems.radius + np.float32(0.03)))
    assert np.any((wrong < low) | (wrong > high))


@jax.jit
def drawn(cell, alpha, block):
    key = jax.random.fold_in(KEY, cell)
    if alpha is None:
        return jnp.concatenate(draws.normal_pair(key, (BLOCK // 2,), jnp.float32, block=block))
    return draws.symmetric_stable(key, alpha, (BLOCK,), jnp.float32, block=block)


@pytest.mark.parametrize("alphas", [None, ALPHAS], ids=["gaussian", "stable"])
def test_counts_are_those_of_the_documented_draws(alphas):
    """Also in the very last block, whose number a 32-bit index of draws could not hold."""
    problems = some_cells(LANES + 3, alphas)
    for first, samples in ((0, 2 * BLOCK + 700), (2**41 - BLOCK, BLOCK)):
        errors = counted(count(KEY, problems, samples, first=first))
        blocks = first // BLOCK + np.arange(-(-samples // BLOCK))
        for cell in (0, 1, LANES // 2, LANES + 2):
            fields = jax.tree.map(lambda field, c=cell: field[c], problems)
            noise = [drawn(np.uint32(cell), fields.alpha, np.uint32(b)) for b in blocks]
            margins = margins_of(fields, np.concatenate(noise, dtype=float)[:samples])
            # Draws within float32 rounding of the boundary may fall on either side of it.
            unclear = (np.abs(margins) < 1e-5).sum(1)
            assert np.all(np.abs(errors[cell] - (margins <= 0).sum(1)) <= unclear)


def margins_of(cell, noise):
    """The margins of one cell's draws by hand, (4, draws), as `counted` orders the risks."""
    return np.stack(
        [
            y * (float(cell.locations[k]) + float(cell.scales[k]) * noise - y * moved + cell.bias)
            for moved in (0.0, float(cell.radius))
            for k, y in enumerate((-1.0, 1.0))
        ]
    )


def test_a_cell_is_counted_alike_in_any_company_and_stretches_add_up():
    problems = some_cells(2 * LANES + 5, ALPHAS)
    whole = counted(count(KEY, problems, 5000))
    few = jax.tree.map(lambda field: field[: LANES + 1], problems)
    np.testing.assert_array_equal(counted(count(KEY, few, 5000)), whole[: LANES + 1])
    rest = count(KEY, problems, 5000 - 3 * BLOCK, first=3 * BLOCK)
    np.testing.assert_array_equal(counted(count(KEY, problems, 3 * BLOCK)) + counted(rest), whole)


def test_noise_is_a_cells_own_and_attacks_only_hurt():
    same = jax.tree.map(lambda f: np.repeat(f[:1], 2 * LANES, 0), some_cells(3, ALPHAS))
    errors = counted(count(KEY, same, 2**16))
    # Of 128 cells of one risk near 0.3: binomial spread, far from the none of shared noise.
    spread = errors[:, 0].var() / (errors[:, 0].mean() * (1 - errors[:, 0].mean() / 2**16))
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], 2 * LANES - 1) / (2 * LANES)
    assert low < spread < high
    found = count(KEY, some_cells(LANES), 2**14)
    assert np.all(found.natural <= found.robust)
    unmoved = some_cells(LANES).radius == 0
    np.testing.assert_array_equal(found.natural[unmoved], found.robust[unmoved])


SCRIPT = """
import hashlib, jax, numpy as np, sys
sys.path.insert(0, {tests!r})
import test_cells
for devices in map(int, sys.argv[1:]):
    for alphas in (None, test_cells.ALPHAS):
        print(test_cells.checksum(alphas, jax.devices()[:devices]))
"""
CHUNKS = (1, 2, 3, 5, 8, 64)  # blocks; the 12 blocks of the test are one chunk of the last


def checksum(alphas, devices):
    """One digest for all lengths of chunks, or several."""
    problems, samples = some_cells(LANES - 6, alphas), 11 * BLOCK + 77
    found = {
        hashlib.sha256(counted(count(KEY, problems, samples, chunk=c * BLOCK, devices=devices)))
        .hexdigest()
        for c in CHUNKS
    }  # fmt: skip
    return " ".join(sorted(found))


@pytest.mark.slow
def test_devices_and_chunks_do_not_change_a_bit():
    expected = [checksum(alphas, jax.devices()[:1]) for alphas in (None, ALPHAS)]
    assert all(len(digest) == 64 for digest in expected)
    assert expected[0] != expected[1]
    script = SCRIPT.format(tests=str(pathlib.Path(__file__).parent))
    for number, parts in ((3, ("2", "3")), (8, ("8",))):
        flags = f"--xla_force_host_platform_device_count={number}"
        done = subprocess.run(
            [sys.executable, "-c", script, *parts],
            env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
        )
        assert done.stdout.split() == expected * len(parts), done.stderr


@pytest.mark.parametrize("alphas", [None, ALPHAS], ids=["gaussian", "stable"])
def test_memory_is_one_block_whatever_the_number_of_draws(alphas):
    """The number of draws is a value of an argument: 2^20 blocks lower to the program of one."""
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:1]), ("device",))
    with jax.enable_x64(False):
        lowered = [
            cells.count_lanes.lower(
                mesh, KEY, some_cells(LANES, alphas), np.array([0, 0, blocks, BLOCK], np.uint32)
            )
            for blocks in (1, 2**20)
        ]
        assert lowered[0].as_text() == lowered[1].as_text()
        memory = lowered[0].compile().memory_analysis()
    # Flags and two parts of the cipher that do not change from block to block.
    assert memory.temp_size_in_bytes < 4 * LANES * BLOCK * 4


def test_progress_is_the_share_done():
    shares = []
    count(KEY, some_cells(LANES + 1), 2 * BLOCK, chunk=BLOCK, progress=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]


GOOD = some_cells(3, (1.5,))
BAD = [
    (GOOD._replace(alpha=np.array([1, 2, 2.1])), {}, r"alpha = 2\.1: .* must lie in \(0, 2\]"),
    (GOOD._replace(alpha=np.array([1, 2, 0])), {}, r"alpha = 0: "),
    (GOOD._replace(radius=np.array([0, 1, -1])), {}, r"radius = -1: .* must lie in \[0, inf\)"),
    (GOOD._replace(scales=-GOOD.scales), {}, r"scales = -"),
    (GOOD._replace(locations=np.full((3, 2), 1e39)), {}, r"locations = inf: .* must lie in"),
    (GOOD._replace(bias=np.full(3, np.nan)), {}, r"bias = nan: "),
    (GOOD._replace(bias=np.zeros(0)), {}, r"bias: must have shape \(n,\) with n >= 1, not \(0,\)"),
    (GOOD._replace(bias=None), {}, "bias = None: only alpha may be None"),
    (GOOD._replace(radius=0.1), {}, r"radius: must have shape \(3,\) as bias says, not \(\)"),
    (GOOD, {"samples": 0}, "samples = 0: draws of each cell, must be at least 1"),
    (GOOD, {"samples": 2**41 + 1}, "samples = 2199023255553: with first = 0 more than"),
    (GOOD, {"first": 100}, "first = 100: must be a multiple of 1024, at least 0"),
    (GOOD, {"chunk": 1000}, "chunk = 1000: must be a multiple of 1024, at most 1073741824"),
    (GOOD, {"chunk": 2**31}, "chunk = 2147483648: must be a multiple"),
    (GOOD, {"devices": []}, "devices = .*: must be at least one device"),
]


@pytest.mark.parametrize(("problems", "arguments", "message"), BAD)
def test_bad_input_is_refused(problems, arguments, message):
    with pytest.raises(InvalidInput, match=message):
        count(KEY, problems, **({"samples": 100} | arguments))


def test_one_executable_serves_cells_and_draws_of_any_number():
    jax.clear_caches()
    with compiled_functions() as compiled:
        for size, samples, chunk in ((1, 1, 1), (64, 3000, 2), (65, 10**5, 4), (300, 1024, 64)):
            problems = some_cells(size, np.linspace(0.5, 2, size))
            count(KEY, problems, samples, chunk=chunk * BLOCK, first=size * BLOCK)
    assert compiled == ["jit(count_lanes)"]
