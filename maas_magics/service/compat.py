"""What is used of uvicorn's inside, and nowhere else in the service."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from maas_magics.api.errors import incompatible

_Protocol: Any = HttpToolsProtocol

METHODS = (
    *("connection_made", "connection_lost", "pause_writing", "resume_writing", "timeout_keep_alive_handler"),
    *("on_message_begin", "on_headers_complete", "on_body", "on_message_complete", "on_response_complete"),
    *("send_400_response", "_unset_keepalive_if_required"),
)
ATTRIBUTES = (
    *("app", "cycle", "expect_100_continue", "flow", "headers", "loop", "parser", "pipeline", "root_path", "scope"),
    *("server_state", "timeout_keep_alive", "timeout_keep_alive_task", "transport"),
)
"""What there must be of uvicorn's protocol; an application sees neither."""


class ServerProtocol(_Protocol):  # type: ignore[misc]
    """uvicorn's side of a connection, as a base of ours.

    Undocumented is the whole class: uvicorn takes another one by its setting ``http``, and says nothing of how to
    derive one. Limits of time and size, and the short path of inference, stand on it. Seen in uvicorn 0.34 to 0.54.

    Attributes
    ----------
    cycle : object or None
        The request that is answered, or was last.
    parser : httptools.HttpRequestParser
    scope : dict
        ASGI's; has a ``path`` once the head is read.
    timeout_keep_alive_task : asyncio.TimerHandle or None
        What closes the connection of an idle client.
    """

    cycle: Any
    parser: Any

    end_keep_alive: Any = getattr(_Protocol, "_unset_keepalive_if_required", None)
    """Wait no longer for the client's next request."""


def missing() -> list[str]:
    """Parts that uvicorn's protocol lacks, which sets its attributes when a connection begins."""
    begins: list[Any] = [vars(part).get("__init__") for part in HttpToolsProtocol.__mro__]
    known = {name for begin in begins if hasattr(begin, "__code__") for name in begin.__code__.co_names}
    return [
        *(name for name in METHODS if not hasattr(HttpToolsProtocol, name)),
        *(name for name in ATTRIBUTES if name not in known),
    ]


def check_server() -> None:
    """Refuse a uvicorn that has another inside: a service without its limits would be open to anyone.

    Raises
    ------
    IncompatibleVersion
        If it lacks something.
    """
    lacking = missing()
    if lacking:
        raise incompatible("uvicorn", f"{', '.join(lacking)} of its protocol", "A service")
