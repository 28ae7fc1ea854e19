"""What a running job reports: frozen values with a sequence number and a time.

An event never holds a live model, optimizer or loader, so it can be stored, sent
over a wire and replayed. ``decode`` is the inverse of ``encode``.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

State = Literal["queued", "running", "paused", "succeeded", "failed", "stopped"]
Level = Literal["info", "warning"]

FINAL_STATES: frozenset[str] = frozenset({"succeeded", "failed", "stopped"})


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="type"):
    """Fields every event has.

    Attributes
    ----------
    seq : int
        Position in the job's log, counted from 1 without gaps.
    time : float
        Seconds since the Unix epoch at which it happened.
    """

    seq: int = 0
    time: float = 0.0


class Started(_Event, frozen=True, kw_only=True):
    """The job began to run.

    Attributes
    ----------
    title : str
        What runs, for display: ``"train penguins"``.
    epochs, steps_per_epoch : int
        Most epochs that will run, and optimizer steps in each; 0 if the job counts neither.
    samples : int
        Training rows seen in one epoch.
    parameters : int
        Trainable parameters.
    monitor : str
        Name of the validation metric that chooses the best epoch.
    mode : {"min", "max"}
        Whether a smaller or a larger ``monitor`` is better.
    summary : dict of str to str
        What was chosen: task, architecture, optimizer, device …
    """

    title: str
    epochs: int = 0
    steps_per_epoch: int = 0
    samples: int = 0
    parameters: int = 0
    monitor: str = "loss"
    mode: Literal["min", "max"] = "min"
    summary: dict[str, str] = msgspec.field(default_factory=dict, name="facts")  # as 0.1 wrote it


class Step(_Event, frozen=True, kw_only=True):
    """Progress inside an epoch, at most a few dozen times a second.

    Attributes
    ----------
    step : int
        Optimizer steps done since the start of the job.
    epoch : int
        Current epoch, counted from 1.
    loss : float
        Mean training loss since the previous ``Step`` or ``EpochEnd``.
    samples : int
        Training rows seen since the start of the job.
    """

    step: int
    epoch: int
    loss: float
    samples: int


class EpochEnd(_Event, frozen=True, kw_only=True):
    """An epoch was trained and validated.

    Attributes
    ----------
    epoch, step, samples : int
        Epochs, optimizer steps and training rows done so far.
    train : dict of str to float
        Metrics of the training rows; always has ``loss``.
    validation : dict of str to float
        Metrics of the validation rows; empty when there are none.
    baseline : dict of str to float
        Metrics of always answering the mean, or the most frequent label, to the validation rows.
    lr : float
        Learning rate of the first parameter group at the epoch's last step.
    seconds : float
        Wall time since the job started.
    best : bool
        Whether this is the best epoch so far.
    """

    epoch: int
    step: int
    samples: int
    train: dict[str, float]
    validation: dict[str, float] = {}
    baseline: dict[str, float] = {}
    lr: float = 0.0
    seconds: float = 0.0
    best: bool = False


class Resumed(_Event, frozen=True, kw_only=True):
    """The job resumes from a checkpoint; what it reported of later steps is reported again.

    Attributes
    ----------
    epoch : int
        Epoch it stands in, counted from 1.
    step, samples : int
        Optimizer steps and training rows done.
    best_epoch, best_step : int
        The best epoch before, which another job may have reported, and its last step; 0 when there is none.
    train, validation, baseline : dict of str to float
        Its metrics, as its `EpochEnd` reported them.
    """

    epoch: int
    step: int
    samples: int
    best_epoch: int = 0
    best_step: int = 0
    train: dict[str, float] = {}
    validation: dict[str, float] = {}
    baseline: dict[str, float] = {}

    @property
    def best(self) -> EpochEnd | None:
        """The best epoch before."""
        if not self.best_epoch:
            return None
        return EpochEnd(
            epoch=self.best_epoch,
            step=self.best_step,
            samples=0,
            train=self.train,
            validation=self.validation,
            baseline=self.baseline,
            best=True,
        )


class Paused(_Event, frozen=True, kw_only=True):
    """The job keeps its state on disk and waits until it is resumed."""


class CheckpointSaved(_Event, frozen=True, kw_only=True):
    """Resumable state of this epoch and step reached the disk."""

    epoch: int
    step: int


class Progress(_Event, frozen=True, kw_only=True):
    """Progress of work that is not one training: rows predicted, bytes moved, trials of a sweep.

    Attributes
    ----------
    done, total : int
        ``total`` is 0 while it is unknown.
    unit : str
        Plural noun: ``"rows"``, ``"bytes"``, ``"trials"``.
    """

    done: int
    total: int = 0
    unit: str = "rows"


class Message(_Event, frozen=True, kw_only=True):
    """One sentence for the user."""

    text: str
    level: Level = "info"


class RateSearch(_Event, frozen=True, kw_only=True):
    """A learning rate was found before the first step, on steps that were undone.

    Attributes
    ----------
    rates, losses : tuple of float
        Rate and smoothed loss of each step that was tried.
    chosen : float
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    chosen: float


class Profiled(_Event, frozen=True, kw_only=True):
    """Where the time of a training went.

    Attributes
    ----------
    seconds : dict of str to float
        Of the whole training, by part.
    steps : int
        Optimizer steps that were timed.
    advice : str
        One sentence about what would help most.
    """

    seconds: dict[str, float]
    steps: int
    advice: str


class Samples(_Event, frozen=True, kw_only=True):
    """What a network draws of the same captions, and from the same noise, or writes, while it learns.

    Attributes
    ----------
    epoch : int
        Epochs that were trained.
    titles : tuple of str
        Captions of the pictures.
    images : tuple of bytes
        A PNG file for each.
    texts : tuple of str
        What it wrote.
    """

    epoch: int
    titles: tuple[str, ...] = ()
    images: tuple[bytes, ...] = ()
    texts: tuple[str, ...] = ()


class Finished(_Event, frozen=True, kw_only=True):
    """The last event of every job.

    Attributes
    ----------
    state : {"succeeded", "failed", "stopped"}
    error : str or None
        Short text of the error, for a failed job.
    best_epoch : int
        Epoch whose weights were kept; 0 when there is none.
    seconds : float
        Wall time of the training, pauses left out; 0 where it was none.
    """

    state: State
    error: str | None = None
    best_epoch: int = 0
    seconds: float = 0.0


Event = (
    Started
    | Resumed
    | Paused
    | Step
    | EpochEnd
    | CheckpointSaved
    | Progress
    | Message
    | RateSearch
    | Profiled
    | Samples
    | Finished
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def encode(event: Event) -> bytes:
    """Event as MessagePack bytes, which keep NaN and infinite values as they are.

    Parameters
    ----------
    event : Event
        The event.
    """
    return _encoder.encode(event)


def decode(data: bytes) -> Event:
    """Event from the bytes that `encode` made.

    Parameters
    ----------
    data : bytes
        One event as MessagePack.
    """
    return _decoder.decode(data)


def encode_json(event: Event) -> bytes:
    """Event as one line of JSON; NaN and infinite values are written as text, since JSON does not have them.

    Parameters
    ----------
    event : Event
        The event.
    """
    return msgspec.json.encode(_told(msgspec.to_builtins(event)))


def decode_json(data: bytes | str) -> Event:
    """Event from the line that `encode_json` made.

    Parameters
    ----------
    data : bytes or str
        One event as JSON.
    """
    event: Event = msgspec.convert(msgspec.json.decode(data), Event, strict=False)
    return event


def _told(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _told(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_told(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
