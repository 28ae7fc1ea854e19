"""What a worker gets to know, and what it and the job's own process say to each other. Nothing is pickled."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from maas_magics.core.architectures import NetworkInputs
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.fit import restored
from maas_magics.core.training.steps.step_spec import StepSpec

ORDER, WEIGHTS, TRAIN, HELD, RESULT = (
    "order.json",
    "weights.safetensors",
    "train.safetensors",
    "held.safetensors",
    "result.safetensors",
)
NETWORK, LOSS = "network.zip", "loss.zip"
"""Modules as graphs; see `maas_magics.core.graphs.rebuild`."""

TARGET = "target"


class NamedNetwork(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A network by name."""

    architecture: str
    features: NetworkInputs
    params: dict[str, Any]


class SourceNetwork(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A network as the cell that makes it."""

    text: str
    inputs: int
    outputs: int


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a training goes, decided: what `Plan` holds, as plain values.

    Attributes
    ----------
    address, key : str
        Where the job's process listens, and the secret that both know.
    checkpoints : str
        Folder of the checkpoints.
    device : str
        Kind of device.
    threads : int or None
        As requested.
    least : int
        Rows that a share has at least where there are so many: batch statistics need two.
    network : NamedNetwork, SourceNetwork or None
        None for one that is there as its graphs.
    balance : bool
        Whether rows are drawn so that each label is equally likely.
    loss : str
        By name; empty for one that is there as its graphs.
    weights : list of float or None
        Weight of each class.
    task : dict
        As plain values.
    marks, chosen : dict
        Of the checkpoints.
    """

    address: str
    key: str
    checkpoints: str
    size: int
    shard: bool
    device: str
    threads: int | None
    wide: bool
    batch_size: int
    least: int
    network: NamedNetwork | SourceNetwork | None
    rules: StepSpec
    balance: bool
    loss: str
    weights: list[float] | None
    smoothing: float
    task: dict[str, Any]
    monitor: str
    mode: Literal["min", "max"]
    epochs: int
    patience: int
    seed: int
    checkpoint_every: str | None
    marks: dict[str, str]
    chosen: dict[str, Any]
    resume: bool

    @property
    def answers(self) -> Task:
        """The task."""
        return restored(self.task)


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The first word of a worker."""

    rank: int


class EventMessage(msgspec.Struct, frozen=True, tag=True):
    """An event, as `maas_magics.api.events.encode` makes it."""

    event: bytes


class Outputs(msgspec.Struct, frozen=True, tag=True):
    """Outputs for every held-out row, of which the job's process computes the metrics."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class Keeps(msgspec.Struct, frozen=True, tag=True):
    """A state is about to be written, once all events before it are written down."""


class Done(msgspec.Struct, frozen=True, tag=True):
    """Training has ended, and the best weights are written. ``history`` is a `History` as a dict."""

    history: dict[str, Any]


class WorkerSuspended(msgspec.Struct, frozen=True, tag=True):
    """The state is kept, as a wish to suspend requested."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """An error, as `maas_magics.api.wire.encode_error` makes it; another try would end the same."""

    error: bytes


class StopRequest(msgspec.Struct, frozen=True, tag=True):
    """A request to stop, suspend or save."""

    word: str


class Figures(msgspec.Struct, frozen=True, tag=True):
    """Metrics of the held-out rows."""

    values: dict[str, float]


class Written(msgspec.Struct, frozen=True, tag=True):
    """All events before `Keeps` are written down."""


class Over(msgspec.Struct, frozen=True, tag=True):
    """Nothing more is wanted of the worker."""


Said = Hello | EventMessage | Outputs | Keeps | Done | WorkerSuspended | Failed
Answered = StopRequest | Figures | Written | Over

_said: msgspec.msgpack.Decoder[Said] = msgspec.msgpack.Decoder(Said)
_answered: msgspec.msgpack.Decoder[Answered] = msgspec.msgpack.Decoder(Answered)


def say(line: Connection, what: Said | Answered) -> None:
    """Send a word."""
    line.send_bytes(msgspec.msgpack.encode(what))


def hear(line: Connection) -> Said:
    """The next word of a worker; EOFError when it is gone."""
    return _said.decode(line.recv_bytes())


def hear_back(line: Connection) -> Answered:
    """The next word of the job's process; EOFError when it is gone."""
    return _answered.decode(line.recv_bytes())


def packed(outputs: Tensor) -> Outputs:
    """Outputs as a word."""
    array = outputs.detach().float().cpu().numpy()
    return Outputs(str(array.dtype), array.shape, array.tobytes())


def unpacked(word: Outputs) -> Tensor:
    """The tensor of a word, float32 (rows, …)."""
    return torch.from_numpy(np.frombuffer(word.data, word.dtype).reshape(word.shape).copy())


def write_order(folder: Path, order: WorkerConfig) -> None:
    """Write what every worker reads."""
    (folder / ORDER).write_bytes(msgspec.json.encode(order))


def read_order(folder: Path) -> WorkerConfig:
    """What `write_order` wrote."""
    return msgspec.json.decode((folder / ORDER).read_bytes(), type=WorkerConfig)


def write_rows(file: Path, inputs: tuple[Tensor, ...], target: Tensor) -> None:
    """Write rows once for all workers, which map the file into memory."""
    rows = {f"input{i}": x for i, x in enumerate(inputs)} | {TARGET: target}
    save_file({name: x.detach().cpu().contiguous().clone() for name, x in rows.items()}, file)


def read_rows(file: Path, device: torch.device) -> tuple[tuple[Tensor, ...], Tensor]:
    """Inputs of the network and encoded target, mapped from the file on a CPU."""
    rows = load_file(file)
    return tuple(rows[f"input{i}"].to(device) for i in range(len(rows) - 1)), rows[TARGET].to(device)
