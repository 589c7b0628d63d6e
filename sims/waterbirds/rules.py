"""Linear rules on synthetic Waterbirds: perturb every pixel, classify, count.

No norm of the weights and no radius is subtracted from anything.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sims.simulate import attack
from sims.waterbirds.images import (
    GROUPS,
    Scene,
    WaterbirdImages,
    draw_groups,
    draw_images,
    is_whole,
    require,
)
from theory.problem import LinearClassifier, Threat

BLOCK = 1024


def rule_at(scene: Scene, angle: jax.Array) -> jax.Array:
    """Returns the weights cos(angle) t_C + sin(angle) t_S of a disc in the centre, (size, size)."""
    disc, rest = scene.pixels
    inside, outside = jnp.cos(angle) * disc**-0.5, jnp.sin(angle) * rest**-0.5
    return jnp.where(jnp.asarray(scene.foreground), inside, outside)


def is_right(images: WaterbirdImages, weight: jax.Array, threat: Threat | None = None) -> jax.Array:
    """Returns whether sign(weight . x) is the label of each perturbed image, booleans (n,).

    Each image is moved inside the ball the furthest against its label and classified again; a
    score of exactly zero is wrong.

    Args:
        images: of any position of the disc.
        weight: (size, size).
        threat: the ball in the space of all pixels, or None.
    """
    flat = images.images.reshape(images.labels.shape[0], -1)
    rule = LinearClassifier._make((weight.reshape(-1), jnp.zeros((), weight.dtype)))
    y = images.labels.astype(flat.dtype)
    return ~attack.errs(attack.score(rule, attack.perturb(threat, rule, flat, y)), y)


class GroupErrors(NamedTuple):
    """Errors of one rule on the same number of images of each group, int32 (4,), as in `GROUPS`."""

    natural: jax.Array
    attacked: jax.Array


@functools.partial(jax.jit, static_argnames="scene")
def group_errors(
    key: jax.Array, scene: Scene, angle: jax.Array, threat: Threat, count: jax.Array
) -> GroupErrors:
    """Returns how many of `count` images of each group a rule gets wrong.

    The images are classified as they are and once more as the attack leaves them.

    Args:
        key: a JAX key; block b draws from fold_in(key, b).
        scene: with a disc in the centre, or the rules mean nothing.
        angle: of the rule from the core template to the spurious one, (); its dtype is that of
            the images.
        threat: the ball in the space of all pixels.
        count: images of each group, (), at most 2^30.
    """
    weight, share = rule_at(scene, angle), BLOCK // len(GROUPS)

    def add(block: jax.Array, counts: GroupErrors) -> GroupErrors:
        images = draw_groups(
            jax.random.fold_in(key, block), scene, (share,) * len(GROUPS), angle.dtype
        )
        # The last block may be wanted in part: the first images of each group.
        wanted = block * share + jnp.arange(share, dtype=jnp.int32) < count
        wrong = [~is_right(images, weight, ball) for ball in (None, threat)]
        by_group = (flags.reshape(len(GROUPS), share) & wanted[None, :] for flags in wrong)
        return GroupErrors(
            *(c + jnp.sum(f, -1, dtype=jnp.int32) for c, f in zip(counts, by_group, strict=True))
        )

    none = jnp.zeros(len(GROUPS), jnp.int32)
    blocks = jnp.asarray((count + share - 1) // share, jnp.int32)
    counts: GroupErrors = jax.lax.fori_loop(jnp.int32(0), blocks, add, GroupErrors(none, none))
    return counts


class PairedErrors(NamedTuple):
    """Errors of many rules on the same images, int32, (rules,), beside those of the first one.

    Args:
        errors: of each rule.
        only_it: images that the rule gets wrong and the first one right.
        only_first: images that the first rule gets wrong and this one right.
    """

    errors: jax.Array
    only_it: jax.Array
    only_first: jax.Array


def paired_errors(
    key: jax.Array,
    scene: Scene,
    agreement: float,
    angles: jax.Array,
    threat: Threat | None,
    blocks: int,
) -> PairedErrors:
    """Returns how many images each rule of these angles gets wrong, all on the same images.

    Args:
        key: a JAX key; block b draws from fold_in(key, b).
        scene: with a disc in the centre, or the rules mean nothing.
        agreement: r in [0, 1], of the images.
        angles: of the rules from the core template to the spurious one, (rules,).
        threat: the ball in the space of all pixels, or None.
        blocks: how many blocks of 1024 images, at most 2^20.
    """
    require("blocks", blocks, is_whole(blocks) and 1 <= blocks <= 2**20, "in [1, 2^20]")
    weights = jax.vmap(lambda angle: rule_at(scene, angle))(angles)

    def add(index: jax.Array, counts: PairedErrors) -> PairedErrors:
        key_of_block = jax.random.fold_in(key, index)
        images = draw_images(key_of_block, scene, BLOCK, agreement, angles.dtype)
        # One rule after the other: the moved copies of the images never lie side by side.
        wrong = jax.lax.map(lambda weight: ~is_right(images, weight, threat), weights)
        flags = (wrong, wrong & ~wrong[:1], ~wrong & wrong[:1])
        return PairedErrors(
            *(c + jnp.sum(f, -1, dtype=jnp.int32) for c, f in zip(counts, flags, strict=True))
        )

    none = jnp.zeros(angles.shape, jnp.int32)
    empty = PairedErrors(none, none, none)
    counts: PairedErrors = jax.lax.fori_loop(jnp.uint32(0), jnp.uint32(blocks), add, empty)
    return counts
