"""One training step on several devices: the batch is spread over them, all else is on each.

A step is one program for all devices, whose numbers mean what they mean on one: XLA splits the
batch and adds the collectives. So statistics of batch normalisation are those of the whole batch,
and random numbers, which are functions of key and place, do not depend on the devices; sums over
the batch are rounded in another order. With one device nothing of this is in the program.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from theory.domain import InvalidInput

AXIS = "data"
# Without annotations in JAX.
_PARTITION: Any = PartitionSpec


def choose(count: int) -> tuple[jax.Device, ...]:
    """Returns the first `count` devices of this process, all for 0.

    Raises:
        InvalidInput: for a count that is negative or more than there are.
    """
    # Of this process: on several hosts the others' devices are not addressable here.
    here = jax.local_devices()
    if not 0 <= count <= len(here):
        raise InvalidInput(
            f"devices = {count}: must lie from 1 to the {len(here)} there are, or be 0 for all"
        )
    return tuple(here[: count or len(here)])


def require_batch(batch: int, count: int) -> None:
    """Raises InvalidInput unless every one of `count` devices gets as many images of a batch."""
    if batch % count:
        # The multiples next to it, below (if that is not 0) and above.
        near = sorted({max(1, batch // count) * count, -(-batch // count) * count})
        raise InvalidInput(
            f"batch = {batch}: must be a multiple of the {count} devices, such as "
            f"{' or '.join(map(str, near))}; or choose devices that divide it"
        )


def mesh_of(devices: tuple[jax.Device, ...]) -> Mesh | None:
    """Returns the devices in a row, along `AXIS`; None for one, which needs no mesh."""
    return Mesh(np.asarray(devices), (AXIS,)) if len(devices) > 1 else None


def replicated(mesh: Mesh | None) -> NamedSharding | None:
    """Returns the sharding of what every device holds whole; None without a mesh."""
    return None if mesh is None else NamedSharding(mesh, _PARTITION())


def replicate(mesh: Mesh | None, tree: Any) -> Any:
    """Returns the arrays of a pytree on every device; as they are without a mesh."""
    return tree if mesh is None else jax.device_put(tree, replicated(mesh))


def spread(mesh: Mesh | None, batch: Any) -> Any:
    """Returns the arrays of a pytree, (B, ...), inside a step, split over the devices by rows."""
    # Nothing at all on one device: even a constraint without effect would be in the program, and
    # could make another one of it.
    if mesh is None:
        return batch
    constrain: Any = jax.lax.with_sharding_constraint
    return constrain(batch, NamedSharding(mesh, _PARTITION(AXIS)))
