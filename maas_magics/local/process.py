"""Whether a process that ran a job still lives."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any


def this_process() -> str:
    """Name of this process, which no other has."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def _started(pid: int) -> str:
    """When a process began, so that a number used again is not taken for the same process; "dead" for one that ended.

    One that ended stays in the table until its parent looks, which no one does where a container has no init.
    """
    try:
        with open(f"/proc/{pid}/stat") as file:
            told = file.read().rpartition(")")[2].split()
        return "dead" if told[0] in "ZX" else told[19]
    except (OSError, IndexError):
        return ""


def here(owner: str) -> int | None:
    """Number of a process that `this_process` named so; None for one of another machine."""
    host, _, rest = owner.rpartition(":")[0].rpartition(":")
    return int(rest) if host == socket.gethostname() else None


def alive(owner: str) -> bool:
    """Whether the process that `this_process` named so lives; on another machine no one can know, so yes."""
    host, pid, started = owner.rsplit(":", 2)
    if host != socket.gethostname():
        return True
    return _runs(int(pid)) and _started(int(pid)) == started


def _runs(pid: int) -> bool:
    if sys.platform == "win32":
        # os.kill would end it there.
        import ctypes

        kernel: Any = getattr(ctypes, "windll").kernel32  # noqa: B009  (there on Windows only)
        handle = kernel.OpenProcess(0x1000, False, pid)
        code = ctypes.c_ulong()
        kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        kernel.CloseHandle(handle)
        return bool(handle) and code.value == 259
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
