"""Two-sided quantiles P(|X| > x) = p of the standard symmetric stable law, made without sampling.

Made once by solving Zolotarev's integral for x with mpmath at 30 digits (`python -m
support.oracles.quantiles` in `tests` prints the table in about a minute); the tests compare it with
the power series at infinity and with closed forms.
"""

from collections.abc import Callable

import mpmath as mp

ALPHAS = (0.5, 1.0, 1.5, 1.9, 2.0)
PROBABILITIES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)

TWO_SIDED: dict[float, tuple[float, ...]] = {
    0.5: (
        6302.543333148014,
        635983.1601144477,
        63655611.04654693,
        6366134061.706087,
        636619135747.8165,
        63661970870560.42,
        6366197660013836.0,
        6.366197717309615e17,
        6.3661977230391935e19,
    ),
    1.0: (
        63.65674116287158,
        636.6192487687196,
        6366.197671315936,
        63661.97723152214,
        636619.7723670577,
        6366197.723675761,
        63661977.23675813,
        636619772.3675812,
        6366197723.675814,
    ),
    1.5: (
        11.982720423985233,
        54.3369417425371,
        251.60686860101703,
        1167.5754590729193,
        5419.275152736977,
        25153.98666574896,
        116754.4356075251,
        541926.0715844252,
        2515397.9964729524,
    ),
    1.9: (
        4.367556707477696,
        11.332776300805339,
        37.17462364115898,
        124.60244874258126,
        418.5417872695407,
        1406.1908255108651,
        4724.534385974935,
        15873.573239822852,
        53332.320368348344,
    ),
    2.0: (
        3.6427727354368993,
        4.653507531027049,
        5.502127811424121,
        6.24682654868175,
        6.917821474559,
        7.533125163141676,
        8.10447448774278,
        8.64001076982689,
        9.145649934778971,
    ),
}


def zolotarev_tail(x: mp.mpf, alpha: mp.mpf) -> mp.mpf:
    """Returns P(|X| > x) for x > 0 and alpha != 1, by quadrature of Zolotarev's (1986) integral."""
    power = alpha / (alpha - 1)

    def integrand(cosine: mp.mpf, angle: mp.mpf) -> mp.mpf:
        ratio = x * cosine / mp.sin(alpha * angle)
        g = ratio**power * mp.cos((alpha - 1) * angle) / cosine
        return mp.exp(-g) if alpha > 1 else -mp.expm1(-g)

    def both_ends(edge: mp.mpf) -> mp.mpf:
        sine, cosine = mp.sin(edge), mp.cos(edge)
        return integrand(cosine, edge) + integrand(sine, mp.pi / 2 - edge)

    nodes = [mp.mpf(0)] + [mp.pi / 4 * mp.mpf(4) ** -k for k in range(25, -1, -1)]
    return 2 / mp.pi * mp.quad(both_ends, nodes)


def series_tail(x: mp.mpf, alpha: mp.mpf) -> tuple[mp.mpf, mp.mpf]:
    """Returns (value, size of the last term) of the series of P(|X| > x) at infinity.

    Convergent for alpha < 1; for alpha > 1 it is stopped at its smallest term.
    """
    total, last = mp.mpf(0), mp.inf
    for k in range(1, 400):
        size = 2 / mp.pi * mp.gamma(k * alpha) / mp.factorial(k) * x ** (-k * alpha)
        if size > last or size < mp.eps * total:
            break
        total += (-1) ** (k + 1) * mp.sin(k * mp.pi * alpha / 2) * size
        last = size
    return total, last


def exact_tail(x: mp.mpf, alpha: mp.mpf) -> mp.mpf:
    """Returns P(|X| > x): closed forms at alpha 1 (Cauchy) and 2 (Gaussian), else quadrature."""
    if alpha == 1:
        return 2 / mp.pi * mp.atan(1 / x)
    return mp.erfc(x / 2) if alpha == 2 else zolotarev_tail(x, alpha)


def solve(probability: float, alpha: float, tail: Callable[..., mp.mpf] = exact_tail) -> float:
    """Returns x with P(|X| > x) = probability, by the secant method in logarithms."""
    law = mp.mpf(alpha)
    leading = 2 / mp.pi * mp.gamma(law) * mp.sin(mp.pi * law / 2)
    start = (leading / probability) ** (1 / law) if alpha < 2 else 2 * mp.sqrt(-mp.log(probability))

    def excess(log_x: mp.mpf) -> mp.mpf:
        return mp.log(tail(mp.exp(log_x), law) / probability)

    return float(mp.exp(mp.findroot(excess, (mp.log(start), mp.log(start) + 0.05), tol=1e-36)))


if __name__ == "__main__":
    mp.mp.dps = 30
    for alpha in ALPHAS:
        print(f"    {alpha}: {tuple(solve(p, alpha) for p in PROBABILITIES)},")
