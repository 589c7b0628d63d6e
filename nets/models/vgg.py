"""VGG networks in the form used for 32 x 32 images."""

import jax

from nets.models.conv import max_pool
from nets.models.network import ACTIVATIONS, Network


class VGG(Network):
    """Stages of 3 x 3 convolutions with batch normalisation, each pooled, and one linear layer.

    Simonyan and Zisserman (ICLR 2015), without their two hidden linear layers; with the VGG-11
    stages it is the network of the published code of Hu et al. (ICML 2023). Five stages need
    images of at least 32 x 32.

    Args:
        stages: channels of the convolutions of each stage.
        activation: "relu" or "swish".

    References: simonyan2015vgg, hu2023accuracydisparity.
    """

    stages: tuple[tuple[int, ...], ...] = ((64,), (128,), (256, 256), (512, 512), (512, 512))
    activation: str = "relu"

    def features(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns the pooled last stage, flattened, (n, d)."""
        activate = ACTIVATIONS[self.activation]
        for stage, widths in enumerate(self.stages):
            for place, width in enumerate(widths):
                # A bias that the normalisation takes out again: the published networks have it.
                x = self.conv(width, f"conv_{stage}_{place}", bias=True)(x)
                x = activate(self.norm(train, f"norm_{stage}_{place}")(x))
            x = max_pool(x)
        return x.reshape(x.shape[0], -1)
