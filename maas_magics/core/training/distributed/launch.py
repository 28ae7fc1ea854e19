"""The job's own process: hands a training to workers, passes on their events, and gets the weights back."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file
from torch import nn

from maas_magics.api.errors import ModelError, Suspended, TrainingError
from maas_magics.api.events import EpochEnd, Message, decode
from maas_magics.api.wire import decode_error
from maas_magics.core.batches.batches import InMemory
from maas_magics.core.batches.prepare import Prepared
from maas_magics.core.compat.modules import is_batch_norm
from maas_magics.core.context import Context
from maas_magics.core.graphs import rebuild as graphs
from maas_magics.core.model import save_weights
from maas_magics.core.store.storage import staging
from maas_magics.core.tracing import tracing_waits, yield_lock
from maas_magics.core.training.distributed import messages as words
from maas_magics.core.training.distributed.agent import Agent
from maas_magics.core.training.distributed.messages import NamedNetwork, SourceNetwork, WorkerConfig
from maas_magics.core.training.measure import baseline_of, figures_of
from maas_magics.core.training.plan import Plan, TrainingHistory
from maas_magics.core.training.specs import Resolved
from maas_magics.core.training.steps.step_spec import StepSpec

POLL = 0.05
"""Seconds between two looks for a wish to stop."""

TOUCH = 3600.0
"""Seconds between two signs that the folder is in use."""

ROWS = 8
"""Rows of the example that a module or a loss is traced with."""


@dataclass(frozen=True)
class Work:
    """A training, ready to be handed over.

    Attributes
    ----------
    said : Resolved
    architecture : str
        Name of a declared architecture; empty for a module of the user's.
    net : nn.Module
        Gets the best weights.
    prepared, train, held, plan
    device : str
        Kind of device that the workers use.
    rules : StepSpec
    weights : list of float or None
        Weight of each class.
    smoothing : float
    marks, chosen : dict
        Of the checkpoints.
    """

    said: Resolved
    architecture: str
    net: nn.Module
    prepared: Prepared
    train: InMemory
    held: InMemory | None
    plan: Plan
    device: str
    rules: StepSpec
    weights: list[float] | None
    smoothing: float
    marks: dict[str, str]
    chosen: dict[str, Any]


def fit_in_workers(work: Work, context: Context) -> TrainingHistory:
    """Train a network on several processes, and leave the weights of the best epoch in it.

    Raises
    ------
    MaasError
        Whatever `fit` raises, and where workers die again and again.
    """
    with staging(context.store.work) as folder:
        key = secrets.token_bytes(32)
        with Listener(authkey=key) as listener:
            _write(folder, work, context, str(listener.address), key)
            return _Watch(folder, work, context, listener, key).run()


def _write(folder: Path, work: Work, context: Context, address: str, key: bytes) -> None:
    said, run, loss = work.said, work.said.run, work.said.task.loss
    prepared, answers = work.prepared, work.prepared.answers
    network: NamedNetwork | SourceNetwork | None = None
    if work.architecture:
        network = NamedNetwork(
            architecture=work.architecture, features=prepared.processor.inputs, params=dict(said.model.params)
        )
    else:
        network = _send_module(folder, work)
    if callable(loss):
        _send_loss(folder, work)
    save_weights(work.net, folder / words.WEIGHTS)
    words.write_rows(folder / words.TRAIN, work.train.inputs, work.train.target)
    if work.held is not None:
        words.write_rows(folder / words.HELD, work.held.inputs, work.held.target)
    norms = any(is_batch_norm(part) for part in work.net.modules())
    order = WorkerConfig(
        address=address,
        key=key.hex(),
        checkpoints=str(context.checkpoints or folder / "checkpoints"),
        size=run.workers,
        shard=run.shard,
        device=work.device,
        threads=run.threads,
        wide=any(x.dim() > 2 for x in work.train.inputs),
        batch_size=work.train.batch_size,
        least=2 if norms else 1,
        network=network,
        rules=work.rules,
        balance=said.data.balance,
        loss="" if callable(loss) else loss,
        weights=work.weights,
        smoothing=work.smoothing,
        task=msgspec.to_builtins(answers),
        monitor=work.plan.monitor,
        mode=work.plan.mode,
        epochs=work.plan.epochs,
        patience=work.plan.patience,
        checkpoint_every=run.checkpoint_every,
        marks=work.marks,
        chosen=work.chosen,
        resume=bool(run.resume),
        seed=work.plan.seed,
    )
    words.write_order(folder, order)


def _send_module(folder: Path, work: Work) -> SourceNetwork | None:
    """A module as its graphs, or as the cell that makes it, where that ran in this process already."""
    model, regime = work.said.model, work.plan.regime
    data = getattr(work.net, "archive", None)
    try:
        if regime is not None and regime.freezing is not None and regime.freezing.holds:
            raise ModelError("a batch-norm in its graphs cannot be frozen.")
        data = data or graphs.pack(work.net, tuple(x[:ROWS] for x in work.train.inputs))
    except ModelError as error:
        if model.source and not isinstance(model.model, nn.Module):
            inputs = work.train.inputs[0][0].numel()
            return SourceNetwork(text=model.source, inputs=inputs, outputs=work.prepared.answers.outputs)
        raise ModelError(f"The module cannot go to workers: {error.message}", "--workers 1 trains it here.") from None
    (folder / words.NETWORK).write_bytes(data)
    return None


class _OwnLoss(nn.Module):
    """A loss of the user's as a module, to be traced."""

    def __init__(self, loss: Callable[..., Any]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = self.loss(outputs, target)
        return value


def _send_loss(folder: Path, work: Work) -> None:
    """A loss of the user's as its graph."""
    work.net.eval()
    with torch.no_grad():
        outputs = work.net(*(x[:ROWS] for x in work.train.inputs))
    try:
        data = graphs.pack(_OwnLoss(work.plan.loss), (outputs, work.train.target[:ROWS]))
    except ModelError as error:
        why = error.message.replace(_OwnLoss.__name__, "it")
        raise ModelError(f"The loss cannot go to workers: {why}", "--workers 1, or a loss by name.") from None
    (folder / words.LOSS).write_bytes(data)


class _Watch:
    """What the workers send, read in the job's thread."""

    def __init__(self, folder: Path, work: Work, context: Context, listener: Listener, key: bytes) -> None:
        self._folder, self._work, self._context, self._listener, self._key = folder, work, context, listener, key
        self._inbox: queue.SimpleQueue[tuple[words.Said | str, Connection | None]] = queue.SimpleQueue()
        self._lines: list[Connection] = []
        self._first: Connection | None = None
        self._wish = ""
        self._decode = work.plan.answers.decoder()
        self._baseline = {} if work.held is None else baseline_of(work.held.target, work.plan)
        self._agent = Agent(folder, work.said.run.workers, lambda why: self._inbox.put((why, None)))
        self._over = False

    def run(self) -> TrainingHistory:
        """Start the workers, and stay with them to the end."""
        threading.Thread(target=self._welcome, daemon=True).start()
        self._agent.start()
        touched = time.monotonic()
        try:
            while True:
                with contextlib.suppress(queue.Empty):
                    history = self._take(*self._inbox.get(timeout=POLL))
                    if history is not None:
                        return history
                if self._agent.lost:
                    raise TrainingError(self._agent.lost, "--workers 1 trains in one process.")
                if tracing_waits():
                    yield_lock()
                self._pass_on(self._context.stopping())
                if time.monotonic() - touched > TOUCH:
                    touched = time.monotonic()
                    os.utime(self._folder)
        finally:
            self._over = True
            for line in list(self._lines):
                _say(line, words.Over())
            self._agent.end()
            with contextlib.suppress(OSError):  # `_welcome` waits for someone
                Client(self._listener.address, authkey=self._key).close()

    def _take(self, word: words.Said | str, line: Connection | None) -> TrainingHistory | None:
        match word:
            case str():
                text = f"{word}. All workers start again, from the last checkpoint if there is one."
                self._context.emit(Message(text=text, level="warning"))
            case words.EventMessage(event):
                told = decode(event)
                if isinstance(told, EpochEnd):
                    told = msgspec.structs.replace(told, baseline=self._baseline)
                self._context.emit(told)
            case words.Outputs() as outputs:
                assert line is not None
                _say(line, words.Figures(self._figures(outputs)))
            case words.Keeps():
                assert line is not None
                self._context.written()
                _say(line, words.Written())
            case words.Failed(error):
                raise decode_error(error, "A worker failed.")
            case words.WorkerSuspended():
                raise Suspended("Training was suspended; its state is kept.")
            case words.Done(history):
                state = load_file(self._folder / words.RESULT)
                self._work.net.load_state_dict(self._work.net.state_dict() | state)
                self._work.net.eval()
                return TrainingHistory(**{**history, "baseline": self._baseline})
        return None

    def _figures(self, word: words.Outputs) -> dict[str, float]:
        held = self._work.held
        assert held is not None
        target = held.target.cpu()
        with torch.inference_mode():
            return figures_of(words.unpacked(word), target, self._decode, self._work.plan)

    def _pass_on(self, wish: str) -> None:
        if wish != self._wish and self._first is not None:
            self._wish = wish
            _say(self._first, words.StopRequest(wish))

    # --- threads of the lines ---

    def _welcome(self) -> None:
        while not self._over:
            try:
                line = self._listener.accept()
            except Exception:  # a stranger without the key
                continue
            self._lines.append(line)
            threading.Thread(target=self._hear, args=(line,), daemon=True).start()

    def _hear(self, line: Connection) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                word = words.hear(line)
                if isinstance(word, words.Hello):
                    if word.rank == 0:
                        self._wish, self._first = "", line
                else:
                    self._inbox.put((word, line))


def _say(line: Connection, word: words.Answered) -> None:
    with contextlib.suppress(OSError):  # a worker that died is started again, and requests it again
        words.say(line, word)
