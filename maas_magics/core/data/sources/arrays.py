"""numpy and torch arrays, pairs of them, dicts of arrays, lists of rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.core.data.files.places import looks_like_files
from maas_magics.core.data.nested import is_listed
from maas_magics.core.data.sources import ARRAY, Answers, as_numpy, comes_from, plain, refuse_sparse, sources
from maas_magics.core.data.sources.frames import FrameSource
from maas_magics.core.data.tagged import is_lists_of_text, texts_in_lists
from maas_magics.core.data.values import lengths, mixed, objects, times

Values = Any
"""An array of numpy, or one of Arrow."""


class ArraySource:
    """One or several arrays of the same length.

    Parameters
    ----------
    columns : dict of str to ndarray or pyarrow.Array
        One-dimensional arrays are plain columns, others tensors of one row each. What is masked is missing.
    arrays : bool
        Whether answers go back as arrays.
    torch : bool
        Whether answers that are numbers go back as torch tensors.
    """

    origin = "arrays"

    def __init__(self, columns: dict[str, Values], arrays: bool = True, torch: bool = False) -> None:
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
        found = [(name, values[start:stop]) for name, values in self._columns.items()]
        columns = [column(values, name) for name, values in found]
        fields = [
            pa.field(name, made.type, metadata=mixed(made, values) if _holds_objects(values) else None)
            for (name, values), made in zip(found, columns, strict=True)
        ]
        return pa.table(columns, schema=pa.schema(fields))

    def restore(self, columns: Answers) -> Any:
        """Answers: a dict for a dict of columns, otherwise one array."""
        found = {name: as_numpy(values) for name, values in columns.items()}
        if self._torch:
            found = {name: _as_torch(values) for name, values in found.items()}
        return next(iter(found.values())) if self.arrays and len(found) == 1 else found


def _as_torch(values: np.ndarray[Any, Any]) -> Any:
    import torch

    return torch.from_numpy(values) if values.dtype.kind in "biuf" else values


def _holds_objects(values: Values) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind == "O"


def column(values: Values, name: str) -> pa.Array | pa.ChunkedArray:
    """Array as an Arrow column: a plain one, or a fixed-shape tensor for each row; what is masked is missing.

    Raises
    ------
    DataError
        If it holds what no model takes.
    """
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    kind = values.dtype.kind
    if kind not in "biufMmOUST":
        raise DataError(
            f"Array {name!r} has dtype {values.dtype}, which models do not take.", "Convert it: .astype('float32')"
        )
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))  # Arrow takes no other order of bytes
    if values.ndim > 1 and kind == "O":
        values, kind = _numbers(values)
    if values.ndim > 1 and kind not in "biuf":
        raise DataError(
            f"Array {name!r} has dtype {values.dtype} and {values.ndim} axes; an array of several axes holds numbers.",
            "Give mixed columns as a table: pd.DataFrame(...)",
        )
    if 0 in values.shape[1:]:
        raise DataError(f"Array {name!r} has rows of no values: its shape is {values.shape}.", "Give at least one.")
    if kind == "f" and values.dtype.itemsize > 8:
        values = values.astype(np.float64)
    hidden = _hidden(values)
    values = np.asarray(values)
    if values.ndim > 1:
        return tensor_column(values if hidden is None else _emptied(values, hidden))
    try:
        if kind == "M":
            values = values if _as_it_is(values) else times(values)
        elif kind == "m" and not _as_it_is(values):
            values = lengths(values)
    except DataError as error:
        raise DataError(f"Array {name!r}: {error.message}", error.hint) from None
    if kind in "OUST":
        return objects(_items(values, hidden))
    if hidden is not None and values.dtype.kind in "fMm":  # beside a mask, Arrow sees no NaN and no NaT
        hidden = hidden | np.isnan(values)
    return pa.array(values, from_pandas=True, mask=hidden)


def _numbers(values: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], str]:
    """Objects of several axes as float64 where all of them are numbers, and what kind of array it is."""
    hidden = _hidden(values)
    found = objects(_items(values, hidden))
    kind = found.type
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    if not any(test(kind) for test in kinds):
        return values, "O"
    if pa.types.is_decimal(kind):
        found = found.cast(pa.float64(), safe=False)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.float64).reshape(values.shape), "f"


def _items(values: np.ndarray[Any, Any], hidden: np.ndarray[Any, Any] | None) -> list[Any]:
    """Every value, one after the other, and None for those that are hidden."""
    items: list[Any] = np.asarray(values).ravel().tolist()
    if hidden is None:
        return items
    return [None if gone else item for item, gone in zip(items, hidden.ravel().tolist(), strict=True)]


def _hidden(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Which values are masked; None where none is."""
    if not isinstance(values, np.ma.MaskedArray):
        return None
    found = np.ma.getmaskarray(values)
    return found if found.any() else None


