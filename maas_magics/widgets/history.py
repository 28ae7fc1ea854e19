"""What a job's events add up to: curves, state, speed, time left, best epoch. No display, no clock of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

from maas_magics.api.events import (
    CheckpointSaved,
    EpochEnd,
    Event,
    Finished,
    Message,
    Paused,
    Profiled,
    Progress,
    RateSearch,
    Resumed,
    Samples,
    Started,
    State,
    Step,
)
from maas_magics.widgets.curves import Curve, Point

WINDOW = 10.0
"""Seconds over which the present speed is measured."""

MESSAGES = 1000
"""Messages that are kept; a job that says more has its oldest ones dropped."""


class History:
    """The sum of a job's events up to ``seq``.

    Events that were already added are ignored, so a log can be replayed over a live stream.
    Every duration is a difference of event times: the same log gives the same history anywhere.

    Attributes
    ----------
    seq : int
        Sequence number of the last event added.
    state : State
    title : str
    started : Started or None
    step, epoch, samples : int
        Optimizer steps and rows done; ``epoch`` is the current one, counted from 1.
    loss : float
        Latest training loss.
    last, best : EpochEnd or None
        Latest and best epoch so far.
    progress : Progress or None
    messages : deque of Message
    search : RateSearch or None
    profile : Profiled or None
    drawn : Samples or None
        The newest pictures.
    baseline : dict of str to float
        Metrics of a constant answer to the validation rows.
    finished : Finished or None
    curves : dict of str to Curve
        By name: ``"step/loss"``, ``"train/loss"``, ``"validation/accuracy"`` …; x counts steps.
    raises : bool
        Whether the caller raises a failed job's error, so that the display need not repeat it.
    revision : int
        Grows with whatever the user should see at once: an epoch's end, a message, a change of state.
    """

    def __init__(self, title: str = "") -> None:
        self.seq = 0
        self.state: State = "queued"
        self.title = title
        self.started: Started | None = None
        self.step = self.epoch = self.samples = 0
        self.loss = float("nan")
        self.last: EpochEnd | None = None
        self.best: EpochEnd | None = None
        self.progress: Progress | None = None
        self.messages: deque[Message] = deque(maxlen=MESSAGES)
        self.search: RateSearch | None = None
        self.profile: Profiled | None = None
        self.drawn: Samples | None = None
        self.baseline: dict[str, float] = {}
        self.finished: Finished | None = None
        self.curves: dict[str, Curve] = {}
        self.raises = False
        self.revision = 0
        self._time = 0.0
        self._bests: deque[EpochEnd] = deque(maxlen=MESSAGES)
        self._marks: deque[tuple[float, int, int]] = deque()

    @classmethod
    def of(cls, events: Iterable[Event], title: str = "") -> History:
        """History of a log, or of any beginning of one."""
        history = cls(title)
        for event in events:
            history.add(event)
        return history

    def add(self, event: Event) -> None:
        """Take in the next event."""
        if event.seq and event.seq <= self.seq:
            return
        self.seq = event.seq or self.seq + 1
        self._time = max(self._time, event.time)
        match event:
            case Started():
                if self.started is not None:  # begun anew in another process
                    event = msgspec.structs.replace(event, time=self.started.time)
                self.started, self.title, self.state = event, event.title, "running"
                self.progress = None  # what came before it
                self._back(event.time, 0, 0, 0)
            case Paused():
                self.state = "paused"
            case Resumed():
                self.state = "running"
                self._back(event.time, event.epoch, event.step, event.samples)
                if event.best is not None and (self.best is None or self.best.epoch != event.best.epoch):
                    self.best = event.best  # of a job before this one
                    self.baseline = event.best.baseline or self.baseline
                    self._bests.append(event.best)
            case Step():
                self.epoch, self.loss = event.epoch, event.loss
                self._advance(event.time, event.step, event.samples)
                self._curve("step/loss").add(event.step, event.loss)
            case EpochEnd():
                self._end_epoch(event)
            case Progress():
                self.progress = event
                self._advance(event.time, event.done, event.done)
            case Message():
                self.messages.append(event)
            case RateSearch():
                self.search = event
            case Profiled():
                self.profile = event
            case Samples():
                self.drawn = event
            case Finished():
                self.finished, self.state = event, event.state
            case CheckpointSaved():
                return
        if not isinstance(event, Step | Progress):
            self.revision += 1

    def _back(self, time: float, epoch: int, step: int, samples: int) -> None:
        """Go back to a step, as a job does that was killed and resumes from its checkpoint."""
        self.epoch, self.step, self.samples = epoch, step, samples
        self._marks = deque([(time, step, samples)])
        while self._bests and self._bests[-1].step > step:
            self._bests.pop()
        self.best = self._bests[-1] if self._bests else None
        if self.last is not None and self.last.step > step:
            self.last = self.best
        for curve in self.curves.values():
            curve.cut(step)

    def _end_epoch(self, event: EpochEnd) -> None:
        self.last, self.epoch = event, event.epoch
        self.baseline = event.baseline or self.baseline
        self.loss = event.train.get("loss", self.loss)
        if event.best:
            self.best = event
            self._bests.append(event)
        self._advance(event.time, event.step, event.samples)
        for part, figures in (("train", event.train), ("validation", event.validation)):
            for name, value in figures.items():
                self._curve(f"{part}/{name}").add(event.step, value)

    def _curve(self, name: str) -> Curve:
        return self.curves.setdefault(name, Curve())

    def _advance(self, time: float, step: int, samples: int) -> None:
        self.step, self.samples = max(self.step, step), max(self.samples, samples)
        marks = self._marks
        # A mark every quarter of a second is fine enough, and bounds them however often events come.
        if not marks or time - marks[-1][0] >= WINDOW / 40:
            marks.append((time, self.step, self.samples))
        while len(marks) > 2 and marks[1][0] <= time - WINDOW:
            marks.popleft()

    @property
    def refused(self) -> bool:
        """Whether the job failed before it began, and the caller's error says all there is to say."""
        return self.raises and self.state == "failed" and self.started is None and self.progress is None

    @property
    def error(self) -> str:
        """A failed job's error, unless the caller raises it."""
        return "" if self.raises or self.finished is None else self.finished.error or ""

    @property
    def final(self) -> bool:
        """Whether the job is over."""
        return self.finished is not None

    @property
    def warnings(self) -> Iterator[str]:
        """Texts of the warnings, oldest first."""
        return (message.text for message in self.messages if message.level == "warning")

    @property
    def seconds(self) -> float:
        """Seconds between the start and the latest event; of a training that is over, what its result says."""
        if self.finished is not None and self.finished.seconds:
            return self.finished.seconds
        return self._time - self.started.time if self.started else 0.0

    @property
    def rate(self) -> float:
        """Rows a second: of the last moments while it runs, of the whole once it is over; 0 if unknown."""
        if self.final:
            busy = self.last.seconds if self.last and self.last.seconds else self.seconds
            return self.samples / busy if busy > 0 else 0.0
        return 0.0 if self.state == "paused" else self._speed(2)

    def _speed(self, column: int) -> float:
        if len(self._marks) < 2:
            return 0.0
        first, last = self._marks[0], self._marks[-1]
        span = last[0] - first[0]
        return (last[column] - first[column]) / span if span > 0 else 0.0

    @property
    def total(self) -> int:
        """Steps, or units of `Progress`, that the whole job has; 0 if unknown."""
        if self.started and self.started.epochs and self.started.steps_per_epoch:
            return self.started.epochs * self.started.steps_per_epoch
        return self.progress.total if self.progress else 0

    @property
    def fraction(self) -> float | None:
        """Share of the job that is done, or None if that is unknown."""
        if self.state == "succeeded":
            return 1.0
        return min(1.0, self.step / self.total) if self.total else None

    @property
    def left(self) -> float | None:
        """Seconds until the last epoch ends at the present speed, or None if that is unknown."""
        if self.final or self.state == "paused" or not self.total or self.seconds < 0.5 or not self.step:
            return None
        # The window may hold no step while a long validation runs; the mean over the whole job always does.
        speed = self._speed(1) or self.step / self.seconds
        return max(0.0, (self.total - self.step) / speed)

    @property
    def best_epoch(self) -> int:
        """Epoch whose weights are kept; 0 if there is none."""
        if self.finished and self.finished.best_epoch:
            return self.finished.best_epoch
        return self.best.epoch if self.best else 0

    @property
    def metrics(self) -> list[str]:
        """Metrics besides the loss that have a curve, the monitored one first."""
        names = dict.fromkeys(name.split("/", 1)[1] for name in self.curves)
        monitor = self.started.monitor if self.started else "loss"
        return sorted((name for name in names if name != "loss"), key=lambda name: name != monitor)

    def points(self, curve: str) -> list[Point]:
        """Points of a curve; empty if there is no such curve."""
        return self.curves[curve].points if curve in self.curves else []
