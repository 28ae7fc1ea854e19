"""How much memory is left."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

UNKNOWN = 4 * 2**30
"""Bytes taken to be free where the system does not report it."""

_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
        "total_inactive_file",
    ),
)
"""Files of the limit of a container and of what is used of it, and the part of that which is only a cache of files."""


def free_memory() -> int:
    """Bytes that a process may still take without swapping, a container's limit taken into account."""
    free = [found for found in (_machine(), *(_container(*files) for files in _LIMITS)) if found is not None]
    return max(0, min(free)) if free else UNKNOWN


def _machine() -> int | None:
    """What Linux says is free; of another system half of what it has."""
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    with suppress(OSError, ValueError, AttributeError):
        if sys.platform != "win32":
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return None


def _container(limit: str, used: str, statistics: str, cache: str) -> int | None:
    try:
        most, taken = int(Path(limit).read_text()), int(Path(used).read_text())
        lines = dict(line.split(maxsplit=1) for line in Path(statistics).read_text().splitlines())
        return most - taken + int(lines.get(cache, "0"))
    except (OSError, ValueError):  # no container, or "max"
        return None


def in_words(size: float) -> str:
    """Bytes for display."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
