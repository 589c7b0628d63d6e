"""The validation rule: e-values of mean one, no false alarms under peeking, power where stated."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from sims.noise import thresholds, validate
from sims.random import draws
from sims.stats import e_values
from sims.stats.e_values import in_bins, make_tails, weigh
from theory import stable
from theory.claims.settings.noise_law import law_tails
from theory.domain import InvalidInput

LAWS = [None, 2.0, 1.5, 1.0]


@functools.cache
def true(alpha):
    """The claim that is true; made when asked for, as every process imports this module."""
    return make_tails(*law_tails(alpha))


def test_every_e_value_has_mean_one():
    """By enumeration of all outcomes of six draws in four bins: nothing is random."""
    tails = make_tails(
        [-1.0, 0.0, 2.0],
        [0.7, 0.4, 0.05],
        {"one": [0.1, 0.3, 0.02], "other": [0.0, -0.2, 0.01]},
    )
    claimed, n = in_bins(tails.beyond, 1.0), 6
    mean = np.zeros(6)
    for bins in itertools.product(range(n + 1), repeat=4):
        if sum(bins) != n:
            continue
        chance = stats.multinomial.pmf(bins, n, claimed)
        found = weigh(tails, n - np.cumsum(bins)[:3], n)
        mean += chance * np.exp([*found.cells, *found.directions.values(), found.bins])
    np.testing.assert_allclose(mean, 1, rtol=1e-12)


def simulated(rng, tails, trials):
    """Counts beyond each threshold after so many draws, of a law for which the claim is true."""
    steps = np.diff(trials, prepend=0)
    bins = rng.multinomial(steps, in_bins(tails.beyond, 1.0)).cumsum(0)
    return bins[:, ::-1].cumsum(1)[:, ::-1][:, 1:]


@pytest.mark.slow
def test_a_thousand_true_laws_raise_no_more_alarms_than_budgeted_under_peeking():
    """At level 0.05, 1000 runs of 50 looks: more than 90 alarms have chance below 1e-6.

    The looks are evenly spaced in the logarithm of the draws, as are the chances of an alarm.
    """
    rng, tails, level = np.random.default_rng(0), true(1.5), 0.05
    trials = np.geomspace(1e5, 5e6, 50).astype(int)
    most = stats.binom.isf(1e-6, 1000, level)
    alarms = naive = 0
    for _ in range(1000):
        counts = simulated(rng, tails, trials)
        alarms += any(
            validate.contradictions(weigh(tails, c, int(n)), level)
            for c, n in zip(counts, trials, strict=True)
        )
        # A test for one look, taken at every look: this is what the rule is there to avoid.
        z = (counts - np.outer(trials, tails.beyond)) / np.sqrt(
            np.outer(trials, tails.beyond * (1 - tails.beyond))
        )
        naive += bool(np.any(np.abs(z) > stats.norm.isf(level / 2 / counts.shape[1])))
    assert alarms <= most
    assert naive > most


OFF = [{"scale": 5e-4}, {"alpha": -5e-4}, {"shift": 5e-4}]


# The Gaussian law has no index.
@pytest.mark.parametrize(
    ("alpha", "off"), [(a, off) for a in LAWS for off in OFF if a is not None or "alpha" not in off]
)
def test_errors_of_one_in_two_thousand_are_seen(alpha, off):
    """With 2^31 draws of the true law, at level 1e-4, by the direction and nothing else is needed.

    The draws are fixed; that a true claim is not rejected by them has chance at least 1 - 1e-4.
    """
    rng, trials = np.random.default_rng(3), 2**31
    counts = simulated(rng, true(alpha), [trials])[0]
    wrong = make_tails(*law_tails(alpha, **off))
    assert validate.judge(wrong, counts, trials, tolerance=1e-3).verdict == "contradicted"
    assert validate.judge(true(alpha), counts, trials, tolerance=1e-3).against == ()


@pytest.mark.parametrize("level", [0.1, 0.3, 0.5])
def test_one_threshold_off_by_a_thousandth_is_seen(level):
    trials = 2**31
    counts = simulated(np.random.default_rng(4), true(1.5), [trials])[0]
    cell = int(np.argmin(np.abs(true(1.5).beyond - level)))
    for factor in (1.001, 0.999):
        beyond = true(1.5).beyond.copy()
        beyond[cell] *= factor
        wrong = true(1.5)._replace(beyond=beyond)
        found = validate.judge(wrong, counts, trials, tolerance=1e-3)
        assert f"threshold {cell}" in found.against


@pytest.mark.parametrize("alpha", LAWS)
def test_the_sampled_laws_agree_and_a_wrong_one_does_not(alpha):
    """2^23 real draws; a scale off by 1 % is 14 standard deviations off in its direction."""
    key = jax.random.key(5)
    found = validate.validate(key, alpha, true(alpha), tolerance=0.5, most=2**23, chunk=2**21)
    assert found.verdict == "agrees"
    assert found.widest <= 0.5
    assert found.trials <= 2**23
    wrong = make_tails(*law_tails(alpha, scale=0.01))
    report = validate.validate(key, alpha, wrong, tolerance=1e-3, most=2**23, chunk=2**21)
    assert report.verdict == "contradicted"
    assert "scale" in report.against
    short = validate.validate(key, alpha, true(alpha), tolerance=1e-3, most=2**21, chunk=2**21)
    assert short.verdict == "undecided"


@pytest.mark.parametrize("alpha", [None, 1.0, 1.7])
def test_counts_are_those_of_the_draws_in_any_stretches(alpha):
    key, limits, block = jax.random.key(1), np.array([-2.0, 0.0, 0.3, 5.0]), thresholds.BLOCK
    whole = thresholds.count_beyond(key, alpha, limits, 0, 6 * block)
    parts = [
        thresholds.count_beyond(key, alpha, limits, a * block, (b - a) * block)
        for a, b in ((4, 6), (0, 1), (1, 4))
    ]
    np.testing.assert_array_equal(whole, sum(parts))
    drawn = np.concatenate(
        [
            draws.normal(key, (block,), jnp.float32, block=b)
            if alpha is None
            else draws.symmetric_stable(key, np.float32(alpha), (block,), jnp.float32, block=b)
            for b in range(6)
        ]
    )
    # Compiled apart, a draw may round across a threshold: none of these does.
    np.testing.assert_array_equal(whole, (drawn[:, None] > limits.astype(np.float32)).sum(0))


@pytest.mark.parametrize("alpha", [None, 1.0, 1.5, 2.0])
def test_tails_and_their_directions(alpha):
    """Against SciPy where it is exact, and central differences, error below 1e-9."""
    tails = law_tails(alpha)
    exact = {None: stats.norm.sf, 1.0: stats.cauchy.sf, 2.0: stats.norm(scale=np.sqrt(2)).sf}
    if alpha in exact:
        np.testing.assert_allclose(tails.beyond, exact[alpha](tails.thresholds), rtol=1e-13)
    for name, slope in tails.directions.items():
        if (alpha, name) == (2.0, "alpha"):
            continue  # nothing lies beyond two, and tests of the law cover its derivative there
        h = 1e-5
        ends = [law_tails(alpha, **{name: side * h}).beyond for side in (1, -1)]
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * h), atol=1e-9)
    assert ("alpha" in tails.directions) == (alpha is not None)


def test_the_mixture_over_sizes_covers_what_it_says():
    """log E is at least the best size's log likelihood ratio less the logarithm of their number."""
    tails = make_tails([0.0], [0.5], {"shift": [1.0]})
    found = weigh(tails, np.array([5200]), 10_000)
    p = 0.52
    best = 5200 * np.log(p / 0.5) + 4800 * np.log((1 - p) / 0.5)
    assert best - special.xlogy(1, 192) - 0.5 < found.directions["shift"] < best


