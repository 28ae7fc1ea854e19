"""numpy and torch arrays, pairs of them, dicts of arrays, lists of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.core.data.sources import ARRAY, Answers, as_numpy, comes_from, sources, words


class ArraySource:
    """One or several arrays of the same length.

    Parameters
    ----------
    columns : dict of str to ndarray
        One-dimensional arrays are plain columns, others tensors of one row each.
    arrays : bool
        Whether answers go back as arrays.
    torch : bool
        Whether answers that are numbers go back as torch tensors.
    """

    def __init__(self, columns: dict[str, np.ndarray[Any, Any]], arrays: bool = True, torch: bool = False) -> None:
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(
                "The arrays differ in length: " + ", ".join(f"{k} has {v}" for k, v in lengths.items()) + "."
            )
        self.arrays = arrays
        self._torch = torch
        self._columns = columns
        self.rows: int | None = next(iter(lengths.values()), 0)

    def table(self) -> pa.Table:
        """All rows."""
        return self._slice(0, self.rows or 0)

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """All rows, at most ``rows`` at a time."""
        for start in range(0, max(self.rows or 0, 1), rows):
            yield self._slice(start, start + rows)

    def _slice(self, start: int, stop: int) -> pa.Table:
        return pa.table({name: column(values[start:stop], name) for name, values in self._columns.items()})

    def restore(self, columns: Answers) -> Any:
        """Answers: a dict for a dict of columns, otherwise one array."""
        found = {name: as_numpy(values) for name, values in columns.items()}
        if self._torch:
            found = {name: _as_torch(values) for name, values in found.items()}
        return next(iter(found.values())) if self.arrays and len(found) == 1 else found


def _as_torch(values: np.ndarray[Any, Any]) -> Any:
    import torch

    return torch.from_numpy(values) if values.dtype.kind in "biuf" else values


def column(values: np.ndarray[Any, Any], name: str) -> pa.Array:
    """Array as an Arrow column: a plain one, or a fixed-shape tensor for each row."""
    if values.dtype.kind not in "biufMmOUS":
        raise DataError(
            f"Array {name!r} has dtype {values.dtype}, which no model takes.", "Convert it: .astype('float32')"
        )
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        values = values.astype(np.float64)
    if values.ndim == 1:
        try:
            return pa.array(values.tolist() if values.dtype.kind in "OUS" else values, from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return words(values)
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"Array {name!r} has dtype {values.dtype} and {values.ndim} axes; an array of several axes holds numbers.",
            "Give mixed columns as a table: pd.DataFrame(...)",
        )
    return tensor_column(values)


def tensor_column(values: np.ndarray[Any, Any]) -> pa.Array:
    """Numbers of two or more axes as a fixed-shape-tensor column, without a copy where the layout allows it."""
    # An axis of one may have any stride, which numpy takes for contiguous, and Arrow does not.
    flat = np.ascontiguousarray(values).reshape(-1)
    if 0 in values.shape or values.dtype.kind == "b":
        items = pa.array(flat)
        kind = pa.fixed_shape_tensor(items.type, values.shape[1:])
        width = int(np.prod(values.shape[1:]))
        lists = pa.FixedSizeListArray.from_arrays(items, width) if width else pa.array([], kind.storage_type)
        return pa.ExtensionArray.from_storage(kind, lists)
    return pa.FixedShapeTensorArray.from_numpy_ndarray(flat.reshape(values.shape))


def to_numpy(data: Any) -> np.ndarray[Any, Any]:
    """Array of numpy, torch, or nested lists as a numpy array."""
    if comes_from(data, "torch"):
        return np.asarray(data.detach().cpu().numpy())
    if comes_from(data, "pandas", "polars") and hasattr(data, "to_numpy"):
        return np.asarray(data.to_numpy())
    try:
        values = np.asarray(data)
    except ValueError:
        raise DataError("The rows differ in length, so they make no array.", "Give rows of equal length.") from None
    # numpy writes what is missing among texts as "None" or "nan"
    return np.asarray(data, dtype=object) if values.dtype.kind in "US" and not hasattr(data, "dtype") else values


@sources.register("arrays")
class Arrays:
    """Opens arrays, dicts of arrays and lists."""

    @staticmethod
    def accepts(data: Any) -> bool:
        """Anything that is an array, a mapping to arrays, or a list or tuple of rows."""
        if isinstance(data, (str, bytes)) or hasattr(data, "__arrow_c_stream__"):
            return False
        tensor = comes_from(data, "torch") and hasattr(data, "detach")
        return tensor or isinstance(data, (np.ndarray, Mapping, list, tuple)) or hasattr(data, "__array__")

    @staticmethod
    def open(data: Any) -> ArraySource:
        """Arrays as a source; a list of dicts is read as rows of a table."""
        if isinstance(data, Mapping):
            columns = {str(name): np.atleast_1d(to_numpy(values)) for name, values in data.items()}
            if not columns:
                raise DataError("The dict of arrays is empty.", "Give at least one array.")
            return ArraySource(columns, arrays=any(values.ndim > 1 for values in columns.values()))
        if isinstance(data, (list, tuple)) and data and isinstance(data[0], Mapping):
            names = list(dict.fromkeys(name for row in data for name in row))
            return ArraySource({str(name): _objects([row.get(name) for row in data]) for name in names}, False)
        values = to_numpy(data)
        if values.dtype.names:
            return ArraySource({name: values[name] for name in values.dtype.names}, arrays=False)
        if values.ndim == 0:
            raise DataError("A single number is no data.", "Give an array of rows.")
        values = values[:, None] if values.ndim == 1 and values.dtype.kind in "biuf" else values
        return ArraySource({ARRAY: values}, torch=comes_from(data, "torch"))


def _objects(items: list[Any]) -> np.ndarray[Any, Any]:
    """Values as an array of one axis, whatever they are."""
    found = np.empty(len(items), dtype=object)
    found[:] = items
    return found
