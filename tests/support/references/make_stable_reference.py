"""Makes stable_reference.npz: the symmetric stable law in mpmath by two roads that must agree.

Run as a script it takes half an hour on two cores. Road one is the trapezoidal rule along a rotated
ray, with the derivatives taken under the integral. Road two depends on the point: the power series
at zero or infinity, each summed to its smallest term, else Zolotarev's positive integrand, else
(alpha near 1) the Fourier integral on the real line; its derivatives are symmetric differences at
1e-12. A point is kept only if the roads agree to 1e-20 (derivatives to 1e-16) of the value; any
other point is an error.
"""

import itertools
import multiprocessing
import pathlib

import mpmath as mp
import numpy as np

ALPHAS = [0.1, 0.2, 0.35, 0.6, 1.0, 1.5, 2.0, 1 - 1e-6, 1 + 1e-6, 1.001, 2 - 1e-6, 2 - 1e-9]
X = [0.0, 1e-20, 1e-6, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 0.6, 1.0, 1.4, 2.0, 2.8, 4.0, 5.5, 7.0]
X += [9.0, 12.0, 16.0, 22.0, 32.0, 50.0, 100.0, 1e3, 1e4, 1e6, 1e8, 1e10, 1e12]
QUANTITIES = ("sf", "pdf", "central", "sf_alpha", "pdf_alpha", "pdf_x")
SMALL_X = [1e-18, 1e-16, 1e-14, 1e-12, 1e-10, 1e-8, 1e-7]  # for alpha < 0.4
FAR = [1e20, 1e100, 1e300]  # logsf only
DIGITS = 28


def random_alphas():
    """Returns 60 alphas off the nodes of any table: 40 over [0.1, 2], 20 crowding at 2."""
    rng = np.random.default_rng(20240607)
    near_two = 2 - 10.0 ** rng.uniform(-8, -1, 20)
    return [*rng.uniform(0.1, 2, 40), *near_two]


def by_ray(alpha, x):
    """Returns all quantities at one point, by the trapezoidal rule on exp(u + i psi)."""
    top = min(mp.pi / 2, mp.pi / (2 * alpha))
    psi, exponent = mp.mpf("0.4") * top, 2.35 * (DIGITS + (8 if alpha > 1.9 else 0))
    spacing = 2 * mp.pi * mp.mpf("0.95") * psi / exponent
    lowest = -mp.log(max(x, 1)) - exponent / min(alpha, 1)
    by_power = mp.log(2 * exponent / mp.cos(alpha * psi)) / alpha
    by_wave = mp.log(2 * exponent / (x * mp.sin(psi))) if x else by_power
    sums = dict.fromkeys(QUANTITIES, mp.mpf(0))
    for k in range(int(lowest / spacing), int(max(by_power, by_wave) / spacing) + 1):
        log_z = mp.mpc(k * spacing, psi)
        z = mp.exp(log_z)
        power = mp.exp(alpha * log_z)
        wave_minus_one = mp.expm1(1j * x * z)
        wave = 1 + wave_minus_one
        lost = mp.expm1(-power)
        slope = -power * log_z * (1 + lost) * wave
        sums["central"] += (wave_minus_one * (1 + lost)).imag
        sums["sf"] -= (wave * lost).imag
        sums["pdf"] += (wave * z * (lost if x > 1 else 1 + lost)).real
        sums["sf_alpha"] -= slope.imag
        sums["pdf_alpha"] += (slope * z).real
        sums["pdf_x"] += (1j * wave * z * z * (lost if x > 1 else 1 + lost)).real
    values = {name: spacing / mp.pi * total for name, total in sums.items()}
    return values if x else values | {"sf": mp.mpf(1) / 2}


def summed(term, limit=2500):
    """Returns a series summed to its smallest term, or None if that leaves more than 1e-24."""
    total = largest = mp.mpf(0)
    small = 0
    for k in range(limit):
        value = term(k)
        total += value
        largest = max(largest, abs(value))
        small = small + 1 if abs(value) < mp.mpf(10) ** (-DIGITS - 6) * abs(total) else 0
        if small == 4:
            lost = mp.log10(largest / abs(total)) if total else mp.inf
            return total if mp.mp.dps - lost > DIGITS + 6 else None
        if abs(value) > mp.mpf(10) ** (mp.mp.dps - DIGITS - 8) * max(abs(total), 1):
            return None
    return None


