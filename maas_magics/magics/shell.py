"""What a magic can use: the shell it was typed in, and the session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maas_magics.magics.scope import Scope
from maas_magics.magics.words import Names

if TYPE_CHECKING:
    from maas_magics.session import Session


@dataclass(frozen=True)
class Magic:
    """Handed to every magic."""

    shell: Any
    session: Session
    scope: Scope

    @property
    def names(self) -> Names:
        """The variables where the magic stands."""
        return Names(self.scope.variables)

    def show(self, plain: str, html: str = "") -> None:
        """Display a text, as HTML where that can be shown."""
        from IPython.display import display

        display({"text/plain": plain, **({"text/html": html} if html else {})}, raw=True)  # type: ignore[no-untyped-call]
