"""Loads the magics into an IPython shell, and takes them away."""

from __future__ import annotations

from typing import Any

from maas_magics.magics import register, unregister
from maas_magics.session import current


def load(shell: Any) -> None:
    """Register the magics and their completion."""
    register(shell, current())


def unload(shell: Any) -> None:
    """Take the magics and their completion away."""
    unregister(shell)