def by_tail_series(alpha, x):
    """Returns (sf, pdf) from sum Gamma(alpha k) sin(k pi alpha/2) (-1)^(k+1) x^(-alpha k)/k!."""

    def term(k):
        k += 1
        sine = mp.sinpi(k * (2 - alpha) / 2)
        return mp.exp(mp.loggamma(alpha * k) - mp.loggamma(k + 1) - alpha * k * mp.log(x)) * sine

    if x == 0 or (alpha > 1 and x**alpha < 30):
        return None
    sf = summed(term)
    density = summed(lambda k: alpha * (k + 1) * term(k)) if sf is not None else None
    return None if density is None else (sf / mp.pi, density / (mp.pi * x))


def by_series_at_zero(alpha, x):
    """Returns (sf, pdf) from sum (-1)^k Gamma((2k+1)/alpha) x^(2k+1)/(2k+1)!/(pi alpha)."""

    def term(k):
        order = 2 * k + 1
        return (-1) ** k * mp.gamma(order / alpha) / mp.factorial(order) * x ** (order - 1)

    if alpha < 1 and x > 0.9:
        return None
    central = summed(term)
    density = summed(lambda k: (2 * k + 1) * term(k)) if central is not None else None
    if density is None:
        return None
    return mp.mpf(1) / 2 - x * central / (mp.pi * alpha), density / (mp.pi * alpha)


def by_zolotarev(alpha, x):
    """Returns (sf, pdf) from Zolotarev's positive integrands over theta = pi/2 - phi."""

    def log_g(phi):
        bracket = alpha * mp.log(x) - alpha * mp.log(mp.sin(alpha * (mp.pi / 2 - phi)))
        bracket += mp.log(mp.sin(phi))
        return bracket / (alpha - 1) + mp.log(mp.cos((1 - alpha) * (mp.pi / 2 - phi)))

    def integrate(f):
        # log g is monotone: split where it crosses a few levels, so that no peak is missed.
        edge = mp.pi / 2
        levels = [-60, -20, -6, -2, 0, 1, 2, 3, 4, 5]
        cuts = {mp.mpf(0), edge}
        for level in levels:
            low, high = mp.mpf(10) ** -60, edge * (1 - mp.mpf(10) ** -40)
            if (log_g(low) - level) * (log_g(high) - level) < 0:
                rising = log_g(high) > log_g(low)
                for _ in range(60):
                    middle = mp.sqrt(low * high)
                    above = (log_g(middle) > level) == rising
                    low, high = (low, middle) if above else (middle, high)
                cuts.add(middle)
        return mp.quad(f, sorted(cuts))

    def in_range(f):
        def guarded(phi):
            if phi <= 0 or phi >= mp.pi / 2:
                return mp.mpf(0)
            exponent = log_g(phi)
            return f(exponent) if exponent < 8 else f(mp.mpf(8))

        return guarded

    if alpha > 1:
        sf = integrate(in_range(lambda e: mp.exp(-mp.exp(e))))
    else:
        sf = integrate(in_range(lambda e: -mp.expm1(-mp.exp(e))))
    density = integrate(in_range(lambda e: mp.exp(e - mp.exp(e))))
    return sf / mp.pi, alpha / (mp.pi * abs(alpha - 1) * x) * density


def by_fourier(alpha, x):
    """Returns (sf, pdf) from the Fourier integral on the real line, for alpha near 1."""
    cuts = [mp.mpf(k) for k in range(0, 130, 2)]
    pdf = mp.quad(lambda t: mp.cos(x * t) * mp.exp(-(t**alpha)), cuts)
    central = mp.quad(lambda t: x * mp.sincpi(x * t / mp.pi) * mp.exp(-(t**alpha)), cuts)
    return mp.mpf(1) / 2 - central / mp.pi, pdf / mp.pi


def at_two(x):
    """Returns the values at alpha = 2 that have a closed form."""
    sf = mp.erfc(x / 2) / 2
    pdf = mp.exp(-x * x / 4) / (2 * mp.sqrt(mp.pi))
    return {"sf": sf, "pdf": pdf, "central": mp.erf(x / 2) / 2, "pdf_x": -x / 2 * pdf}


def second_road(alpha, x):
    """Returns the first other road that applies near this point."""
    roads = [by_tail_series, by_series_at_zero]
    roads.append(by_fourier if abs(alpha - 1) < 0.02 else by_zolotarev)
    return next(road for road in roads if road(alpha, x) is not None)


