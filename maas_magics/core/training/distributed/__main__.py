"""A worker: ``python -m maas_magics.core.training.distributed FOLDER``, started by torch's elastic agent.

It ends by itself when the process that requested it is gone: their line breaks then.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import sys
import threading
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Client
from pathlib import Path
from queue import SimpleQueue
from typing import cast

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from maas_magics.api.errors import Suspended
from maas_magics.api.events import Event, Message, encode
from maas_magics.api.wire import encode_error
from maas_magics.core.architectures import architectures
from maas_magics.core.batches.sampler import balanced_order
from maas_magics.core.compat.optimizers import without_compiler
from maas_magics.core.context import Stopping
from maas_magics.core.graphs.rebuild import ExportedModule, unpack
from maas_magics.core.losses.check import few_rows
from maas_magics.core.losses.make import make_loss, mass_of
from maas_magics.core.networks.modules import make_module
from maas_magics.core.networks.source import run_source
from maas_magics.core.processors import cores
from maas_magics.core.tasks.losses import Loss
from maas_magics.core.training.distributed import messages as words
from maas_magics.core.training.distributed.group import (
    PATIENCE,
    AllReduce,
    ProcessGroup,
    ShardedBatches,
    ShardedValidation,
    SharedFit,
    SharedStep,
)
from maas_magics.core.training.distributed.messages import NamedNetwork, SourceNetwork, WorkerConfig
from maas_magics.core.training.distributed.shard import SharedCheckpoints, shard, whole
from maas_magics.core.training.plan import Plan, TrainingHistory
from maas_magics.core.training.steps.devices import threads
from maas_magics.core.training.steps.matmul_backend import through_onednn
from maas_magics.core.training.steps.memory_format import arrange
from maas_magics.core.training.steps.out_of_memory import MicroBatching, error_of, is_out_of_memory
from maas_magics.core.training.steps.precision import make_precision
from maas_magics.core.training.steps.schedules import constant
from maas_magics.core.training.steps.step_spec import make_learner, make_step_config

LOST = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")
"""What torch says when another worker is gone."""


class Line:
    """The line to the process that requested the training.

    Parameters
    ----------
    folder : Path
    order : WorkerConfig
    rank : int
    """

    def __init__(self, folder: Path, order: WorkerConfig, rank: int) -> None:
        self._folder, self._rank = folder, rank
        self._line = Client(order.address, authkey=bytes.fromhex(order.key))
        self._sending = threading.Lock()
        self._figures: SimpleQueue[dict[str, float]] = SimpleQueue()
        self._written: SimpleQueue[None] = SimpleQueue()
        self.wish: Stopping = ""
        self.say(words.Hello(rank))
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, what: words.Said) -> None:
        """Send a word."""
        with self._sending:
            words.say(self._line, what)

    def emit(self, event: Event) -> None:
        """Report an event, from the first worker only: all of them see the same."""
        if not self._rank:
            self.say(words.EventMessage(encode(event)))

    def figures(self, outputs: Tensor) -> dict[str, float]:
        """What the other process makes of the outputs for the held-out rows."""
        self.say(words.packed(outputs))
        return self._figures.get()

    def until_written(self) -> None:
        """Wait until all events are written down: a state whose events are lost is of no use."""
        self.say(words.Keeps())
        self._written.get()

    def _listen(self) -> None:
        while True:
            try:
                word = words.hear_back(self._line)
            except (EOFError, OSError):  # it is gone, and no one else is left to clear up
                shutil.rmtree(self._folder, ignore_errors=True)
                word = words.Over()
            match word:
                case words.StopRequest(wish):
                    self.wish = cast(Stopping, wish)
                case words.Figures(values):
                    self._figures.put(values)
                case words.Written():
                    self._written.put(None)
                case words.Over():
                    os._exit(0)  # whatever this process is in the midst of is of no use to anyone


def main(place: str) -> None:
    """Train, report, and wait to be ended."""
    folder = Path(place)
    order = words.read_order(folder)
    rank, attempt = int(os.environ["RANK"]), os.environ["TORCHELASTIC_RESTART_COUNT"]
    line = Line(folder, order, rank)
    try:
        group = _join(folder / f"group-{attempt}", rank, order)
        with nullcontext() if order.shard else without_compiler():
            history, net = _train(folder, order, group, line)
        state = whole({name: tensor.detach() for name, tensor in net.state_dict().items()})
        if group.first:
            plain = {name: tensor.cpu().contiguous().clone() for name, tensor in state.items()}
            save_file(plain, folder / words.RESULT)
            line.say(words.Done(asdict(history)))
    except Suspended:
        if not rank:
            line.say(words.WorkerSuspended())
    except Exception as error:
        if isinstance(error, RuntimeError) and any(sign in str(error) for sign in LOST):
            raise  # the agent starts all workers again
        line.say(words.Failed(encode_error(error_of(error) if is_out_of_memory(error) else error)))
    threading.Event().wait()


def _join(meeting: Path, rank: int, order: WorkerConfig) -> ProcessGroup:
    """Find the other workers through a file, and talk to them over the loopback interface."""
    local = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    for library in ("GLOO", "NCCL"):
        if local:
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", local[0])
    device = torch.device(order.device, rank) if order.device == "cuda" else torch.device(order.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=dist.FileStore(str(meeting), order.size),  # type: ignore[attr-defined]
        rank=rank,
        world_size=order.size,
        timeout=PATIENCE,
    )
    return ProcessGroup(rank, order.size, device)


def _network(folder: Path, order: WorkerConfig) -> nn.Module:
    match order.network:
        case NamedNetwork() as named:
            architecture = architectures.get(named.architecture)
            net = architecture.build(named.features, order.answers, named.params)
        case SourceNetwork() as source:
            net = make_module(run_source(source.text), source.inputs, source.outputs)
        case _:
            net = unpack((folder / words.NETWORK).read_bytes())
    weights = load_file(folder / words.WEIGHTS)
    if isinstance(net, ExportedModule):
        weights = {name: tensor for name, tensor in weights.items() if name in net.state_dict()}
    net.load_state_dict(weights)
    return net


def _loss(folder: Path, order: WorkerConfig, weights: Tensor | None) -> Loss:
    if order.loss:
        return make_loss(order.loss, order.answers, weights, order.smoothing)
    return unpack((folder / words.LOSS).read_bytes())


def _notify(line: Line, rank: int, text: str) -> None:
    """Notify the user of something in one worker."""
    line.say(words.EventMessage(encode(Message(text=f"Worker process {rank}: {text}", level="warning"))))


def _train(folder: Path, order: WorkerConfig, group: ProcessGroup, line: Line) -> tuple[TrainingHistory, nn.Module]:
    torch.set_num_threads(max(1, cores() // order.size))
    device = group.device
    net = _network(folder, order)
    if device.type == "cuda" and not isinstance(net, ExportedModule):
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
    net.to(device)
    inputs, target = words.read_rows(folder / words.TRAIN, device)
    rules, example = order.rules, tuple(x[:2] for x in inputs)
    precision = make_precision(rules.precision, net, example, device)
    if order.shard:
        shard(net, group)
    else:
        arrange(net, tuple(x[: few_rows(inputs)] for x in inputs), device, rules.precision)
    seed = order.seed * order.size + group.rank
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    optimizer, freezing = make_learner(rules, net, flat=not order.shard)
    weights = None if order.weights is None else torch.tensor(order.weights, device=device)
    loss = _loss(folder, order, weights)
    mass = mass_of(order.loss or loss, order.answers, weights)
    train = ShardedBatches(
        inputs,
        target,
        order.batch_size,
        group,
        order.least,
        together=rules.accumulate,
        mass=mass,
        draw=balanced_order(order.answers, target) if order.balance else None,
    )
    sums = AllReduce(group, train, order.shard, net)
    regime = make_step_config(
        rules,
        net,
        optimizer,
        freezing,
        precision,
        epochs=order.epochs,
        steps=train.steps,
        mode=order.mode,
        mass=mass,
        division=None if sums.together else MicroBatching(notify=partial(_notify, line, group.rank), least=order.least),
        deferred=True,
        grouped=True,
        full=partial(SharedStep, sums=sums),
    )
    plan = Plan(
        loss=loss,
        answers=order.answers,
        metrics={},
        monitor=order.monitor,
        mode=order.mode,
        epochs=order.epochs,
        patience=order.patience,
        schedule=constant,
        seed=order.seed,
        regime=regime,
    )
    held = None
    if (folder / words.HELD).exists():
        held = ShardedValidation(*words.read_rows(folder / words.HELD, device), order.batch_size, group)
    parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
    with (
        threads(order.threads, parameters, order.batch_size // order.size, order.wide, share=order.size),
        through_onednn() if rules.onednn else nullcontext(),
    ):
        fit = SharedFit(
            net,
            optimizer,
            train,
            held,
            plan,
            line.emit,
            SharedCheckpoints(order, group, net, optimizer.inner, line.until_written),
            group=group,
            wish=lambda: line.wish,
            figures=line.figures,
            sums=sums,
            sharded=order.shard,
        )
        return fit.run(), net


if __name__ == "__main__":
    main(sys.argv[1])
