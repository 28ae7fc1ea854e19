"""Weights stored as IEEE halves, of five bits of exponent and ten of fraction; computed in floats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maas_magics.core.compressors import compressors
from maas_magics.core.compressors.half import write_as_halves
from maas_magics.core.data.arrow import Array


class Fp16:
    """Storage alone."""

    format = "onnx"
    sealable = True
    stage = 2
    doubted = True

    def compress(self, file: Path, smaller: Path, inputs: Sequence[Array]) -> str:
        """Write the file with weights of two bytes."""
        return write_as_halves(file, smaller, "fp16")


compressors.register("fp16")(Fp16())