def demand(good, *where):
    """Raise unless the roads agree."""
    if not good:
        raise ArithmeticError(f"roads disagree: {[str(w) for w in where]}")


def check_values(road, alpha, x, values):
    """Compare the values of the first road with the second."""
    sf, pdf = road(alpha, x)
    demand(abs(sf - values["sf"]) < 1e-20 * sf, alpha, x, "sf", road.__name__)
    demand(abs(pdf - values["pdf"]) < 1e-20 * pdf, alpha, x, "pdf", road.__name__)
    difference = abs(mp.mpf(1) / 2 - sf - values["central"])
    allowed = 1e-20 * values["central"] + mp.mpf(10) ** -60
    demand(difference < allowed, alpha, x, "central", road.__name__)


def check_slopes(road, alpha, x, values):
    """Compare the derivatives of the first road with differences of the second."""
    step = mp.mpf(10) ** -12
    up, down = road(alpha + step, x), road(alpha - step, x)
    slopes = {"sf_alpha": (up[0] - down[0], "sf"), "pdf_alpha": (up[1] - down[1], "pdf")}
    if x and alpha != 2:
        slopes["pdf_x"] = ((road(alpha, x * (1 + s))[1] for s in (step, -step)), "pdf")
        right, left = slopes["pdf_x"][0]
        slopes["pdf_x"] = ((right - left) / x, "pdf")
    for name, (difference, size) in slopes.items():
        slope = difference / (2 * step)
        scale = max(abs(slope), values[size])
        demand(abs(slope - values[name]) < 1e-16 * scale, alpha, x, name, road.__name__)


def reference(point):
    """Returns all quantities at one point as floats: QUANTITIES, logsf, and a pair (p, isf(p))."""
    alpha, x = map(mp.mpf, point)
    with mp.workdps(55):
        values = by_ray(alpha, x)
    with mp.workdps(90):
        road = second_road(alpha + mp.mpf(10) ** -12, x)
        if alpha == 2:
            exact = at_two(x)
            demand(all(abs(exact[k] - values[k]) < 1e-20 for k in exact), alpha, x, "closed")
            values |= exact
        else:
            check_values(road, alpha, x, values)
        if road in (by_tail_series, by_series_at_zero):
            check_slopes(road, alpha, x, values)
    with mp.workdps(40):
        p = float(values["sf"])
        quantile = x + (values["sf"] - p) / values["pdf"]
        row = [values[name] for name in QUANTITIES]
        return [float(v) for v in (*row, mp.log(values["sf"]), p, quantile)]


def far_log(alpha, x):
    """Returns logsf where sf underflows."""
    with mp.workdps(60):
        alpha, x = mp.mpf(alpha), mp.mpf(x)
        if alpha == 2:
            return float(-x * x / 4 - mp.log(x * mp.sqrt(mp.pi)))
        return float(mp.log(by_tail_series(alpha, x)[0]))


def table(alphas, x):
    """Returns {name: array (alphas, x)} of all quantities, on two processes."""
    with multiprocessing.Pool(2) as pool:
        rows = pool.map(reference, itertools.product(alphas, x), chunksize=4)
    columns = np.moveaxis(np.asarray(rows).reshape(len(alphas), len(x), -1), -1, 0)
    return dict(zip((*QUANTITIES, "logsf", "p", "isf"), columns, strict=True))


def small_table():
    """Returns the table where small alpha has its core, its keys marked."""
    alphas = [alpha for alpha in (*ALPHAS, *random_alphas()) if alpha < 0.4]
    columns = table(alphas, SMALL_X) | {"alpha": np.asarray(alphas), "x": np.asarray(SMALL_X)}
    return {f"small_{name}": column for name, column in columns.items()}


def main():
    """Write stable_reference.npz beside this script."""
    alphas = [*ALPHAS, *random_alphas()]
    arrays = table(alphas, X) | {"alpha": np.asarray(alphas), "x": np.asarray(X)}
    far = [[far_log(alpha, x) for x in FAR] for alpha in alphas]
    arrays |= {"far_x": np.asarray(FAR), "far_logsf": np.asarray(far)} | small_table()
    target = pathlib.Path(__file__).with_name("stable_reference.npz")
    np.savez_compressed(target, **arrays)


if __name__ == "__main__":
    main()
