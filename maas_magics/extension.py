"""Loads the magics into an IPython shell, and takes them away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maas_magics.magics import register, unregister

if TYPE_CHECKING:
    from maas_magics.session import Session


def load(shell: Any) -> None:
    """Register the magics and their completion; the session is made when the first of them runs.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
        Shell that gets the magics.
    """
    register(shell, _session)


def _session() -> Session:
    from maas_magics.session import current

    return current()


def unload(shell: Any) -> None:
    """Take the magics and their completion away.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
        Shell that has the magics.
    """
    unregister(shell)
