"""Names, types and shapes of what goes into a model and comes out of it.

Datatypes are those of the Open Inference Protocol, so a signature means the same in
an artifact's manifest and on the wire.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]

NUMPY: dict[str, str] = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
"""numpy dtype name of each datatype."""

DATATYPES: dict[str, Datatype] = {dtype: datatype for datatype, dtype in NUMPY.items()}  # type: ignore[misc]
"""Datatype of each numpy dtype name."""


class TensorSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One input or output.

    Attributes
    ----------
    name : str
    datatype : Datatype
        Open Inference Protocol datatype.
    shape : tuple of int
        −1 stands for any length; the first axis is the batch.
    meaning : str
        Unit of its numbers where it is not that of the data, and how a missing value is given.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    meaning: str = ""

    @property
    def open_axes(self) -> tuple[int, ...]:
        """Axes of any length, besides the batch."""
        return tuple(axis for axis, size in enumerate(self.shape) if axis and size < 0)

    def __str__(self) -> str:
        shape = ", ".join("n" if size < 0 else str(size) for size in self.shape)
        return f"{self.name}: {self.datatype}[{shape}]"


class Signature(msgspec.Struct, frozen=True):
    """Inputs and outputs, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.inputs))}) → ({', '.join(map(str, self.outputs))})"
