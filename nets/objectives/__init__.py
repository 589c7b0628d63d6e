"""What training lowers: published robust losses, with the attack inside them.

`losses` are by name and call an `inner_attack`; `augment` and `mixup` change a batch before it.
"""

__all__ = ["augment", "inner_attack", "losses", "mixup"]
