"""The search itself: trial after trial on whichever backend, pruned, recorded, and the best one published."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from maas_magics.api.backend import Backend, Job
from maas_magics.api.errors import Diverged, MaasError, ServiceError, Stopped, StoreError, TrainingError
from maas_magics.api.events import EpochEnd, Event, Finished, Message, Progress, Started
from maas_magics.api.requests import TrainRequest
from maas_magics.api.results import TrainedModel
from maas_magics.api.space import Space, with_values
from maas_magics.api.sweep import CANDIDATE, SweepResult, Trial
from maas_magics.callbacks import Listen
from maas_magics.sweeps.outcome import publish_best, table_of
from maas_magics.sweeps.race import Race, latency_of
from maas_magics.sweeps.study import RunningTrial, Study, TrialOutcome

REPORTS = 50
"""Most epochs of a trial that are compared with the others'."""

LONGEST = 80
"""Characters of the model's name in that of its candidates, which must be a name as well."""


class Search:
    """Trial after trial, until there are as many as are wanted or the sweep is stopped.

    Parameters
    ----------
    request : TrainRequest
        What every trial has in common.
    space : dict of str to Parameter
    trials : int
        How many there are to be in the end.
    backend : Backend
        Where the trials run.
    study : Study
        Their record.
    listen : callable
        Brings callbacks to each training.
    race : Race, optional
        The rules, where networks race: what drops one is then the time that it takes.
    notes : sequence of str
        What is said at the beginning.

    Attributes
    ----------
    metric : str
        Name of the metric that chooses: ``val_loss``, ``val_accuracy`` ….
    mode : {"min", "max"}
        Whether a smaller or a larger value is better.
    """

    def __init__(
        self,
        request: TrainRequest,
        space: Space,
        trials: int,
        backend: Backend,
        study: Study,
        listen: Listen,
        race: Race | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self._request, self._backend, self._study, self._listen = request, backend, study, listen
        self.space, self.wanted = space, trials
        self.id, self.name = study.id, request.name
        self.metric: str = study.noted("figure") or f"val_{request.monitor or 'loss'}"
        self.mode: Literal["min", "max"] = study.noted("mode") or "min"
        self._candidate = f"{request.name[:LONGEST]}{CANDIDATE}{study.id}"
        self._running: Trial | None = None
        self._job: Job[TrainedModel] | None = None
        self._stopped = False
        self._race, self._end_of_race, self._notes = race, math.inf, notes
        self._notify: Callable[[Event], None] = lambda event: None

    @property
    def word(self) -> str:
        """What it is called."""
        return "sweep" if self._race is None else "race"

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Trials so far, the one that runs last."""
        ended = tuple(outcome.trial for outcome in self._study.outcomes)
        running = self._running
        return ended if running is None else (*ended, running)

    @property
    def progress(self) -> Progress:
        """How many trials have ended, and how many there will be."""
        return Progress(done=len(self._study.outcomes), total=self.wanted, unit="trials")

    @property
    def best(self) -> Trial | None:
        """The best trial so far."""
        found = self._best()
        return None if found is None else found.trial

    def stop(self) -> None:
        """Drop the current trial, keep the others, and publish the best of them."""
        self._stopped = True
        job = self._job
        if job is not None:
            with contextlib.suppress(ServiceError):  # the one that follows the trial sees that the service is gone
                _drop(job)

    def run(self, notify: Callable[[Event], None]) -> SweepResult:
        """Search, in this thread.

        Parameters
        ----------
        notify : callable
            Gets every event of the search.

        Raises
        ------
        Stopped
            If it was stopped before a trial had ended.
        TrainingError
            If there is nothing to publish.
        """
        self._notify = notify
        for text in self._notes:
            notify(Message(text=text))
        if self._race is not None and self._race.seconds is not None:
            self._end_of_race = time.monotonic() + self._race.seconds
        try:
            for asked in self._study.left_running():
                self._taken_up(asked)
            while len(self._study.outcomes) < self.wanted and not self._over():
                asked = self._study.ask()
                if not self._repeated(asked):
                    self._trial(asked)
            return self._published()
        finally:
            self._running = self._job = None
            del self._request  # the rows belong to the caller; the sweep may be kept for its trials

    def _over(self) -> bool:
        """Whether no further trial begins."""
        return self._stopped or (bool(self._study.outcomes) and time.monotonic() > self._end_of_race)

    def _repeated(self, asked: RunningTrial) -> bool:
        """Whether an earlier trial had the same values; its metric is taken over."""
        found = self._study.same(asked)
        if found is None:
            return False
        outcome, reports = found
        for epoch, value in reports.items():
            asked.report(epoch, value)
        trial = msgspec.structs.replace(outcome.trial, number=asked.number, seconds=0.0)
        self._end(asked, TrialOutcome(trial=trial, ref=outcome.ref))
        return True

    def _trial(self, asked: RunningTrial) -> None:
        """Run one trial to its end."""
        self._running = Trial(number=asked.number, params=asked.values)
        best = self._best()
        request = msgspec.structs.replace(
            with_values(self._request, asked.values),
            name=self._candidate,
            better_than=None if best is None or self._race is not None else best.trial.value,
        )
        try:
            self._job = job = self._listen(request, self._backend.submit(request))
            asked.runs(job.info.id)
            if self._stopped:
                _drop(job)
            outcome = self._followed(asked, job)
        except BaseException:
            self._end(asked, TrialOutcome(trial=msgspec.structs.replace(self._running, state="stopped")))
            raise
        self._end(asked, outcome)

    def _taken_up(self, asked: RunningTrial) -> None:
        """Follow a trial whose job continues though the process that requested it is gone; else it is run again."""
        self._running = Trial(number=asked.number, params=asked.values)
        try:
            self._job = job = self._backend.job(asked.job)
            outcome = self._followed(asked, job)
            again = outcome.trial.state == "failed"
        except Exception:
            again = True
        if again:
            outcome = TrialOutcome(trial=msgspec.structs.replace(self._running, state="stopped"))
        self._end(asked, outcome)

    def _followed(self, asked: RunningTrial, job: Job[TrainedModel]) -> TrialOutcome:
        """Watch a trial, prune it if it is behind, and return how it ended."""
        assert self._running is not None
        trial, started, pruned, ended = self._running, Started(title=""), False, False
        for event in job.events():
            if not ended and trial.value is not None and time.monotonic() > self._end_of_race:
                ended = True
                job.stop()  # its best epoch so far counts
            match event:
                case Started():
                    started = event
                    self._choose(event)
                case EpochEnd() if not pruned:
                    trial, value = self._seen(trial, event, started)
                    self._running = trial
                    # Every epoch in turn, however late it arrives: the same seed must prune the same trials.
                    if event.epoch % max(1, started.epochs // REPORTS) == 0:
                        asked.report(event.epoch, value)
                    pruned = self._behind(asked, trial, event, started)
                    if pruned:
                        _drop(job)
                case Message(level="warning") if asked.number == 1 or "callback" in event.text:
                    self._notify(event)
                case Finished():
                    trial = msgspec.structs.replace(trial, seconds=max(0.0, event.time - (started.time or event.time)))
        if pruned:
            with contextlib.suppress(MaasError):
                self._forget(job.result())
            return TrialOutcome(trial=msgspec.structs.replace(trial, state="pruned"))
        return self._ended(trial, job)

    def _behind(self, asked: RunningTrial, trial: Trial, end: EpochEnd, started: Started) -> bool:
        """Whether a trial is dropped after an epoch."""
        if self._race is not None:
            return self._race.lost(trial, end.seconds, self.best, self.mode)
        return end.epoch % max(1, started.epochs // REPORTS) == 0 and asked.behind(started.epochs)

    def _ended(self, trial: Trial, job: Job[TrainedModel]) -> TrialOutcome:
        try:
            model = job.result()
        except Exception as error:
            if isinstance(error, Stopped) and self._over():
                return TrialOutcome(trial=msgspec.structs.replace(trial, state="stopped"))
            grave = isinstance(error, (ServiceError, StoreError))
            if isinstance(error, Diverged):
                state: Any = "diverged"
            elif grave or not any(outcome.trial.state == "done" for outcome in self._study.outcomes):
                raise  # it is not a matter of this trial's values
            else:
                state = "failed"
            text = error.message if isinstance(error, MaasError) else f"{type(error).__name__}: {error}"
            return TrialOutcome(trial=msgspec.structs.replace(trial, state=state, error=text[:500]))
        if self._stopped and model.stopped:
            self._forget(model)
            return TrialOutcome(trial=msgspec.structs.replace(trial, state="stopped"))
        if trial.value is None or not math.isfinite(trial.value):
            return TrialOutcome(trial=msgspec.structs.replace(trial, state="failed", error="Its metric is not finite."))
        data = model.info.lineage.get("data", "")
        before = self._study.noted("data")
        if before is None:
            self._study.note("data", data)
        elif data != before:
            raise TrainingError(
                "The data has changed since the sweep began, so its trials cannot be compared.", "Drop --resume."
            )
        ref = model.ref if model.info.version else ""
        if self._race is not None and ref:
            record = self._backend.models.record(ref)
            trial = msgspec.structs.replace(trial, bytes=record.bytes, latency=latency_of(ref, self._backend))
        return TrialOutcome(trial=msgspec.structs.replace(trial, state="done"), ref=ref)

    def _forget(self, model: TrainedModel) -> None:
        """Remove what a dropped trial published, having seen the first request to stop before the second."""
        if model.info.version:
            with contextlib.suppress(MaasError):
                self._backend.models.delete(model.ref)

    def _choose(self, started: Started) -> None:
        self.mode = started.mode
        if self._study.noted("mode") is None:
            self._study.note("mode", started.mode)

    def _seen(self, trial: Trial, end: EpochEnd, started: Started) -> tuple[Trial, float]:
        """The trial after one more epoch, and that epoch's metric turned so that smaller is better."""
        held = end.validation or end.train
        figure = held.get(started.monitor, end.train["loss"])
        name = f"{'val_' if end.validation else ''}{started.monitor}"
        if self._study.noted("figure") is None:
            self.metric = name
            self._study.note("figure", name)
        best = figure if end.best else trial.value
        return msgspec.structs.replace(trial, epochs=end.epoch, value=best), self._turned(figure)

    def _turned(self, figure: float) -> float:
        return figure if self.mode == "min" else -figure

    def _end(self, asked: RunningTrial, outcome: TrialOutcome) -> None:
        figure = outcome.trial.value
        self._study.tell(asked, outcome, None if figure is None else self._turned(figure))
        self._running = self._job = None
        if outcome.trial.state in ("failed", "diverged"):
            self._notify(Message(text=f"trial {asked.number} {outcome.trial.state}: {outcome.trial.error}"))
        self._notify(self.progress)

    def _best(self) -> TrialOutcome | None:
        done = [outcome for outcome in self._study.outcomes if outcome.trial.state == "done" and outcome.ref]
        return min(done, key=lambda outcome: self._turned(outcome.trial.value or 0.0), default=None)

    def _published(self) -> SweepResult:
        """Publish the best trial, unless that was done before."""
        best = self._best()
        if best is None:
            if self._stopped:
                raise Stopped(
                    "The sweep was stopped before a trial ended; nothing was published.", "--resume continues it."
                )
            raise TrainingError("No trial ended with a metric.", "Sweep smaller learning rates.")
        model = publish_best(self._study, best, self.name, self._backend)
        if self._race is not None:  # those that ended after another one was published
            with contextlib.suppress(MaasError):
                self._backend.models.delete(self._candidate)
        trials = self.trials
        return SweepResult(
            model=model,
            best=best.trial,
            trials=trials,
            monitor=self.metric,
            mode=self.mode,
            table=table_of(trials, self.metric),
            stopped=self._stopped and len(trials) < self.wanted,
        )


def _drop(job: Job[Any]) -> None:
    """Stop a job with nothing kept."""
    job.stop()
    job.stop()
