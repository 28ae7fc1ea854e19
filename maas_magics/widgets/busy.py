"""A page that is opened while a cell runs gets its live view, and its messages are read.

Such a page requests the kernel's name, its comms and their states, and all of that waits for the
running cell. From version 7 on, ipykernel reads messages on a thread of its own and knows subshells: while a view is
live, these few messages go to a subshell of ours, as the page itself requests once it knows the kernel.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from maas_magics.widgets.compat import ShellChannel

QUESTIONS = ("kernel_info_request", "comm_info_request")
COMMS = ("comm_open", "comm_msg", "comm_close")

CONTROL = "jupyter.widget.control"
"""Target of the comm over which a page requests the states of all widgets."""

_live: set[str] = set()
_pages: set[str] = set()
_hooks: list[_Hook] = []


def opened(comm: str) -> None:
    """From now on a live view has this comm; called in a cell."""
    from IPython import get_ipython

    _live.add(comm)
    if not _hooks:
        _hooks.append(_Hook(get_ipython().kernel))


def closed(comm: str) -> None:
    """The view is live no more."""
    _live.discard(comm)


class _Hook:
    """Looks at each message for the shell on the thread that reads them; a kernel without one stays as it is.

    Parameters
    ----------
    kernel : ipykernel.kernelbase.Kernel
    """

    def __init__(self, kernel: Any) -> None:
        self._session = kernel.session
        self._subshell = ""
        self._channel = ShellChannel(kernel)
        self._channel.intercept(self._receive)

    async def _receive(self, message: Any) -> None:
        with suppress(Exception):  # what cannot be read, or not be sent elsewhere, waits as it would without us
            if _live and self._channel.is_busy:
                message = self._readdressed(message)
        await self._channel.pass_on(message)

    def _readdressed(self, message: Any) -> Any:
        """The message, with our subshell's name in it if it must not wait."""
        session = self._session
        senders, parts = session.feed_identities(message, copy=False)
        header = session.deserialize(parts, content=False, copy=False)["header"]
        kind = header["msg_type"]
        if header.get("subshell_id") is not None or kind not in (*QUESTIONS, *COMMS):
            return message
        read = session.deserialize(parts, content=True, copy=False)
        if kind in COMMS and not _is_ours(kind, read["content"]):
            return message
        if not self._subshell:
            self._subshell = self._channel.new_subshell()
        read["header"]["subshell_id"] = self._subshell
        frame = type(message[0])
        return [frame(part) for part in (*session.serialize(read, senders), *read["buffers"])]


def _is_ours(kind: str, content: dict[str, Any]) -> bool:
    """Whether a comm is a live view's, or one that requests all states."""
    comm = content["comm_id"]
    if kind == "comm_open" and content.get("target_name") == CONTROL:
        _pages.add(comm)
    ours = comm in _pages or comm in _live
    if kind == "comm_close":
        _pages.discard(comm)
    return ours
