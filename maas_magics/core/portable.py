"""Requests with live objects, made ready for another process, and read again there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

import msgspec

from maas_magics.api.errors import DataError
from maas_magics.api.requests import Request, TrainRequest
from maas_magics.api.wire import Uploaded
from maas_magics.core.context import Context
from maas_magics.core.data.sources import Source, open_source
from maas_magics.core.data.sources.arrays import to_numpy
from maas_magics.core.data.stream import StreamSource, write_stream
from maas_magics.core.data.target import TARGET

R = TypeVar("R", bound=Request[Any])

Send = Callable[[BinaryIO, str, int], None]
"""Takes a file that stands at its beginning, the SHA-256 of its bytes, and how many they are."""

DATA = ("data", "validation")


def pack(request: R, send: Send) -> R:
    """A request whose rows were sent ahead, and are named by digest.

    Parameters
    ----------
    request : Request
    send : callable
        Brings bytes to where the request will run.

    Raises
    ------
    MaasError
        If the rows cannot be read.
    """
    if isinstance(request, TrainRequest):
        from maas_magics.core.training import loaders

        if loaders.is_loader(request.data):
            request = loaders.materialise(request)  # type: ignore[assignment]
    changes: dict[str, Any] = {}
    for name in DATA:
        value = getattr(request, name, None)
        if value is None or isinstance(value, (int, float, Uploaded)):
            continue
        if isinstance(value, tuple) and len(value) == 2:
            changes[name] = _rows(value[0], send), _rows(value[1], send, target=True)
        else:
            changes[name] = _rows(value, send)
    target = getattr(request, "target", None)
    if target is not None and not isinstance(target, (str, int)) and not _names(target):
        changes["target"] = _rows(target, send, target=True)
    return msgspec.structs.replace(request, **changes)


def _names(target: Any) -> bool:
    return isinstance(target, (list, tuple)) and len(target) < 1000 and all(isinstance(name, str) for name in target)


def _rows(data: Any, send: Send, target: bool = False) -> Uploaded:
    if target and getattr(data, "ndim", 1) == 1:
        name = getattr(data, "name", None)
        data = {str(name) if isinstance(name, str) else TARGET: to_numpy(data)}
    source: Source = open_source(data)
    with tempfile.TemporaryFile() as file:
        digest, size = write_stream(source, file)
        file.seek(0)
        send(file, digest, size)
    return Uploaded(digest, source.arrays)


def unpack(request: R, context: Context) -> R:
    """The request with its rows opened.

    Raises
    ------
    DataError
        If they are not here.
    """
    changes: dict[str, Any] = {}
    for name in (*DATA, "target"):
        value = getattr(request, name, None)
        if isinstance(value, Uploaded):
            changes[name] = _opened(value, context)
        elif isinstance(value, (list, tuple)) and len(value) == 2 and any(isinstance(p, Uploaded) for p in value):
            changes[name] = _opened(value[0], context), _opened(value[1], context).table()
        if name == "target" and name in changes:
            changes[name] = changes[name].table()
    return msgspec.structs.replace(request, **changes) if changes else request


def _opened(rows: Any, context: Context) -> StreamSource:
    if not isinstance(rows, Uploaded) or context.uploads is None:
        raise DataError("The request names rows that were not sent.", "Send them first.")
    return StreamSource(context.uploads.path(rows.digest), rows.arrays)
