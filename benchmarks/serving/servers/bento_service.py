"""A service of BentoML, in its own way: arrays in, arrays out."""

from __future__ import annotations

import bentoml
import numpy as np
from network import Network


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Net:
    """The network behind a route."""

    def __init__(self) -> None:
        self._network = Network()

    @bentoml.api
    def infer(self, x: np.ndarray) -> dict:
        """Answer rows."""
        found = self._network(x.astype(np.float32))
        return {name: value.tolist() for name, value in zip(self._network.outputs, found, strict=True)}
