"""What follows a run from the outside: it gets every event, and may request that the run stops."""

from __future__ import annotations

from typing import Literal, Protocol

from maas_magics.api.events import Event


class Callback(Protocol):
    """A function of one event, or an object that is called like one.

    It gets a copy of every event of a run, in order, on a thread of the client, wherever the run itself
    takes place. It can change nothing about the run but stop it, by returning ``"stop"``.
    One that raises is dropped with a warning, and the run continues.
    """

    def __call__(self, event: Event, /) -> Literal["stop"] | None:
        """Take in an event."""
