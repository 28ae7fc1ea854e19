"""A sweep as a job: trial after trial on whichever backend, pruned, recorded, and the best one published."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from maas_magics.api.backend import Backend, Job, JobInfo
from maas_magics.api.errors import Diverged, MaasError, ServiceError, Stopped, StoreError, TrainingError
from maas_magics.api.events import FINAL_STATES, EpochEnd, Event, Finished, Message, Progress, Started
from maas_magics.api.requests import Request, TrainRequest
from maas_magics.api.results import TrainedModel
from maas_magics.api.space import Space, with_values
from maas_magics.api.sweep import CANDIDATE, SweepResult, Trial
from maas_magics.sweeps.outcome import publish_best, settings_of, table_of
from maas_magics.sweeps.study import Asked, Outcome, Study

REPORTS = 50
"""Most epochs of a trial that are compared with the others'."""

LONGEST = 80
"""Characters of the model's name in that of its candidates, which must be a name as well."""

Listen = Callable[[Request[Any], Job[Any]], Job[Any]]


class SweepJob:
    """A sweep that runs in a thread of this process, its trainings on the backend.

    Parameters
    ----------
    request : TrainRequest
    space : dict of str to Parameter
    trials : int
        How many there are to be in the end.
    backend : Backend
    file : Path
        Record of the sweeps of the model.
    place : str
        What tells the backend from others in the record.
    resume : bool
    listen : callable
        Brings callbacks to each training.
    """

    def __init__(
        self,
        request: TrainRequest,
        space: Space,
        trials: int,
        backend: Backend,
        file: Path,
        place: str,
        *,
        resume: bool,
        listen: Listen,
    ) -> None:
        self._request, self._backend, self._listen, self._wanted = request, backend, listen, trials
        self._space = space
        self._study = Study(file, space, settings_of(request, place), request.seed, resume=resume)
        self._candidate = f"{request.name[:LONGEST]}{CANDIDATE}{self._study.id}"
        self._figure: str = self._study.noted("figure") or f"val_{request.monitor or 'loss'}"
        self._mode: Literal["min", "max"] = self._study.noted("mode") or "min"
        self._running: Trial | None = None
        self._job: Job[TrainedModel] | None = None
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._stops = 0
        self._result: SweepResult | None = None
        self._error: BaseException | None = None
        title = f"sweep {request.name}"
        self._info = JobInfo(self._study.id, title, request.name, "running", time.time())
        self._emit(Started(title=title, facts={"parameters": ", ".join(space)}))
        self._emit(Progress(done=len(self._study.outcomes), total=trials, unit="trials"))
        threading.Thread(target=self._run, name=f"maas-sweep-{self.id}", daemon=True).start()

    @property
    def id(self) -> str:
        """The sweep's id."""
        return self._info.id

    @property
    def info(self) -> JobInfo:
        """Id, title, model and present state."""
        return self._info

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Trials so far, the one that runs last."""
        ended = tuple(outcome.trial for outcome in self._study.outcomes)
        running = self._running
        return ended if running is None else (*ended, running)

    @property
    def space(self) -> Space:
        """Parameters that are swept."""
        return self._space

    @property
    def figure(self) -> str:
        """Name of the figure that chooses: ``val_loss``, ``val_accuracy`` …."""
        return self._figure

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether a smaller or a larger figure is better."""
        return self._mode

    @property
    def best(self) -> Trial | None:
        """The best trial so far."""
        found = self._best()
        return None if found is None else found.trial

    def events(self, after: int = 0, follow: bool = True) -> Iterator[Event]:
        """Replay every event with ``seq > after``, and follow the rest until ``Finished`` unless told not to."""
        while True:
            with self._changed:
                while follow and len(self._events) <= after:
                    self._changed.wait(1.0)
                fresh = self._events[after:]
            yield from fresh
            after += len(fresh)
            if not follow or isinstance(fresh[-1], Finished):
                return

    def result(self, timeout: float | None = None) -> SweepResult:
        """Wait for the result; raises what ended the sweep."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._info.state in FINAL_STATES, timeout):
                raise TimeoutError(f"The sweep {self.id} is {self._info.state} after {timeout:g} s.")
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def stop(self) -> None:
        """Drop the trial in hand, keep the others, and publish the best of them."""
        self._stops += 1
        job = self._job
        if job is not None:
            with contextlib.suppress(ServiceError):  # whoever follows the trial sees that the service is gone
                _drop(job)

    def pause(self) -> None:
        """A sweep is stopped, and gone on with."""
        raise MaasError("A sweep cannot be paused.", "Stop it; --resume goes on with it.")

    resume = pause

    def __await__(self) -> Generator[Any, None, SweepResult]:
        return asyncio.to_thread(self.result).__await__()

    def __repr__(self) -> str:
        return f"<Job {self.id} · {self._info.title} · {self._info.state}>"

    # --- the running side ---

    def _emit(self, event: Event) -> None:
        with self._changed:
            self._events.append(msgspec.structs.replace(event, seq=len(self._events) + 1, time=time.time()))
            self._changed.notify_all()

    def _run(self) -> None:
        state: Any = "succeeded"
        try:
            self._result = self._search()
            state = "stopped" if self._result.stopped else "succeeded"
        except BaseException as error:
            self._error = error
            state = "stopped" if isinstance(error, Stopped) else "failed"
        self._running = self._job = None
        text = None if self._error is None else str(self._error) or type(self._error).__name__
        with self._changed:
            self._info = msgspec.structs.replace(self._info, state=state)
            self._emit(Finished(state=state, error=text))

    def _search(self) -> SweepResult:
        for asked in self._study.left_running():
            self._taken_up(asked)
        while len(self._study.outcomes) < self._wanted and not self._stops:
            asked = self._study.ask()
            if not self._repeated(asked):
                self._trial(asked)
        return self._published()

    def _repeated(self, asked: Asked) -> bool:
        """Whether an earlier trial had the same values; its figure is taken over."""
        found = self._study.same(asked)
        if found is None:
            return False
        outcome, reports = found
        for epoch, value in reports.items():
            asked.report(epoch, value)
        trial = msgspec.structs.replace(outcome.trial, number=asked.number, seconds=0.0)
        self._end(asked, Outcome(trial=trial, ref=outcome.ref))
        return True

    def _trial(self, asked: Asked) -> None:
        """Run one trial to its end."""
        self._running = Trial(number=asked.number, params=asked.values)
        best = self._best()
        request = msgspec.structs.replace(
            with_values(self._request, asked.values),
            name=self._candidate,
            better_than=None if best is None else best.trial.figure,
        )
        try:
            self._job = job = self._listen(request, self._backend.submit(request))
            asked.runs(job.info.id)
            if self._stops:
                _drop(job)
            outcome = self._followed(asked, job)
        except BaseException:
            self._end(asked, Outcome(trial=msgspec.structs.replace(self._running, state="stopped")))
            raise
        self._end(asked, outcome)

    def _taken_up(self, asked: Asked) -> None:
        """Follow a trial whose job goes on though the process that asked for it is gone; else it is run again."""
        self._running = Trial(number=asked.number, params=asked.values)
        try:
            self._job = job = self._backend.job(asked.job)
            outcome = self._followed(asked, job)
            again = outcome.trial.state == "failed"
        except Exception:
            again = True
        if again:
            outcome = Outcome(trial=msgspec.structs.replace(self._running, state="stopped"))
        self._end(asked, outcome)

    def _followed(self, asked: Asked, job: Job[TrainedModel]) -> Outcome:
        """Watch a trial, prune it if it is behind, and tell how it ended."""
        assert self._running is not None
        trial, started, pruned = self._running, Started(title=""), False
        for event in job.events():
            match event:
                case Started():
                    started = event
                    self._choose(event)
                case EpochEnd() if not pruned:
                    trial, value = self._seen(trial, event, started)
                    self._running = trial
                    # Every epoch in turn, however late it is heard: the same seed must prune the same trials.
                    if event.epoch % max(1, started.epochs // REPORTS) == 0:
                        asked.report(event.epoch, value)
                        pruned = asked.behind(started.epochs)
                        if pruned:
                            _drop(job)
                case Message(level="warning") if asked.number == 1 or "callback" in event.text:
                    self._emit(event)
                case Finished():
                    trial = msgspec.structs.replace(trial, seconds=max(0.0, event.time - (started.time or event.time)))
        if pruned:
            with contextlib.suppress(MaasError):
                self._forget(job.result())
            return Outcome(trial=msgspec.structs.replace(trial, state="pruned"))
        return self._ended(trial, job)

    def _ended(self, trial: Trial, job: Job[TrainedModel]) -> Outcome:
        try:
            model = job.result()
        except Exception as error:
            if self._stops and isinstance(error, Stopped):
                return Outcome(trial=msgspec.structs.replace(trial, state="stopped"))
            grave = isinstance(error, (ServiceError, StoreError))
            if isinstance(error, Diverged):
                state: Any = "diverged"
            elif grave or not any(outcome.trial.state == "done" for outcome in self._study.outcomes):
                raise  # it is no matter of this trial's values
            else:
                state = "failed"
            text = error.message if isinstance(error, MaasError) else f"{type(error).__name__}: {error}"
            return Outcome(trial=msgspec.structs.replace(trial, state=state, error=text[:500]))
        if self._stops and model.stopped:
            self._forget(model)
            return Outcome(trial=msgspec.structs.replace(trial, state="stopped"))
        if trial.figure is None or not math.isfinite(trial.figure):
            return Outcome(trial=msgspec.structs.replace(trial, state="failed", error="Its figure is no number."))
        data = model.info.lineage.get("data", "")
        before = self._study.noted("data")
        if before is None:
            self._study.note("data", data)
        elif data != before:
            raise TrainingError(
                "The data has changed since the sweep began, so its trials cannot be compared.", "Drop --resume."
            )
        ref = model.ref if model.info.version else ""
        return Outcome(trial=msgspec.structs.replace(trial, state="done"), ref=ref)

    def _forget(self, model: TrainedModel) -> None:
        """Remove what a dropped trial published, having heard the first wish to stop before the second."""
        if model.info.version:
            with contextlib.suppress(MaasError):
                self._backend.models.delete(model.ref)

    def _choose(self, started: Started) -> None:
        self._mode = started.mode
        if self._study.noted("mode") is None:
            self._study.note("mode", started.mode)

    def _seen(self, trial: Trial, end: EpochEnd, started: Started) -> tuple[Trial, float]:
        """The trial after one more epoch, and that epoch's figure turned so that smaller is better."""
        held = end.validation or end.train
        figure = held.get(started.monitor, end.train["loss"])
        name = f"{'val_' if end.validation else ''}{started.monitor}"
        if self._study.noted("figure") is None:
            self._figure = name
            self._study.note("figure", name)
        best = figure if end.best else trial.figure
        return msgspec.structs.replace(trial, epochs=end.epoch, figure=best), self._turned(figure)

    def _turned(self, figure: float) -> float:
        return figure if self._mode == "min" else -figure

    def _end(self, asked: Asked, outcome: Outcome) -> None:
        figure = outcome.trial.figure
        self._study.tell(asked, outcome, None if figure is None else self._turned(figure))
        self._running = self._job = None
        if outcome.trial.state in ("failed", "diverged"):
            self._emit(Message(text=f"trial {asked.number} {outcome.trial.state}: {outcome.trial.error}"))
        self._emit(Progress(done=len(self._study.outcomes), total=self._wanted, unit="trials"))

    def _best(self) -> Outcome | None:
        done = [outcome for outcome in self._study.outcomes if outcome.trial.state == "done" and outcome.ref]
        return min(done, key=lambda outcome: self._turned(outcome.trial.figure or 0.0), default=None)

    def _published(self) -> SweepResult:
        """Publish the best trial, unless that was done before."""
        best = self._best()
        if best is None:
            if self._stops:
                raise Stopped("The sweep was stopped before a trial ended; nothing was published.", "--resume goes on.")
            raise TrainingError("No trial ended with a figure.", "Sweep smaller learning rates.")
        model = publish_best(self._study, best, self._request.name, self._backend)
        trials = self.trials
        return SweepResult(
            model=model,
            best=best.trial,
            trials=trials,
            monitor=self._figure,
            mode=self._mode,
            table=table_of(trials, self._figure),
            stopped=bool(self._stops) and len(trials) < self._wanted,
        )


def _drop(job: Job[Any]) -> None:
    """Stop a job with nothing kept."""
    job.stop()
    job.stop()
