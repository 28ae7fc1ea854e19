"""A sweep as a job: it runs in a thread of this process, and is followed, stopped and waited for as any other."""

from __future__ import annotations

import threading
import time
from typing import Literal

from maas_magics.api.backend import JobInfo
from maas_magics.api.errors import MaasError
from maas_magics.api.events import Started
from maas_magics.api.space import Space
from maas_magics.api.sweep import SweepResult, Trial
from maas_magics.job import LoggedJob
from maas_magics.sweeps.search import Search


class SweepJob(LoggedJob[SweepResult]):
    """A sweep that runs, or ran.

    Parameters
    ----------
    search : Search
        Has not begun yet.
    """

    def __init__(self, search: Search) -> None:
        title = f"{search.word} {search.name}"
        super().__init__(JobInfo(search.id, title, search.name, "running", time.time()))
        self._search = search
        self.emit(Started(title=title, summary={"parameters": ", ".join(search.space)}))
        self.emit(search.progress)
        run = threading.Thread(target=self.carry_out, args=(lambda: search.run(self.emit),), daemon=True)
        run.name = f"maas-sweep-{self.id}"
        run.start()

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Trials so far, the one that runs last."""
        return self._search.trials

    @property
    def space(self) -> Space:
        """Parameters that are swept."""
        return self._search.space

    @property
    def metric(self) -> str:
        """Name of the metric that chooses: ``val_loss``, ``val_accuracy`` …."""
        return self._search.metric

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether a smaller or a larger value is better."""
        return self._search.mode

    @property
    def best(self) -> Trial | None:
        """The best trial so far."""
        return self._search.best

    def stop(self) -> None:
        """Drop the current trial, keep the others, and publish the best of them."""
        self._search.stop()

    def pause(self) -> None:
        """A sweep is stopped, and resumed."""
        raise MaasError("A sweep cannot be paused.", "Stop it; --resume resumes it.")

    resume = pause
