"""Requests that came from another process, with live objects again."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from maas_magics.api.errors import DataError, Refused
from maas_magics.api.requests import Request
from maas_magics.api.wire import Code, Graph, Uploaded
from maas_magics.core.context import Context
from maas_magics.core.data.stream import StreamSource
from maas_magics.core.serialization import DATA

R = TypeVar("R", bound=Request[Any])


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
    model = getattr(request, "model", None)
    if isinstance(model, Code):
        if not context.allow_code:
            raise Refused("Code that is sent is not run here.", "The service's owner may use --allow-code.")
        from maas_magics.core.networks.source import run_source

        changes["model"] = run_source(model.text)
    elif isinstance(model, Graph):
        from maas_magics.core.graphs.rebuild import unpack as unpack_module
        from maas_magics.core.networks.arguments import NAMES

        if context.uploads is None:
            raise DataError("The request names a module that was not sent.", "Send it first.")
        archive = context.uploads.path(model.digest).read_bytes()
        net = unpack_module(archive)
        net.title, net.archive = model.name, archive  # type: ignore[assignment]
        if model.inputs:
            setattr(net, NAMES, model.inputs)
        changes["model"] = net
    return msgspec.structs.replace(request, **changes) if changes else request


def _opened(rows: Any, context: Context) -> StreamSource:
    if not isinstance(rows, Uploaded) or context.uploads is None:
        raise DataError("The request names rows that were not sent.", "Send them first.")
    return StreamSource(context.uploads.path(rows.digest), rows.arrays, rows.notes, rows.origin)
