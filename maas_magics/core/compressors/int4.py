"""Weights of products as four-bit integers in blocks of 32 that share a scale, by ONNX Runtime; others stored so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maas_magics.core.compressors import compressors
from maas_magics.core.compressors.weight_only import write_with_integers
from maas_magics.core.data.arrow import Array


class Int4:
    """Weights alone become integers."""

    format = "onnx"
    sealable = True

    def compress(self, file: Path, smaller: Path, inputs: Sequence[Array]) -> str:
        """Write the file with integer weights."""
        return write_with_integers(file, smaller, 4)


compressors.register("int4")(Int4())
