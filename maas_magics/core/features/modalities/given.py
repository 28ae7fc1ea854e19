"""A column that a graph made elsewhere takes as it is: nothing of it is fitted, and its type is the graph's own."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.api.signature import DATATYPES, TensorSpec
from maas_magics.core.data.arrow import Array, as_text, is_number, numbers, tensors
from maas_magics.core.data.nested import stacked
from maas_magics.core.features.base import Feature
from maas_magics.core.features.fitting import FitConfig, Tell
from maas_magics.core.features.mismatch import check_range, mismatch
from maas_magics.core.features.modalities import Modality, modalities


class GivenFeature(Feature, frozen=True, kw_only=True, tag="given"):
    """Values of the type and shape that a graph says.

    Attributes
    ----------
    row : tuple of int
        Shape without the batch; −1 for an axis of any length.
    dtype : str
        Name of numpy's type; ``object`` for texts.
    """

    row: tuple[int, ...] = ()
    dtype: str = "float32"

    @property
    def spec(self) -> TensorSpec:
        """(n, …), of its own type."""
        return TensorSpec(self.name, DATATYPES[self.dtype], (-1, *self.row))

    def encode(self, values: pa.ChunkedArray) -> Array:
        """Array (n, …) of its own type; a missing text is an empty one."""
        if self.dtype == "object":
            found = self._texts(values)
        elif is_number(values.type):
            found = self._numbers(values)
        else:
            values = stacked(values, any_list=True)
            if not isinstance(values.type, pa.FixedShapeTensorType):
                raise mismatch(self.name, str(values.type), self._said, "Give numbers, or arrays of them.")
            found = self._typed(tensors(values))
        if self.row in ((), (1,)) and found.shape[1:] in ((), (1,)):
            found = found.reshape(-1, *self.row)
        wanted = (len(found), *(found.shape[1:] if len(found.shape) == len(self.row) + 1 else ()))
        fits = len(wanted) == len(self.row) + 1 and all(
            size in (-1, there) for size, there in zip(self.row, wanted[1:], strict=True)
        )
        if not fits:
            raise mismatch(
                self.name, f"rows of shape {found.shape[1:]}", self._said, "Give rows of that shape.", axes=True
            )
        return found

    @property
    def _said(self) -> str:
        shape = ", ".join("any" if size < 0 else str(size) for size in self.row)
        what = "text" if self.dtype == "object" else self.dtype
        return what if self.row in ((), (1,)) else f"{what} of shape ({shape})"

    def _texts(self, values: pa.ChunkedArray) -> Array:
        if isinstance(values.type, pa.FixedShapeTensorType) or pa.types.is_nested(values.type):
            rows = [[str(one) for one in row] for row in values.to_pylist()]
            if len({len(row) for row in rows}) > 1:
                raise mismatch(self.name, "lists of several lengths", self._said, "Give lists of one length.")
            return np.array(rows, dtype=object)
        found = np.empty(len(values), dtype=object)
        found[:] = ["" if text is None else text for text in as_text(values).to_pylist()]
        return found

    def _numbers(self, values: pa.ChunkedArray) -> Array:
        if self.dtype.startswith("float"):
            return numbers(values).astype(self.dtype)
        if values.null_count:
            raise DataError(
                f"Column {self.name!r} holds {values.null_count:,} missing values, which {self.dtype} has none for.",
                "Fill them.",
            )
        if pa.types.is_integer(values.type) or pa.types.is_boolean(values.type):
            return self._typed(np.asarray(values.to_numpy()))
        return self._typed(numbers(values))

    def _typed(self, found: Array) -> Array:
        """Numbers of the graph's type, which holds them."""
        wanted = np.dtype(self.dtype)
        if wanted.kind in "iub" and found.dtype.kind == "f" and not (found == np.floor(found)).all():
            hint = f"Convert it: .round().astype({self.dtype!r})"
            raise mismatch(self.name, "fractions, or missing values", self.dtype, hint)
        if wanted.kind in "iu" and found.dtype.kind == "f":
            found = found.astype(np.int64)
        if wanted.kind == "b" and not np.isin(found, (0, 1)).all():
            raise mismatch(self.name, "other numbers than 0 and 1", "bool", "Give truth values.")
        check_range(self.name, found, self.dtype)
        return found.astype(wanted, copy=False)

    def drawn(self, rows: int, random: np.random.Generator) -> Array:
        """Numbers about zero; zeros and ones where they are whole; empty texts."""
        shape = (rows, *self.example_row)
        if self.dtype == "object":
            return np.full(shape, "", dtype=object)
        if not self.dtype.startswith("float"):
            return random.integers(0, 2, shape).astype(self.dtype)
        return random.normal(size=shape).astype(self.dtype)


class GivenNumber(GivenFeature, frozen=True, kw_only=True, tag="given-number"):
    """Floats, which may be missing: the graph then gets NaN."""

    gaps: ClassVar[bool] = True
    infinite: ClassVar[bool] = True


def given(name: str, dtype: str, row: tuple[int, ...]) -> GivenFeature:
    """The feature of such values.

    Parameters
    ----------
    name : str
        Name of the column.
    dtype : str
        Name of numpy's type; ``object`` for texts.
    row : tuple of int
        Shape without the batch.
    """
    kind = GivenNumber if dtype.startswith("float") else GivenFeature
    return kind(name, row=row, dtype=dtype)


class GivenProfile:
    """No column is of this kind by itself: a graph says which are.

    Parameters
    ----------
    field : pyarrow.Field
        Name, type and metadata of the column.
    fit : FitConfig
        What it is fitted for.
    """

    def __init__(self, field: pa.Field, fit: FitConfig) -> None:
        self.name = field.name

    @classmethod
    def accepts(cls, field: pa.Field, fit: FitConfig) -> bool:
        """Never."""
        return False

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in some rows."""

    def merge(self, other: GivenProfile) -> None:
        """Take in what was found in other rows."""

    def finish(self, sample: pa.ChunkedArray, notify: Tell) -> GivenFeature:
        """Refuse a column that was declared to be of this kind."""
        raise DataError(f"Column {self.name!r} cannot be declared as given.", "It is for %maas import FILE.onnx.")


modalities.register("given")(Modality(GivenFeature, GivenProfile))
modalities.register("given-number")(Modality(GivenNumber, GivenProfile))
