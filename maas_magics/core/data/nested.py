"""Columns of lists as columns of arrays, where every row has as many numbers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def without_views(kind: pa.DataType) -> pa.DataType:
    """A type in whose depths, too, no text or bytes are views, which Arrow's kernels do not all take."""
    types = pa.types
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, without_views(kind.value_type), kind.ordered)
    if types.is_fixed_size_list(kind):
        return pa.list_(without_views(kind.value_type), kind.list_size)
    if types.is_large_list(kind):
        return pa.large_list(without_views(kind.value_type))
    if types.is_list(kind):
        return pa.list_(without_views(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([field.with_type(without_views(field.type)) for field in kind])
    return kind


def is_listed(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a list, of any length."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def stacked(values: pa.ChunkedArray, any_list: bool) -> pa.ChunkedArray:
    """Lists of numbers as fixed-shape tensors; any other column as it is.

    Parameters
    ----------
    values : pyarrow.ChunkedArray
    any_list : bool
        Whether lists of any length are looked at, which are of one length only as far as these rows go; otherwise
        those whose type holds their length.
    """
    innermost = values.type
    fixed = True
    while is_listed(innermost):
        fixed = fixed and pa.types.is_fixed_size_list(innermost)
        innermost = innermost.value_type
    types = pa.types
    plain = types.is_integer(innermost) or types.is_floating(innermost) or types.is_boolean(innermost)
    decimal = types.is_decimal(innermost)
    if innermost == values.type or not (plain or decimal) or not (fixed or (any_list and len(values))):
        return values
    found = _whole(values)
    present = found.drop_null() if found.null_count else found
    made = _flat(present)
    if made is None:
        return values
    flat, shape = made
    flat = flat.cast(pa.float64(), safe=False) if decimal else flat
    width = int(np.prod(shape))
    storage = pa.FixedSizeListArray.from_arrays(flat, width)
    if found.null_count:
        there = np.asarray(found.is_valid())
        storage = storage.take(pa.array(np.cumsum(there) - 1, mask=~there))
    kind = pa.fixed_shape_tensor(flat.type, shape)
    return pa.chunked_array([pa.ExtensionArray.from_storage(kind, storage)])


def _whole(values: pa.ChunkedArray) -> pa.Array:
    if values.num_chunks == 1:
        return values.chunk(0)
    found = values.combine_chunks()
    return found if isinstance(found, pa.Array) else pa.concat_arrays(found.chunks)


def _flat(values: pa.Array) -> tuple[pa.Array, tuple[int, ...]] | None:
    """All numbers of lists one after the other, and the shape of a row; None where the lists differ in length."""
    shape: list[int] = []
    while is_listed(values.type):
        if values.null_count:
            return None  # a row within a row is missing
        if pa.types.is_fixed_size_list(values.type):
            length = values.type.list_size
        else:
            each = pc.min_max(pc.list_value_length(values)).as_py()
            if each["min"] is None or each["min"] != each["max"]:
                return None
            length = each["min"]
        if not length:
            return None
        shape.append(length)
        values = values.flatten()
    return values, tuple(shape)


class Lists:
    """Makes arrays of the lists of a table that is read a part at a time, as long as their rows are of one shape.

    A column that turns out not to be of one shape stays as it is from then on, also at another reading.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, pa.DataType] = {}
        self._uneven: set[str] = set()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Some rows, with arrays for lists."""
        for at, field in enumerate(table.schema):
            if not is_listed(field.type) or field.name in self._uneven:
                continue
            values = stacked(table.column(at), any_list=True)
            if is_listed(values.type) or self._kinds.setdefault(field.name, values.type) != values.type:
                self._uneven.add(field.name)
            else:
                table = table.set_column(at, field.with_type(values.type), values)
        return table
