"""Lists of numbers that differ in length from row to row, such as token ids or steps of a signal."""

from __future__ import annotations

from typing import ClassVar, Self

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError
from maas_magics.api.signature import DATATYPES, TensorSpec
from maas_magics.core.data.arrow import Array, is_length, is_number
from maas_magics.core.data.nested import is_listed
from maas_magics.core.features.base import Feature
from maas_magics.core.features.fitting import FitConfig, Tell
from maas_magics.core.features.mismatch import check_range, mismatch
from maas_magics.core.features.modalities import Modality, modalities

LONGEST = 12
"""Numbers of a row that is drawn."""


class SequenceFeature(Feature, frozen=True, kw_only=True, tag="sequence"):
    """Lists of numbers of any length. Those of a batch are padded to the longest of them.

    Attributes
    ----------
    dtype : str
    padding : float
        What stands behind the end of a row.
    ids : int
        Rows of the table that a module looks them up in; 0 where it does not.
    """

    dtype: str
    padding: float = 0
    ids: int = 0

    lazy: ClassVar[bool] = True
    ragged: ClassVar[bool] = True

    @property
    def spec(self) -> TensorSpec:
        """(n, length) of its own type."""
        return TensorSpec(self.name, DATATYPES[self.dtype], (-1, -1), f"padded with {self.padding:g}")

    @property
    def table_rows(self) -> int:
        """As it was found."""
        return self.ids

    @property
    def padded_with(self) -> float:
        """As it was fitted."""
        return self.padding

    def encode(self, values: pa.ChunkedArray) -> Array:
        """Numbers (n, length), padded."""
        kind = values.type
        if isinstance(kind, pa.FixedShapeTensorType) and len(kind.shape) == 1:
            values = pa.chunked_array([chunk.storage for chunk in values.chunks], kind.storage_type)
        elif pa.types.is_null(kind) or (is_listed(kind) and pa.types.is_null(kind.value_type)):
            values = values.cast(pa.large_list(pa.from_numpy_dtype(np.dtype(self.dtype))))
        elif not is_listed(kind) or not is_number(kind.value_type):
            raise mismatch(self.name, str(kind), "lists of numbers", "Give a list of numbers a row.")
        whole = _whole(values, self.name)
        lengths = np.asarray(pc.list_value_length(whole), dtype=np.int64)
        flat = np.asarray(pc.list_flatten(whole))
        if flat.size and flat.dtype.kind == "f" and np.dtype(self.dtype).kind in "iu":
            raise mismatch(self.name, f"lists of {flat.dtype}", f"lists of {self.dtype}", f".astype({self.dtype!r})")
        check_range(self.name, flat, self.dtype)
        found = np.full((len(whole), max(1, lengths.max(initial=0))), self.padding, dtype=self.dtype)
        found[np.arange(found.shape[1]) < lengths[:, None]] = flat
        return found

    def check(self, raw: Array) -> None:
        """Raise `DataError` for infinite and missing numbers."""
        super().check(raw)
        if raw.dtype.kind == "f" and np.isnan(raw).any():
            raise _gaps(self.name, int(np.isnan(raw).sum()))

    def having(self, dtype: str, line: bool) -> SequenceFeature:
        """The same with floats of another type."""
        kind = dtype if dtype and self.dtype.startswith("float") else self.dtype
        return msgspec.structs.replace(self, dtype=kind)

    def lengths(self, ready: pa.ChunkedArray) -> Array:
        """Numbers of each row, int64 (n,)."""
        return np.asarray(pc.list_value_length(_whole(ready, self.name)), dtype=np.int64)

    def drawn(self, rows: int, random: np.random.Generator) -> Array:
        """Rows of a few zeros and ones."""
        return random.integers(0, 2, (rows, LONGEST)).astype(self.dtype)


def _whole(values: pa.ChunkedArray, name: str) -> pa.Array:
    """Lists in one piece, none of which is missing, or holds what is."""
    found = values.combine_chunks()
    found = found if isinstance(found, pa.Array) else pa.concat_arrays(found.chunks)
    flat = pc.list_flatten(found)
    gaps = found.null_count + flat.null_count
    if pa.types.is_floating(flat.type):
        gaps += pc.sum(pc.is_nan(flat)).as_py() or 0
    if gaps:
        raise _gaps(name, gaps)
    return found


def _gaps(name: str, gaps: int) -> DataError:
    return DataError(f"Column {name!r} holds {gaps} missing values among its lists.", "Fill them, or drop the rows.")


class SequenceProfile:
    """Fits `SequenceFeature` to a column of lists that a module takes by itself.

    Parameters
    ----------
    field : pyarrow.Field
        Name, type and metadata of the column.
    fit : FitConfig
        What it is fitted for.
    """

    def __init__(self, field: pa.Field, fit: FitConfig) -> None:
        self.name, self.kind = field.name, field.type.value_type

    @classmethod
    def accepts(cls, field: pa.Field, fit: FitConfig) -> bool:
        """Lists of numbers, for a module that takes each column by its name."""
        kind = field.type
        return fit.layout == "raw" and is_listed(kind) and is_number(kind.value_type) and not is_length(kind.value_type)

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in some rows."""
        _whole(values, self.name)

    def merge(self, other: Self) -> None:
        """Take in what was found in other rows."""

    def finish(self, sample: pa.ChunkedArray, notify: Tell) -> SequenceFeature:
        """What the column is."""
        if pa.types.is_integer(self.kind) or pa.types.is_boolean(self.kind):
            dtype = "bool" if pa.types.is_boolean(self.kind) else str(np.dtype(self.kind.to_pandas_dtype()).name)
        else:
            dtype = str(self.kind) if str(self.kind) in ("float", "halffloat") else "float64"
            dtype = {"float": "float32", "halffloat": "float16"}.get(dtype, dtype)
        return SequenceFeature(self.name, dtype=dtype)


modalities.register("sequence")(Modality(SequenceFeature, SequenceProfile))
