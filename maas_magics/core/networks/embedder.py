"""A network with a vector for each value of one column, whatever it is searched or compared for."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from maas_magics.api.errors import OptionError
from maas_magics.core.features.port import Port
from maas_magics.core.features.processor import NetworkInputs
from maas_magics.core.networks.fusion import is_pretrained, parameter_groups


class Embedder(nn.Module):
    """An encoder's vectors, and a layer that makes them of another size where one is requested.

    Parameters
    ----------
    features : NetworkInputs
        One port, and nothing else.
    encoder : callable
        From a port to the module that makes its vectors, which has their ``size``.
    size : int
        Numbers of a vector; 0 for those of the encoder.
    dropout : float
    faster : float
        Times the learning rate at which all but a pretrained encoder learns.
    """

    def __init__(
        self,
        features: NetworkInputs,
        encoder: Callable[[Port], nn.Module],
        size: int = 0,
        dropout: float = 0.0,
        faster: float = 1.0,
    ) -> None:
        super().__init__()
        if len(features.ports) != 1 or features.numeric or features.categories:
            raise OptionError(
                "Vectors are of the texts, pictures or sounds of one column; there are other columns as well.",
                "--pairs question,answer",
            )
        self.faster = faster
        self.encoder = encoder(features.ports[0])
        width = cast(int, self.encoder.size)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, size)) if size else None
        self.size = size or width

    def initialise(self, numeric: Tensor, categorical: Tensor, values: Tensor) -> None:
        """Read pretrained weights."""
        if is_pretrained(self.encoder):
            self.encoder.initialise()  # type: ignore[operator]

    def forward(self, numeric: Tensor, categorical: Tensor, values: Tensor) -> Tensor:
        """Vectors (n, size), of any length."""
        x = self.encoder(values)
        return cast(Tensor, x if self.head is None else self.head(x))

    def parameter_groups(self) -> list[dict[str, object]]:
        """Weights of layers decay; embeddings, norms and biases do not. What is new may learn faster."""
        return parameter_groups(self, [self.encoder], self.faster)
