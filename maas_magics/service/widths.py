"""How large the answers of models are, so that they are measured before they are made."""

from __future__ import annotations

import inspect
import math
from typing import NamedTuple

from maas_magics.api.backend import Models
from maas_magics.api.signature import Signature
from maas_magics.service.tensors import dtype_of

MOST_MODELS = 1_000

TEXT = 64
"""Bytes that a text of an answer takes, estimated beforehand."""


class Width(NamedTuple):
    """What a row of answers takes.

    Attributes
    ----------
    ref : str
        ``name:version`` that it is of.
    bytes : int
    labels : int
        Labels that the model distinguishes.
    """

    ref: str
    bytes: int
    labels: int


class Widths:
    """Widths of the models that were used.

    Parameters
    ----------
    backend : Models
    """

    def __init__(self, backend: Models) -> None:
        self._backend = backend
        self._tells = inspect.getattr_static(backend, "models", None) is not None
        self._known: dict[str, Width] = {}

    def knows(self, model: str) -> bool:
        """Whether the backend need not be called."""
        return model in self._known or not self._tells

    def get(self, model: str) -> Width | None:
        """Width of a model that is known."""
        return self._known.get(model)

    def measure(self, model: str) -> Width:
        """Width of a model; called beside the event loop, for the backend may be called.

        Raises
        ------
        NotFound
        """
        known = self._known.get(model)
        if known is None:
            info = self._backend.models.get(model)
            known = Width(info.ref, _bytes(info.signature), max(1, len(info.classes)))
            if len(self._known) < MOST_MODELS:
                self._known[model] = known
        return known

    def answered(self, model: str, ref: str) -> None:
        """Note which version answered; another than before may answer with other rows."""
        known = self._known.get(model)
        if known is not None and known.ref != ref:
            self._known.pop(model, None)


def _bytes(signature: Signature) -> int:
    """Bytes of a row of answers."""
    found = 0
    for spec in signature.outputs:
        size = TEXT if spec.datatype == "BYTES" else dtype_of(spec.name, spec.datatype).itemsize
        found += size * math.prod(abs(length) for length in spec.shape[1:])
    return found
