"""The Open Inference Protocol's bodies: the response to a request for inference, in parts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from maas_magics.api.backend import Inferred
from maas_magics.api.errors import DataError
from maas_magics.api.results import on_nothing
from maas_magics.service.oip import Call, Wanted
from maas_magics.service.shares import AnswerShare
from maas_magics.service.tensors import DATATYPES, SLICE, Array, Bytes, check_finite, to_bytes

_encoder = msgspec.json.Encoder()

_JSON, _BINARY = Wanted(), Wanted(binary=True)


def write_answer(
    call: Call, found: Inferred | AnswerShare, labels: Sequence[str] = ()
) -> tuple[list[Bytes], int | None]:
    """A response's body in parts, and how many bytes of it are JSON where bytes of tensors follow.

    Parameters
    ----------
    call : Call
    found : Inferred or AnswerShare
    labels : sequence of str
        Of the model, for outputs whose largest values are requested.

    Raises
    ------
    DataError
        If an output is requested that is not there, or cannot be expressed in JSON.
    """
    blank = found.blank
    nothing = on_nothing(int(blank.sum()), len(blank)) if blank is not None and blank.any() else ""
    if type(found) is AnswerShare and not (call.outputs or call.id or nothing) and found.size <= SLICE:
        if not call.binary:
            return [_plain(found)], None
        if not any(values.dtype.kind == "O" for values in found.batch.found.outputs.values()):
            return _plain_binary(found)
    there = found.outputs
    wanted = call.outputs or dict.fromkeys(there, _BINARY if call.binary else _JSON)
    parts: list[Bytes] = [_begin(found.model)]
    blobs: list[Bytes] = []
    for name, how in wanted.items():
        values = there.get(name)
        if values is None:
            raise DataError(f"The model has no output {name[:80]!r}.", f"There is: {', '.join(there)}.")
        if how.most:
            if values.dtype.kind == "O":
                raise DataError(f"The output {name[:80]!r} is text, which has no largest values.")
            values = ranked(values, how.most, tuple(labels))
        head = _tensor_begin(name, values.shape, values.dtype, how.binary)
        if how.binary:
            blobs.append(to_bytes(values))
            parts.append(b"%b%d}}," % (head, len(blobs[-1])))
        elif values.size <= SLICE:
            parts += (head, _values(name, values.ravel().tolist(), values), b"},")
        else:
            flat = values.reshape(-1)
            parts.append(head)
            for start in range(0, flat.size, SLICE):
                piece = flat[start : start + SLICE]
                text = memoryview(_values(name, piece.tolist(), piece))
                parts += (b"," if start else b"[", text[1:-1])
            parts.append(b"]},")
    last = parts[-1]
    parts[-1] = b"".join((last[:-1] if len(parts) > 1 else last, _end(call.id, nothing)))
    if not blobs:
        return parts, None
    return parts + blobs, sum(map(len, parts))


def _plain(found: AnswerShare) -> bytes:
    """An answer as it is requested most often: every output as JSON; pieces of it are the same for a whole batch."""
    batch, rows = found.batch, found.stop - found.start
    there = batch.found.outputs
    begins = batch.begins(rows, False)
    if begins is None:
        heads = [_tensor_begin(name, (rows, *values.shape[1:]), values.dtype, False) for name, values in there.items()]
        begins = tuple(b"%b%b[" % (b"]}," if place else _begin(found.model), head) for place, head in enumerate(heads))
        batch.remember(rows, False, begins)
    parts: list[bytes] = []
    for begin, name in zip(begins, there, strict=True):
        parts += (begin, found.texts(name))
    parts.append(b"]}]}")
    body = b"".join(parts)
    if b"null" in body:  # what the encoder makes of a float that is not a number, unless it stands in a text
        for name, values in found.outputs.items():
            check_finite(name, values)
    return body


def _plain_binary(found: AnswerShare) -> tuple[list[Bytes], int]:
    """The same in binary: all of its JSON is the same for each request of a batch."""
    batch, rows = found.batch, found.stop - found.start
    there = batch.found.outputs
    begins = batch.begins(rows, True)
    if begins is None:
        heads = [
            b"%b%d}}"
            % (_tensor_begin(name, (rows, *values.shape[1:]), values.dtype, True), values.nbytes // len(values) * rows)
            for name, values in there.items()
        ]
        begins = (b"".join((_begin(found.model), b",".join(heads), b"]}")),)
        batch.remember(rows, True, begins)
    return [begins[0], *map(found.blob, there)], len(begins[0])


@lru_cache(256)
def _begin(model: str) -> bytes:
    name, _, version = model.partition(":")
    head: bytes = _encoder.encode({"model_name": name, "model_version": version, "outputs": []})
    return head[:-2]


@lru_cache(1024)
def _tensor_begin(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], binary: bool) -> bytes:
    """An output up to its values, or to the number of its bytes."""
    head: bytes = _encoder.encode({"name": name, "shape": shape, "datatype": DATATYPES[dtype]})
    return head[:-1] + (b',"parameters":{"binary_data_size":' if binary else b',"data":')


def _end(id: str, warning: str) -> bytes:
    if not (id or warning):
        return b"]}"
    more = ({"id": id} if id else {}) | ({"parameters": {"warnings": [warning]}} if warning else {})
    return b"]," + _encoder.encode(more)[1:]


def _values(name: str, values: list[Any], array: Array) -> bytes:
    """Values as JSON."""
    text: bytes = _encoder.encode(values)
    if b"null" in text:  # what the encoder makes of a float that is not a number, unless it stands in a text
        check_finite(name, array)
    return text


def ranked(values: Array, most: int, labels: tuple[str, ...] = ()) -> Array:
    """The largest values of each row, the largest first, as ``value:place`` or ``value:place:label``.

    Parameters
    ----------
    values : ndarray
        First axis: rows.
    most : int
        How many of each row; fewer where it has fewer.
    labels : tuple of str
        Names of the places; written where each has one.
    """
    flat = values.reshape(len(values), -1)
    last = flat.shape[1] - 1
    order = last - np.argsort(flat[:, ::-1], axis=1, kind="stable")[:, ::-1][:, :most]
    figure = "%f" if values.dtype.kind == "f" else "%d"
    names = [f":{label}" for label in labels] if len(labels) == flat.shape[1] else [""] * flat.shape[1]
    found = np.empty(order.shape, object)
    for row, (places, chosen) in enumerate(
        zip(order.tolist(), np.take_along_axis(flat, order, 1).tolist(), strict=True)
    ):
        found[row] = [f"{figure % value}:{place}{names[place]}" for place, value in zip(places, chosen, strict=True)]
    return found
