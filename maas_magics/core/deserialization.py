"""Requests that came from another process, with live objects again."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from maas_magics.api.errors import DataError, Refused
from maas_magics.api.requests import Request
from maas_magics.api.wire import Code, Graph, Uploaded, uploads_of
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
        if not uploads_of(value):
            continue
        if name == "target":
            changes[name] = _target(value, context)
        elif isinstance(value, Uploaded):
            changes[name] = _opened(value, context)
        elif isinstance(value, (list, tuple)) and len(value) == 2:
            changes[name] = _opened(value[0], context), _target(value[1], context)
    model = getattr(request, "model", None)
    if isinstance(model, Code):
        if not context.allow_code:
            raise Refused("Code that is sent is not run here.", "The service's owner may use --allow-code.")
        from maas_magics.core.networks.source import run_source

        changes["model"] = run_source(model.text)
    elif isinstance(model, Graph):
        from maas_magics.core.graphs.rebuild import unpack as unpack_module
        from maas_magics.core.networks.arguments import NAMES
        from maas_magics.core.networks.outputs import part

        if context.uploads is None:
            raise DataError("The request names a module that was not sent.", "Send it first.")
        archive = context.uploads.path(model.digest).read_bytes()
        net = unpack_module(archive)
        net.title, net.archive = model.name, archive  # type: ignore[assignment]
        if model.inputs:
            setattr(net, NAMES, model.inputs)
        if model.heads:
            part(net, model.heads)
        changes["model"] = net
    return msgspec.structs.replace(request, **changes) if changes else request


def _target(value: Any, context: Context) -> Any:
    """A target as it was given: names of columns, a table, or several of them by name."""
    if isinstance(value, dict):
        return {name: _target(of, context) for name, of in value.items()}
    return value if not uploads_of(value) and isinstance(value, (str, list, tuple)) else _opened(value, context).table()


def _opened(rows: Any, context: Context) -> StreamSource:
    if not isinstance(rows, Uploaded) or context.uploads is None:
        raise DataError("The request names rows that were not sent.", "Send them first.")
    return StreamSource(context.uploads.path(rows.digest), rows.arrays, rows.notes, rows.origin)