def _emptied(values: np.ndarray[Any, Any], hidden: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Numbers with NaN for those that are hidden, as the floats that hold all of them."""
    found = values.astype(values.dtype if values.dtype.kind == "f" else np.float64)
    found[hidden] = np.nan
    return found


def _as_it_is(values: np.ndarray[Any, Any]) -> bool:
    """Whether Arrow has the very unit of some times."""
    unit, count = np.datetime_data(values.dtype)
    return count == 1 and unit in ("s", "ms", "us", "ns")


def tensor_column(values: np.ndarray[Any, Any]) -> pa.Array:
    """Numbers of two or more axes as a fixed-shape-tensor column, without a copy where the layout allows it."""
    # An axis of one may have any stride, which numpy takes for contiguous, and Arrow does not.
    flat = np.ascontiguousarray(values).reshape(-1)
    if 0 in values.shape or values.dtype.kind == "b":
        items = pa.array(flat)
        kind = pa.fixed_shape_tensor(items.type, values.shape[1:])
        width = int(np.prod(values.shape[1:]))
        return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(items, width))
    return pa.FixedShapeTensorArray.from_numpy_ndarray(flat.reshape(values.shape))


def to_numpy(data: Any) -> np.ndarray[Any, Any]:
    """Array of numpy, torch, or nested lists as a numpy array; a masked one stays masked."""
    if isinstance(data, np.ma.MaskedArray):
        return data
    refuse_sparse(data)
    if comes_from(data, "torch"):
        return _of_torch(data)
    if comes_from(data, "pandas", "polars") and hasattr(data, "to_numpy"):
        return np.asarray(data.to_numpy())
    if isinstance(data, (list, tuple)) and any(isinstance(row, np.ma.MaskedArray) and row.ndim for row in data):
        try:
            return np.ma.stack(data)
        except ValueError:
            raise _ragged() from None
    if isinstance(data, (list, tuple)) and any(value is np.ma.masked for value in data):
        return _objects(list(data))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a masked value becomes NaN, which is what is wanted
            values = np.asarray(data)
    except ValueError:
        raise _ragged() from None
    if values.dtype.kind in "US" and not hasattr(data, "dtype"):
        # numpy writes what is missing among texts as "None" or "nan"
        return np.asarray(data, dtype=object)
    return values


def _ragged() -> DataError:
    return DataError("The rows differ in length, so they make no array.", "Give rows of equal length.")


def _of_torch(data: Any) -> np.ndarray[Any, Any]:
    """A tensor of torch, however it is laid out; what a masked one hides is masked."""
    if hasattr(data, "get_mask"):
        return np.ma.MaskedArray(_of_torch(data.get_data()), mask=~_of_torch(data.get_mask()))
    data = data.detach().cpu()
    if data.is_nested:
        raise DataError(
            "A nested tensor has rows of different lengths, which no model here takes.",
            "Pad them: torch.nested.to_padded_tensor(x, float('nan'))",
        )
    if str(data.layout) != "torch.strided":
        data = data.to_dense()
    if data.is_quantized:
        data = data.dequantize()
    if data.is_floating_point() and data.element_size() < 4 and str(data.dtype) != "torch.float16":
        data = data.float()
    return np.asarray(data.resolve_conj().resolve_neg().numpy())


def of_column(values: Any) -> Values:
    """One column that was given by itself: an Arrow array where its library has one, which keeps what is missing.

    Anything else goes by `to_numpy`.
    """
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return plain(pa.table({ARRAY: values})).column(0)
    if comes_from(values, "pandas", "polars") and getattr(values, "ndim", 1) == 1 and hasattr(values, "to_frame"):
        return FrameSource(values).table().column(0)
    if isinstance(values, (list, tuple)) and not any(isinstance(item, (list, tuple, np.ndarray)) for item in values):
        return to_numpy(values) if all(isinstance(item, (int, float)) for item in values) else _objects(list(values))
    if isinstance(values, (list, tuple)) and texts_in_lists(values):
        return pa.array([None if row is None else list(row) for row in values], pa.list_(pa.string()))
    if isinstance(values, (list, tuple)) and (uneven := _uneven(values)) is not None:
        return uneven
    return np.atleast_1d(to_numpy(values))


def _uneven(rows: Sequence[Any]) -> pa.Array | None:
    """Rows of numbers that differ in length as lists of Arrow; None for other rows."""
    there = [row for row in rows if row is not None]
    if not there or not all(isinstance(row, (list, tuple, np.ndarray)) or comes_from(row, "torch") for row in there):
        return None
    if len(there) == len(rows) and len(sizes := {len(row) for row in rows}) == 1 and sizes != {0}:
        return None
    if any(value is None for row in there if isinstance(row, (list, tuple)) for value in row):
        return pa.array([None if row is None else list(row) for row in rows]) if _are_plain(there) else None
    found = [np.asarray(() if row is None else row.detach().cpu() if comes_from(row, "torch") else row) for row in rows]
    if any(row.ndim != 1 or (row.size and row.dtype.kind not in "biuf") for row in found):
        return None
    kind = np.result_type(*(row.dtype for row in found if row.size)) if any(row.size for row in found) else np.float64
    ends = pa.array(np.cumsum([0, *map(len, found)]), pa.int64())
    gone = None if len(there) == len(rows) else pa.array([row is None for row in rows])
    return pa.LargeListArray.from_arrays(ends, pa.array(np.concatenate(found).astype(kind)), mask=gone)


def _are_plain(rows: Sequence[Any]) -> bool:
    """Whether lists hold numbers and what is missing alone."""
    return all(value is None or isinstance(value, (int, float)) for row in rows for value in row)


@sources.register("arrays")
class Arrays:
    """Opens arrays, dicts of arrays and lists."""

    @staticmethod
    def accepts(data: Any) -> bool:
        """Anything that is an array, a mapping to arrays, or a list or tuple of rows."""
        if (
            (isinstance(data, (str, bytes)) and not is_file(data))
            or hasattr(data, "__arrow_c_stream__")
            or looks_like_files(data)
        ):
            return False
        if is_file(data):
            return True
        tensor = comes_from(data, "torch") and hasattr(data, "detach")
        return tensor or isinstance(data, (np.ndarray, Mapping, list, tuple)) or hasattr(data, "__array__")

    @staticmethod
    def open(data: Any) -> ArraySource:
        """Arrays as a source; a list of dicts is read as rows of a table, and a picture or a sound alone as one row."""
        if is_file(data):
            return ArraySource({ARRAY: _objects([data])})
        if isinstance(data, (list, tuple)) and data and all(map(is_file, data)):
            return ArraySource({ARRAY: _objects(list(data))})
        if isinstance(data, Mapping):
            columns = {str(name): of_column(values) for name, values in data.items()}
            if not columns:
                raise DataError("The dict of arrays is empty.", "Give at least one array.")
            several = (getattr(values, "ndim", 1) > 1 or _is_lists(values) for values in columns.values())
            return ArraySource(columns, arrays=any(several))
        if isinstance(data, (list, tuple)) and data and isinstance(data[0], Mapping):
            names = list(dict.fromkeys(name for row in data for name in row))
            return ArraySource({str(name): _objects([row.get(name) for row in data]) for name in names}, False)
        if isinstance(data, (list, tuple)) and texts_in_lists(data):
            return ArraySource({ARRAY: of_column(data)})
        if isinstance(data, (list, tuple)) and (uneven := _uneven(data)) is not None:
            return ArraySource({ARRAY: uneven})
        values = to_numpy(data)
        if values.dtype.names:
            return ArraySource({name: values[name] for name in values.dtype.names}, arrays=False)
        if values.ndim == 0:
            raise DataError("A single number is not data.", "Give an array of rows.")
        values = values[:, None] if values.ndim == 1 and values.dtype.kind in "biuf" else values
        return ArraySource({ARRAY: values}, torch=comes_from(data, "torch"))


def is_file(data: Any) -> bool:
    """Whether a value is one picture of Pillow, or the bytes of a file.

    Parameters
    ----------
    data : Any
        What the user gave as data, or an item of it.
    """
    if isinstance(data, (bytes, bytearray)):
        return len(data) > 0
    return type(data).__module__.startswith("PIL.") and hasattr(data, "save")


def _is_lists(values: Values) -> bool:
    listed = isinstance(values, (pa.Array, pa.ChunkedArray)) and is_listed(values.type)
    return listed and not is_lists_of_text(values.type)


def _objects(items: list[Any]) -> np.ndarray[Any, Any]:
    """Values as an array of one axis, whatever they are."""
    found = np.empty(len(items), dtype=object)
    found[:] = items
    return found
