"""Residual networks for small images: the first convolution is 3 x 3 and nothing is pooled."""

import jax

from nets.models.network import ACTIVATIONS, Network


class PreActResNet(Network):
    """A residual network of two-convolution blocks, normalised before each convolution.

    He et al. (ECCV 2016) and, wider, Zagoruyko and Komodakis (BMVC 2016). The first block of a
    stage but the first halves the image. With the defaults this is the PreActResNet-18 of Wong et
    al. (ICLR 2020) and Rice et al. (ICML 2020): a 1 x 1 shortcut sees the block's input as it is.

    Args:
        stem: channels of the first convolution.
        widths: channels of each stage.
        blocks: number of blocks in each stage.
        activation: "relu" or "swish".
        shortcut: what a 1 x 1 shortcut sees: the block's "input", or the "activated" input, as in
            wide residual networks.
        final_norm: normalise and activate before the global average.

    References: he2016identity, zagoruyko2016wide, rice2020overfitting.
    """

    stem: int = 64
    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: int = 2
    activation: str = "relu"
    shortcut: str = "input"
    final_norm: bool = True

    def features(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns the averages of the last stage's channels, (n, d), of images (n, h, w, c)."""
        x = self.conv(self.stem, "conv")(x)
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                strides = 2 if stage > 0 and block == 0 else 1
                x = self._block(x, width, strides, f"stage_{stage}_block_{block}", train)
        if self.final_norm:
            x = ACTIVATIONS[self.activation](self.norm(train, "norm")(x))
        return x.mean((1, 2))

    def _block(self, x: jax.Array, width: int, strides: int, name: str, train: bool) -> jax.Array:
        activate = ACTIVATIONS[self.activation]
        # Normalised before each convolution, and never after the sum: from block to block the path
        # of the input is the identity (He et al., ECCV 2016, section 3).
        active = activate(self.norm(train, f"{name}_norm_1")(x))
        y = self.conv(width, f"{name}_conv_1", strides=strides)(active)
        y = activate(self.norm(train, f"{name}_norm_2")(y))
        y = self.conv(width, f"{name}_conv_2")(y)
        if strides != 1 or x.shape[-1] != width:
            seen = active if self.shortcut == "activated" else x
            x = self.conv(width, f"{name}_shortcut", 1, strides, 0)(seen)
        return x + y


class ResNet(Network):
    """The residual network of He et al. (CVPR 2016), normalised after each convolution.

    Args:
        widths: channels of each stage; the first convolution has those of the first.
        blocks: number of blocks in each stage.
        activation: "relu" or "swish".

    References: he2016deep.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: int = 2
    activation: str = "relu"

    def features(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns the averages of the last stage's channels, (n, d), of images (n, h, w, c)."""
        activate = ACTIVATIONS[self.activation]
        x = activate(self.norm(train, "norm")(self.conv(self.widths[0], "conv")(x)))
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                strides = 2 if stage > 0 and block == 0 else 1
                x = self._block(x, width, strides, f"stage_{stage}_block_{block}", train)
        return x.mean((1, 2))

    def _block(self, x: jax.Array, width: int, strides: int, name: str, train: bool) -> jax.Array:
        activate = ACTIVATIONS[self.activation]
        y = self.conv(width, f"{name}_conv_1", strides=strides)(x)
        y = activate(self.norm(train, f"{name}_norm_1")(y))
        # Activated only after the sum, the original order.
        y = self.norm(train, f"{name}_norm_2")(self.conv(width, f"{name}_conv_2")(y))
        if strides != 1 or x.shape[-1] != width:
            x = self.conv(width, f"{name}_shortcut", 1, strides, 0)(x)
            x = self.norm(train, f"{name}_shortcut_norm")(x)
        return activate(x + y)
