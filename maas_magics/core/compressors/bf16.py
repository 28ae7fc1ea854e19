"""Weights stored as bfloat16, of eight bits of exponent and seven of fraction; computed in floats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maas_magics.core.compressors import compressors
from maas_magics.core.compressors.half import write_as_halves
from maas_magics.core.data.arrow import Array


class Bf16:
    """Storage alone."""

    format = "onnx"
    sealable = True
    stage = 2
    doubted = True

    def compress(self, file: Path, smaller: Path, inputs: Sequence[Array]) -> str:
        """Write the file with weights of two bytes."""
        return write_as_halves(file, smaller, "bf16")


compressors.register("bf16")(Bf16())
