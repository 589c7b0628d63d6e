"""Generator of the Chebyshev tables behind `theory.stable`: ``python -m theory.stable.tables``.

Every table is a polynomial fit in (alpha, position) of an integral along a rotated ray, evaluated
in NumPy long double (80 bits) by the trapezoidal rule; nothing but elementary functions enters.
With z = exp(u + i psi) and the characteristic function exp(-|t|^alpha),

    density  = (1/pi) Re Int exp(ixz - z^alpha) z du
    survival = (1/pi) Im Int exp(ixz) (1 - exp(-z^alpha)) du
    central  = (1/pi) Im Int (exp(ixz) - 1) exp(-z^alpha) du        (cdf - 1/2)

Both exponentials decay along the ray, so the rule converges exponentially and knows no special
case at alpha = 1. For alpha >= 1.5 survival and density are split into the Gaussian one and
(2 - alpha) times a remainder, the same integrals with exp(-z^2) - exp(-z^alpha) over 2 - alpha:
relative accuracy survives alpha -> 2, where a Gaussian core meets a power tail of size 2 - alpha.
"""

import pathlib
import sys
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from theory.stable.layout import (
    ALPHA_TERMS,
    FIRST,
    GAUSSIAN_FROM,
    GAUSSIAN_PIVOT,
    GAUSSIAN_START,
    GAUSSIAN_TERMS,
    LAST,
    LIFTS,
    PANEL_CENTRES,
    PANEL_SCALES,
    SCALES_BITS,
    SPLIT,
    table_lift,
    zone_terms,
)

Real = np.longdouble
Array = NDArray[np.longdouble]
Complex = NDArray[np.clongdouble]

_PI = Real("3.14159265358979323846264338327950288")
_ALPHA_NODES = 22  # two more than kept terms, in each panel
_NODES = (22, 43, 43, 28)  # in the zones; a few more than kept terms
# In e-folds: an 80-bit long double ends at exp(-44), and ten more are left to the prefactors.
_RELATIVE = 54  # the trapezoidal rule and the truncation of the ray leave exp(-54)
# Larger exponents are dropped; powers of z up to z^3 stand before the exponentials.
_NEGLIGIBLE = 150


class Integrals(NamedTuple):
    """Density, -d/dx density, P(X > x) and P(0 < X <= x), each (n,)."""

    density: Array
    slope: Array
    survival: Array
    central: Array


def chebyshev_nodes(count: int) -> Array:
    """Returns the zeros of T_count on (-1, 1), in increasing order, (n,) with n = count."""
    return -np.cos(_PI * (np.arange(count) + Real(0.5)) / count)


def fit(values: Array, kept: int) -> Array:
    """Returns monomial coefficients, (kept, ...), of values, (n, ...), at `chebyshev_nodes`.

    The polynomial is the Chebyshev interpolant cut after T_{kept-1}. Its coefficients fall faster
    than those of the T_k grow, so that the monomials do not cancel; the order of the two products
    matters.
    """
    count = len(values)
    angle = _PI * (np.arange(count) + Real(0.5)) / count
    to_chebyshev = 2 * np.cos(np.arange(kept)[:, None] * (_PI - angle)) / count
    to_chebyshev[0] /= 2
    return chebyshev_monomials(kept).T @ (to_chebyshev @ values)


def chebyshev_monomials(count: int) -> Array:
    """Returns the matrix, (n, n), whose row k holds the monomial coefficients of T_k, k < n."""
    rows = np.eye(count, dtype=Real)
    for k in range(2, count):
        rows[k, :k] = -rows[k - 2, :k]
        rows[k, 1 : k + 1] += 2 * rows[k - 1, :k]
        rows[k, k] = 2 * rows[k - 1, k - 1]
    return rows


def ray(alpha: Real, x: Array) -> tuple[Array, Real, Real]:
    """Returns log-radii u, (k,), their spacing and the angle psi of a ray for every x > 0, (n,)."""
    # Half of the widest angle, up to pi / 2, at which exp(-z^alpha) decays too; at alpha >= 1.5
    # half of pi / 4, the limit for exp(-z^2), which enters there as well.
    gaussian = alpha >= GAUSSIAN_FROM
    psi = _PI / 8 if gaussian else min(_PI / 2, _PI / (2 * alpha)) / 2
    # The integrand is analytic in a strip of half-width psi: the rule errs by exp(-2 pi psi / h).
    # A little less than psi, or the integrand's bound at the edge of the strip would be infinite.
    spacing = 2 * _PI * Real(0.98) * psi / _RELATIVE
    lowest = -_RELATIVE / min(alpha, Real(1)) - np.log(max(x.max(), Real(1)))
    highest = np.log(_NEGLIGIBLE / np.cos(alpha * psi)) / alpha
    # The survival function's second factor tends to 1, so that exp(ixz) alone has to decay.
    if x.min() > 0:
        highest = max(highest, np.log(_NEGLIGIBLE / (x.min() * np.sin(psi))))
    count = int((highest - lowest) / spacing)
    return lowest + spacing * np.arange(count), spacing, psi


