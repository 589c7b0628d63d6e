"""python -m sims waterbirds: errors by group of a rule on synthetic Waterbirds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sims.waterbirds.images import Scene
    from sims.waterbirds.rules import GroupErrors
    from theory.problem import Threat

# In the order of `sims.waterbirds.images.GROUPS`.
NAMES = ("land bird on land", "land bird on water", "water bird on land", "water bird on water")
MOST = 2**30  # counts are int32
# Images are float32, and so are squares of what is in them.
LEAST, GREATEST = 1e-15, 1e15


def waterbirds(
    *,
    angle: float = 30.0,
    norm: Literal["l1", "l2", "linf"] = "l2",
    radius: float = 0.5,
    core: float = 1.6,
    spurious: float = 1.6,
    noise: float = 1.0,
    size: int = 16,
    images: int = 20_000,
    seed: int = 0,
    level: float = 1e-3,
) -> int:
    """Count the errors of a linear rule on synthetic Waterbirds, group by group.

    A disc in the centre tells the class, everything around it misleads, every pixel is noisy. The
    rule lies between the two templates; each image is classified as it is, and again after it has
    been moved pixel by pixel, within the ball, the furthest against its label. A line a group, with
    exact intervals; `python -m theory waterbirds` has the closed forms. Exit status: 0 done; 2 bad
    input.

    Args:
        angle: of the rule from the core to the spurious template, in [0, 90] degrees
        norm: of the ball, in the space of all pixels
        radius: of the ball
        core: amplitude of the disc, what the class says
        spurious: amplitude of the background
        noise: standard deviation of every pixel
        size: height and width of the images, 16 or 32 pixels
        images: of each group, in [1, 2^30]
        seed: of all draws, in [0, 2^32)
        level: chance that any interval misses its error rate
    """
    import jax
    import numpy as np

    from sims.random import keys
    from sims.stats.interval import require_level
    from sims.sweep.plan import require_seed
    from sims.waterbirds.images import make_scene, require
    from sims.waterbirds.rules import group_errors

    sizes = {"core": core, "spurious": spurious, "noise": noise, "radius": radius}
    for name, value in sizes.items():
        is_kept = value == 0 or LEAST <= abs(value) <= GREATEST
        require(
            name, value, is_kept, f"0 or in [{LEAST:g}, {GREATEST:g}], whose squares float32 holds"
        )
    scene, threat = make_scene(core, spurious, noise, size=size), _ball(norm, radius)
    require("angle", angle, 0 <= angle <= 90, "in [0, 90] degrees")
    require("images", images, 1 <= images <= MOST, "in [1, 2^30]")
    require_seed(seed)
    require_level(level)
    # In float32 whatever the session's default, so that the counts are the same.
    with jax.enable_x64(False):
        key = keys.key(seed)
        counts = group_errors(key, scene, np.float32(np.deg2rad(angle)), threat, np.int32(images))
    print("\n".join(_lines(scene, counts, images, level)))
    return 0


def _ball(norm: str, radius: float) -> Threat:
    """Returns the checked ball."""
    import numpy as np

    from theory.problem import L1Ball, L2Ball, LinfBall

    balls: dict[str, Any] = {"l1": L1Ball, "l2": L2Ball, "linf": LinfBall}
    ball: Threat = balls[norm](np.float32(radius))
    return ball


def _lines(scene: Scene, counts: GroupErrors, images: int, level: float) -> Iterator[str]:
    """Yields a line on what was counted, and one for each group."""
    import numpy as np

    from sims.stats.interval import clopper_pearson

    disc, rest = scene.pixels
    yield f"{images} images a group, {disc} pixels of the disc and {rest} around it"
    errors = np.stack([np.asarray(count, np.int64) for count in counts])
    # All intervals of the run hold together (Bonferroni).
    low, high = clopper_pearson(errors, np.asarray(images), level / errors.size)
    for group, name in enumerate(NAMES):
        rates = (
            f"{kind} {errors[row, group] / images:.4f} [{low[row, group]:.4f}, "
            f"{high[row, group]:.4f}]"
            for row, kind in enumerate(("error", "under attack"))
        )
        yield f"{name:20} {', '.join(rates)}"
