"""A training that ends after some time, as if it were stopped gracefully then."""

from __future__ import annotations

import time
from collections.abc import Callable

from maas_magics.core.context import Stopping


class TimeLimit:
    """Whether to stop: as the caller wishes, and once time is up, after a step at least.

    The time begins with the training, or with what continues it.

    Parameters
    ----------
    stopping : callable
        What the caller wishes.
    seconds : float
        From now on.
    notify : callable
        Gets a sentence when time is up.
    """

    def __init__(self, stopping: Callable[[], Stopping], seconds: float, notify: Callable[[str], None]) -> None:
        self._stopping, self._notify, self._seconds = stopping, notify, seconds
        self._until = time.monotonic() + seconds
        self._begun = self._over = False

    def __call__(self) -> Stopping:
        """``"soft"`` once time is up, unless the caller wishes something else."""
        wish = self._stopping()
        if wish or not self._begun:
            self._begun = True
            return wish
        if time.monotonic() < self._until:
            return ""
        if not self._over:
            self._over = True
            self._notify(f"The budget of {self._seconds:g} s is used up; the best so far is kept. --resume continues.")
        return "soft"
