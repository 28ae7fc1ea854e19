"""An encoder of pictures over arrays of pictures, in whatever order of axes they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from torch import Tensor, nn

from maas_magics.core.features.pictures import channels_last
from maas_magics.core.features.port import Port
from maas_magics.core.features.processor import NetworkInputs
from maas_magics.core.networks.encoders import encoder_of
from maas_magics.core.networks.fusion import Fusion, parameter_groups

KIND = "image"


class OnePicture(nn.Module):
    """The vector of a picture, and a layer that answers from it.

    Parameters
    ----------
    shape : tuple of int
        (height, width), (channels, height, width) or (height, width, channels).
    outputs : int
        Numbers that the network puts out for a row.
    encoder : callable
        From a port of (channels, height, width) to the module that makes vectors of their ``size``.
    dropout : float
        Probability of dropping a number of a vector.
    faster : float
        Times the learning rate at which all but a pretrained encoder learns.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        encoder: Callable[[Port], nn.Module],
        dropout: float = 0.2,
        faster: float = 1.0,
    ) -> None:
        super().__init__()
        self.last = len(shape) == 3 and channels_last(shape)
        self.grey = len(shape) == 2
        row = (1, *shape) if self.grey else (shape[2], *shape[:2]) if self.last else shape
        self.encoder, self.faster = encoder(Port(KIND, row)), faster
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(cast(int, self.encoder.size), outputs))

    def initialise(self, *inputs: Tensor) -> None:
        """Read pretrained weights, where there are any."""
        read: Any = getattr(self.encoder, "initialise", None)
        if read is not None:
            read()

    def forward(self, image: Tensor) -> Tensor:
        """Outputs, float32 (n, outputs), of pictures in the layout of the training rows."""
        x = image.unsqueeze(1) if self.grey else image.permute(0, 3, 1, 2) if self.last else image
        return cast(Tensor, self.head(self.encoder(x)))

    def parameter_groups(self) -> list[dict[str, object]]:
        """Weights of layers decay; norms and biases do not. What is new may learn faster."""
        return parameter_groups(self, [self.encoder], self.faster)


def over_pictures(
    features: NetworkInputs,
    outputs: int,
    encoder: Callable[[Port], nn.Module],
    hidden: int | None,
    dropout: float,
    faster: float = 1.0,
    kinds: Iterable[str] = (KIND,),
) -> nn.Module:
    """A network over arrays of pictures, or over columns of files among other columns.

    Parameters
    ----------
    features : NetworkInputs
        The columns.
    outputs : int
        Numbers that the network puts out for a row.
    encoder : callable
        From a port of one of ``kinds`` to the module that makes its vectors.
    hidden : int or None
        Width of a layer before the answer, where there are files; none where they are all there is, else 128.
    dropout : float
        Probability of dropping a number of a vector.
    faster : float
        Times the learning rate at which all but pretrained encoders learn.
    kinds : iterable of str
        Of the columns that ``encoder`` is for; others have the usual encoders.
    """
    if features.image:
        return OnePicture(features.image, outputs, encoder, dropout, faster)
    alone = len(features.ports) == 1 and not features.numeric and not features.categories
    width = (0 if alone else 128) if hidden is None else hidden

    def encoder_for(port: Port) -> nn.Module:
        return encoder(port) if port.kind in kinds else encoder_of(port)

    return Fusion(features, outputs, encoder_for, width, dropout, faster)
