"""What a sweep is: a claim, a grid, a seed and a budget, checked before anything is computed."""

import hashlib
import itertools
import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from sims.random import keys
from sims.simulate.two_classes import BLOCK
from sims.sweep import claim_code
from theory.claims.claim import Claim
from theory.claims.registry import require_sound
from theory.command_line.numbers import parse_number, parse_whole
from theory.domain import InvalidInput

CHUNK = 32 * BLOCK
# Counts are int64, and shares of them float64, which holds all integers up to here.
MOST_TRIALS = 2**53
# A result file of so many points has gigabytes.
MOST_POINTS = 10**7


class Shard(NamedTuple):
    """Share `number` of `total`, counted from 1: every total-th point of the grid."""

    number: int = 1
    total: int = 1

    @classmethod
    def parse(cls, text: str, name: str = "shard") -> "Shard":
        """Returns the shard written as i/n; `name` is what a message calls it.

        Raises:
            InvalidInput: unless 1 <= i <= n.
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        shard = cls(*map(int, match.groups())) if match else cls(0, 0)
        if not 1 <= shard.number <= shard.total:
            raise InvalidInput(f"{name} = {text!r}: must be i/n with 1 <= i <= n, such as 2/4")
        return shard

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


class SweepPlan(NamedTuple):
    """A checked sweep.

    Args:
        claim, trials, until, seed, chunk, shard: as for `sims.sweep.run.sweep`.
        grid: the values of every axis, in the order of the claim's axes, (values,) each.
    """

    claim: Claim
    grid: dict[str, np.ndarray]
    trials: int
    until: float | None
    seed: int
    chunk: int
    shard: Shard

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of values on each axis."""
        return tuple(len(values) for values in self.grid.values())

    @property
    def points(self) -> dict[str, np.ndarray]:
        """The values of every axis at every point, (n,), the last axis fastest."""
        columns = np.array(list(itertools.product(*self.grid.values())))
        return dict(zip(self.grid, columns.T, strict=True))

    @property
    def mine(self) -> np.ndarray:
        """The indices of the points that this shard counts, (points,)."""
        return np.arange(int(np.prod(self.shape)))[self.shard.number - 1 :: self.shard.total]

    def key(self, point: int) -> jax.Array:
        """Returns the key (), of the seed and of what the point is, not where it stands."""
        # In hexadecimal, which is exact; sorted, so that the order of the axes does not matter.
        values = [f"{name}={column[point].hex()}" for name, column in sorted(self.points.items())]
        digest = hashlib.sha256("\n".join([self.claim.name, *values]).encode()).digest()
        key = keys.key(self.seed)
        for word in np.frombuffer(digest[:8], np.dtype("<u4")):
            key = jax.random.fold_in(key, word)
        return key

    def identity(self) -> dict[str, Any]:
        """Returns what a result file must share with this plan for the two to be one sweep."""
        return {
            "claim": self.claim.name,
            "seed": self.seed,
            "trials_per_class": self.trials if self.until is None else 0,
            "until_width": self.until if self.until is not None else 0.0,
            "chunk": self.chunk,
            "shard": str(self.shard),
            "code": claim_code.digest(self.claim),
            "jax": jax.__version__,
        }


def make_plan(
    claim: Claim,
    grid: Mapping[str, Sequence[float]] | None = None,
    *,
    trials: int = 100_000,
    until: float | None = None,
    seed: int = 0,
    chunk: int = CHUNK,
    shard: Shard | None = None,
) -> SweepPlan:
    """Returns the checked plan; axes that `grid` leaves out keep their default values.

    Raises:
        InvalidInput: naming the argument, its value and what is allowed.
    """
    # A claim that cannot be cited, or whose grid lies outside its domain, is refused undrawn.
    require_sound(claim)
    for name in grid or {}:
        claim.axis(name)
    axes = {axis.name: axis.grid((grid or {}).get(axis.name, axis.default)) for axis in claim.axes}
    count = math.prod(len(values) for values in axes.values())
    if count > MOST_POINTS:
        raise InvalidInput(f"grid: has {count} points; must have at most {MOST_POINTS}")
    require_whole("trials", trials)
    if trials < 1:
        raise InvalidInput(f"trials = {trials}: points of each class, must be at least 1")
    if trials > MOST_TRIALS:
        raise InvalidInput(f"trials = {trials}: points of each class, must be at most 2^53")
    if until is not None and not (isinstance(until, float | np.floating) and 0 < until < 1):
        raise InvalidInput(f"until = {until}: the width of an interval, must lie in (0, 1)")
    # An interval of that width at a risk of 1/2 takes more than until^-2 points.
    if until is not None and until < MOST_TRIALS**-0.5:
        raise InvalidInput(f"until = {until}: would take more than 2^53 points; at least 1.1e-8")
    require_seed(seed)
    require_whole("chunk", chunk)
    if not BLOCK <= chunk <= 2**30 or chunk % BLOCK:
        raise InvalidInput(f"chunk = {chunk}: must be a multiple of {BLOCK}, at most 2^30")
    plan = SweepPlan(claim, axes, trials, until, seed, chunk, shard or Shard())
    if not plan.mine.size:
        count = int(np.prod(plan.shape))
        raise InvalidInput(f"shard = {plan.shard}: the grid has only {count} points to share")
    return plan


def require_seed(seed: int) -> None:
    """Raises InvalidInput unless a seed fits the 32 bits of what JAX makes a key of."""
    require_whole("seed", seed)
    if not 0 <= seed < 2**32:
        raise InvalidInput(f"seed = {seed}: must lie in [0, 2^32)")


def require_whole(name: str, value: Any) -> None:
    """Raises InvalidInput unless a value is a Python or NumPy integer; a truth value is not."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise InvalidInput(f"{name} = {reprlib.repr(value)}: must be a whole number")


def parse_grid(text: str) -> tuple[str, tuple[float, ...]]:
    """Returns the axis and the values written as axis=low:high:count or axis=value,value,...

    Numbers are those of all commands: decimals or ratios, such as 1e-3 or 8/255.

    Raises:
        InvalidInput: for anything else, or more values than a grid may have points.
    """
    name, _, values = text.partition("=")
    shown = text if len(text) <= 60 else f"{text[:40]}...{text[-10:]}"
    try:
        if ":" in values:
            low, high, count = values.split(":")
            return name, _evenly(parse_number(low), parse_number(high), parse_whole(count))
        return name, tuple(parse_number(value) for value in values.split(","))
    except InvalidInput as error:
        raise InvalidInput(f"grid = {shown!r}: {error}") from error
    except ValueError as error:
        raise InvalidInput(
            f"grid = {shown!r}: must look like radius=0:2:9 (low:high:count) or radius=0,8/255,2"
        ) from error


def _evenly(low: float, high: float, count: int) -> tuple[float, ...]:
    """Returns so many values from low to high."""
    if not 1 <= count <= MOST_POINTS:
        raise InvalidInput(f"count = {count}: of values, must lie in [1, {MOST_POINTS}]")
    if low > high:
        raise InvalidInput(f"low = {low:g}: must be at most high = {high:g}")
    return tuple(np.linspace(low, high, count).tolist())
