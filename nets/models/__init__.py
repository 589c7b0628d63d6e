"""Networks by name, as functions of pixels: the same numbers on every device.

`registry` builds a `network` (small `conv` nets, `resnet`, `vgg`), makes its variables, and gives
the function of pixels that an attack sees.
"""

__all__ = ["conv", "network", "registry", "resnet", "vgg"]
