"""What follows a run from the outside: it is told every event, and may ask the run to stop."""

from __future__ import annotations

from typing import Literal, Protocol

from maas_magics.api.events import Event


class Callback(Protocol):
    """A function of one event, or an object that is called like one.

    It gets a copy of every event of a run, in order, on a thread of the client, wherever the run itself
    takes place. It can change nothing about the run but ask it to stop, by answering ``"stop"``.
    One that raises is dropped with a warning, and the run goes on.
    """

    def __call__(self, event: Event, /) -> Literal["stop"] | None:
        """Take in an event."""
