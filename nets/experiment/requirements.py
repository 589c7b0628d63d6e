"""What the settings of a training must satisfy by themselves, before any data are looked at."""

from nets.configs.settings import Config
from nets.evaluation import protocols
from theory.domain import (
    NON_NEGATIVE,
    UNIT_INTERVAL,
    Interval,
    InvalidInput,
    require_inside,
    require_known,
)

SELECT = ("best", "last")
# Far more than anyone means, and less than what overflows 32 bits or fills all memory.
_MOST = {"epochs": 10**6, "seeds": 1000, "crop": 1000, "attack_steps": 10**6}
_BELOW_ONE = Interval.parse("[0, 1)")


def require_settings(config: Config) -> None:
    """Raises InvalidInput, naming the first key that is wrong, unless numbers are in range."""
    optimisation = config.optimisation
    require_known("select", optimisation.select, SELECT)
    require_known("protocol", config.evaluation.protocol, protocols.PROTOCOLS)
    # Seeds are words of 32 bits on the device, and `seeds` of them follow one another.
    if not 0 <= optimisation.seed < 2**32:
        raise InvalidInput(f"seed = {optimisation.seed}: must lie in [0, 2^32)")
    if not 1 <= optimisation.seeds <= 2**32 - optimisation.seed:
        raise InvalidInput(f"seeds = {optimisation.seeds}: must be at least 1, the last below 2^32")
    _require_attack(config)
    flat = config.flat()
    for name in ("held_out", "crop", "samples", "attack_steps"):
        if flat[name] < 0:
            raise InvalidInput(f"{name} = {flat[name]}: must be at least 0")
    for name, most in _MOST.items():
        if flat[name] > most:
            raise InvalidInput(f"{name} = {flat[name]}: must be at most {most}")
    require_inside("mix", flat["mix"], UNIT_INTERVAL, "the share of an image that is its own")
    for name in ("momentum", "ema"):
        require_inside(name, flat[name], _BELOW_ONE, f"the {name}")
    for name in ("decay", "beta"):
        require_inside(name, flat[name], NON_NEGATIVE, f"the {name}")
    if not 0 < optimisation.drop <= 100:
        raise InvalidInput(
            f"drop = {optimisation.drop:g}: must lie in (0, 100], in percentage points"
        )
    if optimisation.select == "best" and not config.data.held_out:
        raise InvalidInput("select = best: needs held_out images of each class to select on")


def _require_attack(config: Config) -> None:
    """Raises InvalidInput for a ball or a warm-up of it that cannot be meant."""
    norm, radius = config.objective.norm, config.objective.radius
    warm_up, epochs = config.objective.radius_warm_up, config.optimisation.epochs
    if epochs < 1:
        raise InvalidInput(f"epochs = {epochs}: must be at least 1")
    if not 0 <= warm_up <= epochs:
        raise InvalidInput(f"radius_warm_up = {warm_up}: must lie from 0 to the {epochs} epochs")
    # The whole cube is in a ball of radius 1: who says 8 thinks of pixels from 0 to 255. Balls of
    # other norms may well be larger.
    if norm == "linf" and radius > 1:
        raise InvalidInput(
            f"radius = {radius:g}: must be at most 1, as pixels lie in [0, 1]; perhaps "
            f"{radius:g}/255 is meant"
        )