def expm1(z: Complex) -> Complex:
    """Returns exp(z) - 1 without cancellation at small complex z."""
    half = np.sin(z.imag / 2)
    real = np.expm1(z.real) * np.cos(z.imag) - 2 * half * half
    value: Complex = real + 1j * np.exp(z.real) * np.sin(z.imag)
    return value


def integrate(alpha: Real, x: Array) -> Integrals:
    """Returns the law, each (n,), at one alpha and x > 0, (n,)."""
    u, spacing, psi = ray(alpha, x)
    z = np.exp(u + 1j * psi)
    decay, lost = decay_and_loss(np.exp(alpha * (u + 1j * psi)))
    wave, wave_minus_one = np.exp(1j * x[:, None] * z), expm1(1j * x[:, None] * z)
    # Int exp(ixz) z^k dz has no real part: subtracting 1 from either factor leaves integrals that
    # scale with their value, one for small x and one for large.
    # Where they are about equal does not matter: the scaled argument is 1 there.
    mode, curvature = scales(alpha)
    density = np.where(x * mode < 1, (wave @ (decay * z)).real, (wave @ (lost * z)).real)
    square = 1j * z * z
    small, large = (wave_minus_one @ (decay * square)).real, (wave @ (lost * square)).real
    slope = np.where(x**3 * curvature < 1, -small, -large)
    survival, central = -(wave @ lost).imag, (wave_minus_one @ decay).imag
    return Integrals(*(spacing / _PI * total for total in (density, slope, survival, central)))


def integrate_remainder(alpha: Real, x: Array) -> Integrals:
    """Returns the law less that at 2, over 2 - alpha, each (n,); its central part as it is."""
    u, spacing, psi = ray(alpha, x)
    z = np.exp(u + 1j * psi)
    decay, _ = decay_and_loss(np.exp(alpha * (u + 1j * psi)))
    gap = 2 - alpha
    excess = -z * z * expm1(-gap * (u + 1j * psi))  # z^2 - z^alpha
    # expm1 where the two powers are close and would cancel, the plain difference elsewhere.
    close = excess.real < 1
    difference = np.exp(-z * z) * expm1(np.where(close, excess, 0))
    factor = np.where(close, difference, decay - np.exp(-z * z)) / gap
    wave = np.exp(1j * x[:, None] * z)
    density, slope = (wave @ (factor * z)).real, -(wave @ (factor * 1j * z * z)).real
    survival, central = -(wave @ factor).imag, (expm1(1j * x[:, None] * z) @ decay).imag
    return Integrals(*(spacing / _PI * total for total in (density, slope, survival, central)))


def decay_and_loss(power: Complex) -> tuple[Complex, Complex]:
    """Returns exp(-power) and exp(-power) - 1."""
    # exp(-11000) is near the smallest long double: beyond, a complex exponential makes 0 * inf.
    return np.where(power.real < 11000, np.exp(-power), 0), expm1(-power)


def scales(alpha: Real) -> tuple[Real, Real]:
    """Returns density and -second derivative of the density at x = 0.

    They are Gamma(1/alpha)/(pi alpha) and Gamma(3/alpha)/(pi alpha).
    """
    u, spacing, psi = ray(alpha, np.zeros(1, Real))
    z = np.exp(u + 1j * psi)
    decay, _ = decay_and_loss(np.exp(alpha * (u + 1j * psi)))
    return spacing / _PI * np.sum(decay * z).real, spacing / _PI * np.sum(decay * z * z * z).real


def positions(alpha: Real) -> list[Array]:
    """Returns alpha ln x at the nodes, (n,), of each zone: near zero, two middle parts, tail."""
    near, low, high, tail = map(chebyshev_nodes, _NODES)
    first, split, last = (np.log(Real(2)) * (k * alpha + c) for k, c in (FIRST, SPLIT, LAST))
    return [
        first + alpha / 2 * np.log((1 + near) / 2),
        first + (split - first) / 2 * (1 + low),
        split + (last - split) / 2 * (1 + high),
        last - np.log((1 + tail) / 2),
    ]


