"""The notebook's kernel in which this code runs, if it does."""

from __future__ import annotations

import sys
from typing import Any


def in_kernel() -> bool:
    """Whether this code runs in a notebook's kernel."""
    return hasattr(_shell(), "kernel")


def kernel_ends() -> bool:
    """Whether the kernel in which this runs got a request to end."""
    return bool(getattr(_shell(), "exit_now", False))


def _shell() -> Any:
    """IPython's shell; None without one. A process that never imported IPython does not pay for the import."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None
