"""Rows to a service and answers back, as Arrow streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from maas_magics.api.results import Prediction


def rows_to_bytes(table: pa.Table) -> bytes:
    """Rows as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def answers_of_bytes(data: bytes) -> dict[str, Any]:
    """Columns of answers: arrays, and Arrow dictionaries of labels."""
    with pa.ipc.open_stream(data) as reader:
        table = reader.read_all().combine_chunks()
    return {name: _column(values.chunk(0)) for name, values in zip(table.column_names, table.columns, strict=True)}


def _column(values: pa.Array) -> Any:
    if isinstance(values.type, pa.FixedShapeTensorType):
        return values.to_numpy_ndarray()
    if pa.types.is_fixed_size_list(values.type):  # several booleans a row
        return values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), -1)
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):  # tags of words
        found = np.empty(len(values), dtype=object)
        found[:] = values.to_pylist()
        return found
    return values if isinstance(values, pa.DictionaryArray) else values.to_numpy(zero_copy_only=False)


def join(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Columns of several answers, one after the other."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}


def prediction_of(headers: Mapping[str, str], body: bytes) -> Prediction:
    """What a service answered: columns in the body, and notes on them in headers."""
    blank = headers.get("x-blank", "0")
    return Prediction(
        model=headers["x-model"],
        columns=answers_of_bytes(body),
        blank=int(blank) if blank.isdecimal() else 0,
        cautions=tuple(_sentences(headers.get("x-warnings", "[]"))),
    )


def _sentences(text: str) -> list[str]:
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.MsgspecError:
        return []


def joined(parts: Sequence[Prediction]) -> Prediction:
    """Several answers as one."""
    return Prediction(
        model=parts[0].model,
        columns=join([part.columns for part in parts]),
        blank=sum(part.blank for part in parts),
        cautions=tuple(dict.fromkeys(text for part in parts for text in part.cautions)),
    )


def _joined(parts: list[Any]) -> Any:
    if not isinstance(parts[0], pa.DictionaryArray):
        return np.concatenate(parts)
    codes = np.concatenate([part.indices.to_numpy() for part in parts])
    return pa.DictionaryArray.from_arrays(codes, parts[0].dictionary)
