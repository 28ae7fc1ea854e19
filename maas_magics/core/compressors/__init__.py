"""Ways to make an exported model smaller, which cost it a little of what it knows. One file for each.

Another package adds one, a `Compressor`, by an entry point of the group ``maas_magics.compressors``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from maas_magics.core.data.arrow import Array
from maas_magics.core.registry import Registry

if TYPE_CHECKING:
    from maas_magics.core.model import Model


class Compressor(Protocol):
    """Makes a smaller file of an exported one, in the same format: what a module of this package registers."""

    format: str
    """Name of the export format that it reads and writes. A compressor may also have a ``stage``: of several, those of
    0 come first, those of 2 last, whatever their order (1); and be ``doubted``, where ONNX Runtime may hide what it
    loses: then a second runtime is asked as well."""

    def compress(self, file: Path, smaller: Path, inputs: Sequence[Array]) -> str:
        """Write the smaller file; returns a sentence about what stayed as it was, or an empty text.

        Parameters
        ----------
        file : Path
            The exported file.
        smaller : Path
            Where to write.
        inputs : sequence of ndarray, shape (n, …)
            Inputs of the file for some rows, in its order, to calibrate on.

        Raises
        ------
        ExportError
            If there is nothing in the file that it makes smaller.
        """


@runtime_checkable
class NetworkCompressor(Protocol):
    """Makes a smaller network of a version's, before it is exported. It takes a share: ``NAME=0.5``."""

    format: str
    """Name of the export format that its network is written in."""

    usual: float
    """The share where none is named."""

    def shrink(
        self, model: Model, share: float, rows: Sequence[Array], check_stop: Callable[[], None]
    ) -> tuple[Model, str]:
        """The version with a smaller network, and a sentence about what stayed as it was, or an empty text.

        Parameters
        ----------
        model : Model
            The version in torch, which stays as it is.
        share : float
            How much smaller, above 0 and below 1.
        rows : sequence of ndarray, shape (n, …)
            Rows to learn on again, as `Processor.hosted_raw` makes them.
        check_stop : callable
            Called now and then; may raise to end.

        Raises
        ------
        ExportError
            If there is nothing in the network that it makes smaller.
        """


compressors: Registry[Compressor | NetworkCompressor] = Registry("compression", __name__, "maas_magics.compressors")