def smooth_values(alpha: Real) -> dict[str, Array]:
    """Returns the tabulated functions at one alpha, at the nodes of all their zones, (n,)."""
    near, *middle, tail = (np.exp(y / alpha) for y in positions(alpha))
    mode, curvature = scales(alpha)
    gaussian = alpha >= GAUSSIAN_FROM
    # The remainder is divided by 2 - alpha already, and its floors are 1: there is no mode in it.
    outer = integrate_remainder if gaussian else integrate
    gap = 1 if gaussian else 2 - alpha
    floors = (1, 1) if gaussian else (1 / mode, 1 / curvature)
    at = integrate(alpha, near)
    by_zone = [[at.density / mode, at.slope / (near * curvature), at.central / (near * mode)]]
    central = []
    for x in middle:
        at = outer(alpha, x)
        lifts = [table_lift(lift, alpha, x**-alpha) for lift in LIFTS]
        density = at.density * (floors[0] + lifts[0] * x ** (1 + alpha) / alpha)
        slope = at.slope / x * (floors[1] + lifts[1] * x ** (3 + alpha) / alpha)
        by_zone.append([density, slope, at.survival * (1 + x**alpha)])
        central.append(at.central * (1 / (x * mode) + 2 * lifts[2]))
    at = outer(alpha, tail)
    power = tail**alpha / gap
    lifts = [table_lift(lift, alpha, tail**-alpha) for lift in LIFTS]
    density = at.density * lifts[0] * tail * power / alpha
    slope = at.slope * lifts[1] * tail**2 * power / alpha
    by_zone.append([density, slope, at.survival * power])
    central.append(0.5 - (2 - alpha) * at.survival if gaussian else at.central * lifts[2])
    tables = dict(
        zip(
            ("density", "slope", "survival"),
            map(np.concatenate, zip(*by_zone, strict=True)),
            strict=True,
        )
    )
    logs = np.log2(np.array([mode, curvature]))
    return tables | {"central": np.concatenate(central), "log2_scales": logs}


def fit_positions(values: Array, kept: tuple[int, ...]) -> Array:
    """Returns polynomial coefficients in position, (alphas, terms), of node values (alphas, n)."""
    nodes = [n for n, terms in zip(_NODES, kept, strict=True) if terms]
    zones = zip(np.split(values.T, np.cumsum(nodes)[:-1]), filter(None, kept), strict=True)
    return np.concatenate([fit(zone, terms) for zone, terms in zones]).T


def panel_tables(panel: int) -> dict[str, NDArray[np.floating]]:
    """Returns the tables, (m, ...), of one panel in alpha, with m powers, by name and dtype."""
    # The nodes of s = scale (alpha - centre)/(alpha + centre), solved for alpha.
    ratio = chebyshev_nodes(_ALPHA_NODES) / Real(PANEL_SCALES[panel])
    alphas = Real(PANEL_CENTRES[panel]) * (1 + ratio) / (1 - ratio)
    samples = [smooth_values(alpha) for alpha in alphas]
    tables = {}
    for name in samples[0]:
        values = np.stack([sample[name] for sample in samples])
        for dtype, terms in ALPHA_TERMS.items():
            if name == "log2_scales":
                # In two numbers, short and rest: see `theory.stable.prepared.scales`.
                fitted = fit(values, terms)
                short = np.round(np.ldexp(fitted, SCALES_BITS[dtype]))
                short = np.ldexp(short, -SCALES_BITS[dtype])
                tables[f"{name}_{dtype}"] = short.astype(dtype)
                tables[f"{name}_rest_{dtype}"] = (fitted - short).astype(dtype)
            else:
                fitted = fit_positions(values, zone_terms(name, dtype))
                tables[f"{name}_{dtype}"] = fit(fitted, terms).astype(dtype)
    return tables


def gaussian_ratio(x: Array) -> Array:
    """Returns exp(x^2/4) erfc(x/2)/2 = (1/sqrt pi) Int_0^inf exp(-s^2 - x s) ds, (n,)."""
    # s = exp(v - exp(-v)) makes the integrand fall double exponentially at either end.
    v = np.arange(-4, 5, Real(1) / 64)
    s = np.exp(v - np.exp(-v))
    weight = s * (1 + np.exp(-v)) / 64
    value: Array = np.exp(-s * s - x[:, None] * s) @ weight / np.sqrt(_PI)
    return value


def gaussian_tables() -> dict[str, NDArray[np.floating]]:
    """Returns (x + k) exp(x^2/4) erfc(x/2)/2 as polynomials in t, (n,) coefficients each.

    Here t = 1 - 2 (x0 + k)/(x + k), which falls from 1 at x = inf to -1 at x0.
    """
    count = GAUSSIAN_TERMS["float64"] + 6
    start, pivot = Real(str(GAUSSIAN_START)), Real(str(GAUSSIAN_PIVOT))
    shifted = 2 * (start + pivot) / (1 - chebyshev_nodes(count))
    values = shifted * gaussian_ratio(shifted - pivot)
    return {
        f"gaussian_{dtype}": fit(values, kept).astype(dtype)
        for dtype, kept in GAUSSIAN_TERMS.items()
    }


def all_tables() -> dict[str, NDArray[np.floating]]:
    """Returns every table, (panels, ...), the panels stacked (takes about ten seconds)."""
    panels = [panel_tables(panel) for panel in range(len(PANEL_CENTRES))]
    return {name: np.stack([p[name] for p in panels]) for name in panels[0]} | gaussian_tables()


if __name__ == "__main__":
    if np.finfo(Real).eps > 2e-19:
        sys.exit("stable_tables: needs an 80-bit (or wider) long double")
    target = pathlib.Path(__file__).with_name("stable_tables.npz")
    np.savez_compressed(target, allow_pickle=False, **all_tables())
