"""The kernel's shell channel, and a kernel that has none. The real one is in `test_view_busy`."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

from ipykernel.comm.comm import BaseComm
from ipykernel.kernelbase import Kernel

from maas_magics.widgets.compat import ShellChannel, answer_where_asked


def test_a_kernel_without_such_a_thread_stays_as_it_is() -> None:
    async def receive(message: object) -> None:
        raise AssertionError(message)

    assert ShellChannel(SimpleNamespace(shell_stream=object())).intercept(receive) is False


def test_the_names_are_those_of_this_kernel() -> None:
    """All or none: half of them would be a kernel that reads messages in a way that nobody knows."""
    names = ("shell_channel_thread", "shell_channel_thread_main", "_main_asyncio_lock")
    source = inspect.getsource(Kernel)
    assert len({f" {name}" in source or hasattr(Kernel, name) for name in names}) == 1


def test_clicks_go_where_the_page_asked() -> None:
    comm = BaseComm.__new__(BaseComm)
    known = hasattr(comm, "_reply_subshell_for")
    answer_where_asked(comm)
    assert not known or comm._reply_subshell_for({"content": {"id": "1"}}, "chosen") == "chosen"
    plain = SimpleNamespace()
    answer_where_asked(plain)
    assert vars(plain) == {}