BAD = [
    (lambda: make_tails([1.0, 0.0], [0.5, 0.4], {}), "thresholds"),
    (lambda: make_tails([0.0, 1.0], [0.4, 0.5], {}), "beyond"),
    (lambda: make_tails([0.0], [1.0], {}), "beyond"),
    (lambda: make_tails([0.0], [0.5, 0.4], {}), "beyond"),
    (lambda: make_tails([0.0], [0.5], {"scale": [np.nan]}), "directions"),
    (lambda: make_tails([0.0], [0.5], {"scale": [0.0]}), "directions"),
    (lambda: weigh(true(1.0), np.zeros(3, int), 5), "counts"),
    (lambda: weigh(make_tails([0.0], [0.5], {}), np.array([7]), 5), "counts"),
    (lambda: weigh(make_tails([0.0], [0.5], {}), np.array([0.5]), 5), "counts"),
    (lambda: law_tails(2.5), "alpha"),
    (lambda: law_tails(None, alpha=0.1), "off"),
    (lambda: thresholds.count_beyond(jax.random.key(0), 0.0, [0.0], 0, 2**14), "alpha"),
    (lambda: thresholds.count_beyond(jax.random.key(0), 1.0, [0.0], 1, 2**14), "first"),
    (lambda: thresholds.count_beyond(jax.random.key(0), 1.0, [0.0], 0, 2**31), "trials"),
    (lambda: thresholds.count_beyond(jax.random.key(0), 1.0, [np.nan], 0, 2**14), "thresholds"),
    (lambda: validate.judge(true(1.0), np.zeros(40, int), 0, tolerance=0.0), "tolerance"),
    (lambda: validate.judge(true(1.0), np.zeros(40, int), 0, tolerance=1.0, level=1.0), "level"),
    (lambda: validate.validate(jax.random.key(0), 1.0, true(1.0), tolerance=1.0, most=5), "most"),
    (
        lambda: validate.validate(jax.random.key(0), 1.0, true(1.0), tolerance=1.0, chunk=99),
        "chunk",
    ),
]


@pytest.mark.parametrize(("call", "name"), BAD)
def test_bad_input_is_named(call, name):
    with pytest.raises(InvalidInput, match=f"^{name}"):
        call()


def test_nothing_counted_says_nothing():
    report = validate.judge(true(1.0), np.zeros(40, int), 0, tolerance=0.1)
    assert report.verdict == "undecided"
    assert report.against == ()
    assert stable.sf(0.0, 1.0) == 0.5
    assert isinstance(e_values.weigh(true(1.0), np.zeros(40, int), 0).bins, float)


def test_the_command_says_which_verdict(capsys, monkeypatch):
    from sims import __main__ as command

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["sims", "validate", *arguments])
        with pytest.raises(SystemExit) as stop:
            command.main()
        return stop.value.code, *capsys.readouterr()

    status, out, _ = call("--alpha", "1", "--trials", str(2**24), "--tolerance", "0.5")
    assert (status, "agrees" in out) == (0, True)
    status, out, _ = call("--trials", str(2**14), "--tolerance", "1e-3")
    assert (status, "undecided" in out) == (1, True)
    for arguments, name in (
        (("--alpha", "3"), "alpha"),
        (("--tolerance", "0"), "tolerance"),
        (("--trials", "5"), "most"),
        (("--seed", "-1"), "seed"),
        (("--level", "2"), "level"),
    ):
        status, out, error = call(*arguments)
        assert (status, out) == (2, "")
        assert error.startswith(f"error: {name} = ")
