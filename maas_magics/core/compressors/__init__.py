"""Ways to make an exported model smaller, which cost it a little of what it knows. One file for each.

Another package adds one, a `Compressor`, by an entry point of the group ``maas_magics.compressors``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from maas_magics.core.data.arrow import Array
from maas_magics.core.registry import Registry


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


compressors: Registry[Compressor] = Registry("compression", __name__, "maas_magics.compressors")
