"""What is used of ipykernel's inside, and nowhere else in the widgets; imports nothing of it.

A kernel of another make, or version, without these parts works as it would without us: a page that is opened while a
cell runs gets its view when the cell is over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


def answer_where_asked(comm: Any) -> None:
    """Let clicks on a view reach the subshell that its page chose.

    Private is ``_reply_subshell_for`` of a comm: ipykernel 7.4.0 hands a click to the thread that last painted, which
    is busy training. Seen in 7.4.0 alone; versions before and after require no such thing of a comm.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, default: default


class ShellChannel:
    """The messages for a kernel's shell, on the thread that reads them.

    Undocumented are the kernel's ``shell_channel_thread``, ``shell_stream`` and ``shell_channel_thread_main``, private
    its ``_main_asyncio_lock`` and its manager's ``_create_subshell``. Seen in ipykernel 7.0 to 7.4; 6 has one thread
    for all.

    Parameters
    ----------
    kernel : ipykernel.kernelbase.Kernel
    """

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._thread = getattr(kernel, "shell_channel_thread", None)
        self._stream = getattr(kernel, "shell_stream", None)
        self._main: Callable[[Any], Awaitable[None]] | None = getattr(kernel, "shell_channel_thread_main", None)

    def intercept(self, receive: Callable[[Any], Awaitable[None]]) -> bool:
        """Have each message handed to a function on that thread, which then calls `pass_on`.

        Returns
        -------
        bool
            False for a kernel without such a thread, which stays as it is.
        """
        if self._thread is None or self._stream is None or self._main is None:
            return False
        self._thread.io_loop.add_callback(self._stream.on_recv, receive, copy=False)
        return True

    async def pass_on(self, message: Any) -> None:
        """What the kernel does with a message."""
        assert self._main is not None
        await self._main(message)

    @property
    def is_busy(self) -> bool:
        """Whether a cell runs.

        Raises
        ------
        AttributeError
            If this cannot be known.
        """
        return bool(self._kernel._main_asyncio_lock.locked())

    def new_subshell(self) -> str:
        """Name of a new subshell, which answers while a cell runs.

        Raises
        ------
        AttributeError
            If the kernel makes none.
        """
        return str(self._kernel.shell_channel_thread.manager._create_subshell())
