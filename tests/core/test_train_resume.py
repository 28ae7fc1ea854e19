"""A training that is cut off at any step and gone on with ends as one that never stopped, to the bit."""

from __future__ import annotations

import hashlib
import io
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

from maas_magics.api.errors import OptionError, StoreError, Suspended
from maas_magics.api.events import CheckpointSaved, EpochEnd, Message, Resumed
from maas_magics.core.batches.accumulate import GradientAccumulation
from maas_magics.core.batches.batches import FromLoader, InMemory
from maas_magics.core.batches.blocks import Blocks, Spill, TensorLayout
from maas_magics.core.batches.from_dataset import FromDataset
from maas_magics.core.batches.loader_workers import Readers
from maas_magics.core.batches.sampler import BalancedOrder
from maas_magics.core.losses.make import make_loss
from maas_magics.core.tasks.regression import Regression
from maas_magics.core.training.checkpoint import DIGEST, FILES, CheckpointInterval, Checkpoints
from maas_magics.core.training.loop import fit
from maas_magics.core.training.plan import Plan, TrainingHistory
from maas_magics.core.training.steps.ema import EMA
from maas_magics.core.training.steps.freeze import Freezing
from maas_magics.core.training.steps.lr_schedule import make_lr_schedule
from maas_magics.core.training.steps.optimizers import Optimizer
from maas_magics.core.training.steps.patterns import rates_of
from maas_magics.core.training.steps.precision import Precision
from maas_magics.core.training.steps.schedules import SCHEDULES
from maas_magics.core.training.steps.step_config import StepConfig

rng = np.random.default_rng(0)
X = torch.from_numpy(rng.normal(size=(90, 6)).astype(np.float32))
Y = (X[:, :1] * 2 - X[:, 1:2]).contiguous()
ANSWERS = Regression(("y",), center=(0.0,), scale=(1.0,))
STEPS = 6 * 6


def plan(regime: StepConfig | None = None, epochs: int = 6) -> Plan:
    loss = make_loss("auto", ANSWERS, None, 0.0)
    return Plan(loss, ANSWERS, {}, "loss", "min", epochs, 0, SCHEDULES["one-cycle"], 5, regime)


class Noisy(Dataset):
    """Rows with noise of every generator that a dataset may draw from."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return X[index] + 0.1 * (torch.randn(6) + float(np.random.normal()) + random.random()), Y[index]


class Machine:
    """A process's worth of state: a network, an optimizer and random numbers, made anew."""

    def __init__(self, folder: Path, optimizer: str = "Adam", rows: str = "memory", **options: Any) -> None:
        torch.manual_seed(3)
        random.seed(4)
        np.random.seed(5)
        self.net = nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(0.4), nn.Linear(9, 1))
        self.optimizer = Optimizer(self.net, optimizer, 0.05, None, options)
        self.batches: Any = InMemory((X,), Y, 16)
        if rows == "disk":
            spill = Spill(
                folder,
                [TensorLayout(torch.float32, torch.float32, (6,)), TensorLayout(torch.float32, torch.float32, (1,))],
            )
            spill.append([X, Y])
            self.batches = Blocks(spill, 16, torch.device("cpu"), block=7, window=4)
        if rows == "loader":
            self.batches = FromLoader(
                DataLoader(TensorDataset(X, Y), 16, shuffle=True), lambda y: y, torch.device("cpu")
            )
        if rows == "noisy loader":
            self.batches = FromLoader(DataLoader(Noisy(), 16, shuffle=True), lambda y: y, torch.device("cpu"))
        if rows == "dataset":
            readers = Readers((Noisy(),), default_collate)
            self.batches = FromDataset(readers, 0, torch.arange(len(X)), 16, lambda y: y, torch.device("cpu"))
        self.held = InMemory((X[:20],), Y[:20], 16)
        self.events: list[Any] = []
        self.folder = folder
        self.regime: StepConfig | None = None

    def run(
        self, stopping: Callable[[], Any] = lambda: "", keep: bool = True, epochs: int = 6, **options: Any
    ) -> TrainingHistory:
        checkpoints = Checkpoints(self.folder, **options) if keep else None
        how = plan(self.regime, epochs)
        return fit(self.net, self.optimizer, self.batches, self.held, how, self.events.append, stopping, checkpoints)

    def state(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.net.state_dict().items()}


class Asked(Machine):
    """A machine whose training does what a request may ask for."""

    def __init__(self, folder: Path, optimizer: str, loader: bool, asked: dict[str, Any]) -> None:
        super().__init__(folder, optimizer, loader)
        freezing = Freezing(self.net, asked.get("freeze", ()), asked.get("unfreeze", {}))
        rates = rates_of(self.net, asked.get("lr_of", {}))
        self.optimizer = Optimizer(self.net, optimizer, 0.05, None, {}, lr_of=rates, later=freezing.later)
        if asked.get("balance"):
            self.batches = InMemory((X,), Y, 16, draw=BalancedOrder((Y > 1).int()))
        if size := asked.get("accumulate"):
            self.batches = GradientAccumulation(self.batches, size)
        precision = Precision(asked["precision"], torch.device("cpu")) if "precision" in asked else None
        if precision is not None and precision.scaler is not None:
            precision.scaler.set_growth_interval(2)  # else the scale would not change in so few steps
        self.regime = StepConfig(
            self.net,
            self.optimizer,
            make_lr_schedule(
                self.optimizer,
                asked.get("schedule", "constant"),
                asked.get("params", {}),
                epochs=6,
                steps=self.batches.steps,
                warmup=asked.get("warmup", 0),
                mode="min",
            ),
            precision=precision,
            grouped="accumulate" in asked,
            clip=asked.get("clip"),
            average=EMA(self.optimizer, asked["ema"]) if "ema" in asked else None,
            freezing=freezing,
        )


def step_of(file: Path) -> int:
    """Step that a checkpoint stands at; two files may have been written in one tick of the file system's clock."""
    step: int = torch.load(io.BytesIO(file.read_bytes()[DIGEST:]), weights_only=True)["step"]
    return step


def after(steps: int) -> Callable[[], Any]:
    """A wish to suspend, told after so many steps."""
    count = iter(range(steps))
    return lambda: "" if next(count, None) is not None else "suspend"


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("rows", ["memory", "loader", "noisy loader", "disk", "dataset"])
@pytest.mark.parametrize(
    ("optimizer", "options"),
    [("Adam", {}), ("SGD", {"momentum": 0.9}), ("AdamW", {"amsgrad": True}), ("RMSprop", {}), ("Adafactor", {})],
)
def test_cut_off_at_every_few_steps_it_ends_the_same(
    optimizer: str, options: dict[str, Any], rows: str, tmp_path: Path
) -> None:
    whole = Machine(tmp_path / "whole", optimizer, rows, **options)
    expected = whole.run(keep=False)
    history = None
    pieces = 0
    steps = iter([0, 1, 5, 6, 7, 3, 10, 1000])
    while history is None:
        machine = Machine(tmp_path / "cut", optimizer, rows, **options)
        try:
            history = machine.run(after(next(steps)))
        except Suspended:
            pieces += 1
            assert isinstance(machine.events[-1], CheckpointSaved)
    assert pieces == 7
    assert history == expected and same(machine.state(), whole.state())
    assert any(isinstance(event, Resumed) for event in machine.events)


SCHEDULED: list[dict[str, Any]] = [
    {"schedule": "cosine", "warmup": 0.2},
    {"schedule": "plateau", "params": {"patience": 0, "threshold": 0.5}},
    {"schedule": "StepLR", "params": {"step_size": 2}, "warmup": 5},
    {"schedule": "MultiStepLR", "params": {"milestones": (2, 4)}},
    {"schedule": "ExponentialLR", "params": {"gamma": 0.7}, "warmup": 0.3},
    {"schedule": "CosineAnnealingWarmRestarts", "params": {"T_0": 2}},
    {"schedule": "OneCycleLR"},
    {
        "schedule": "CyclicLR",
        "params": {"base_lr": 0.01, "step_size_up": 3, "mode": "exp_range", "gamma": 0.9},
        "warmup": 2,
    },
]
WAYS: list[dict[str, Any]] = [
    {"precision": "bf16"},
    {"precision": "fp16"},
    {"accumulate": 2},
    {"accumulate": 4, "clip": 0.1},
    {"clip": 0.2},
    {"ema": 0.8},
    {"balance": True},
    {"freeze": ("0.*", "1.*"), "unfreeze": {"1.*": 3, "0.*": 5}, "lr_of": {"4.*": 0.01}},
]
EVERYTHING = {
    "precision": "fp16", "accumulate": 2, "clip": 0.5, "ema": 0.7, "warmup": 2, "schedule": "plateau",
    "params": {"patience": 0}, "freeze": ("0.*", "1.*"), "unfreeze": {"1.*": 2, "0.*": 3}, "lr_of": {"*.bias": 0.02},
}  # fmt: skip


@pytest.mark.parametrize("optimizer", ["Adam", "SGD", "Adafactor"])
@pytest.mark.parametrize("asked", [*WAYS, *SCHEDULED, EVERYTHING], ids=str)
def test_whatever_is_asked_for_is_in_the_checkpoint(optimizer: str, asked: dict[str, Any], tmp_path: Path) -> None:
    if optimizer == "Adafactor" and asked.get("schedule") in ("OneCycleLR", "CyclicLR"):
        asked = asked | {"params": asked.get("params", {}) | {"cycle_momentum": False}}
    whole = Asked(tmp_path / "whole", optimizer, False, asked)
    expected = whole.run(keep=False)
    plain = Machine(tmp_path / "plain", optimizer)
    plain.regime = StepConfig(plain.net, plain.optimizer, make_lr_schedule(plain.optimizer, "constant", {}, epochs=6, steps=6, warmup=0, mode="min"))  # fmt: skip
    assert plain.run(keep=False) != expected  # what was asked for does something
    history, pieces, steps = None, 0, iter([0, 1, 2, 3, 1, 2, 1, 1000])
    while history is None:
        machine = Asked(tmp_path / "cut", optimizer, False, asked)
        try:
            history = machine.run(after(next(steps)))
        except Suspended:
            pieces += 1
    assert pieces == 7
    assert history == expected and same(machine.state(), whole.state())


def test_a_loader_is_grouped_and_gone_on_with(tmp_path: Path) -> None:
    asked = {"accumulate": 4, "ema": 0.5}
    whole = Asked(tmp_path / "whole", "Adam", True, asked)
    expected = whole.run(keep=False)
    for steps in (1, 4):
        with pytest.raises(Suspended):
            Asked(tmp_path / "cut", "Adam", True, asked).run(after(steps))
    machine = Asked(tmp_path / "cut", "Adam", True, asked)
    assert machine.run() == expected and same(machine.state(), whole.state())


def test_keeping_checkpoints_changes_nothing(tmp_path: Path) -> None:
    kept = Machine(tmp_path)
    history = kept.run()
    other = Machine(tmp_path)
    assert history == other.run(keep=False) and same(kept.state(), other.state())


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_broken_checkpoint_falls_back_to_the_one_before(damage: str, tmp_path: Path) -> None:
    expected = Machine(tmp_path / "whole").run(keep=False)
    for steps in (7, 8):
        with pytest.raises(Suspended):
            Machine(tmp_path / "cut").run(after(steps))
    newest = max((tmp_path / "cut" / name for name in FILES), key=step_of)
    data = newest.read_bytes()
    place = len(data) // 2
    newest.write_bytes(
        {"cut": data[:place], "empty": b"", "flip": data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]}[
            damage
        ]
    )
    machine = Machine(tmp_path / "cut")
    assert machine.run() == expected
    told = [event.text for event in machine.events if isinstance(event, Message)]
    resumed = next(event for event in machine.events if isinstance(event, Resumed))
    assert told == ["The newest checkpoint is broken; the one before is used."] and resumed.step == 7


def test_where_every_checkpoint_is_broken_it_begins_anew(tmp_path: Path) -> None:
    expected = Machine(tmp_path / "whole").run(keep=False)
    with pytest.raises(Suspended):
        Machine(tmp_path / "cut").run(after(9))
    for name in FILES:
        (tmp_path / "cut" / name).write_bytes(b"junk")
    machine = Machine(tmp_path / "cut")
    assert machine.run() == expected
    assert "begins anew" in machine.events[0].text and not any(isinstance(e, Resumed) for e in machine.events)


def test_a_checkpoint_holds_nothing_that_runs(tmp_path: Path) -> None:
    """A pickle in its place is refused, not loaded."""
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return (tmp_path / "evil").write_text, ("ran",)

    (tmp_path / FILES[0]).write_bytes(pickle.dumps(Evil()))
    packed = io.BytesIO()
    torch.save({"step": 1, "x": Evil()}, packed)
    (tmp_path / FILES[1]).write_bytes(hashlib.sha256(packed.getvalue()).digest() + packed.getvalue())
    assert Checkpoints(tmp_path).newest() == (None, 2) and not (tmp_path / "evil").exists()


def test_a_disk_that_is_full_costs_the_checkpoint_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("maas_magics.core.training.checkpoint.os.fsync", full)
    machine = Machine(tmp_path)
    assert machine.run(every="1").epochs == 6
    told = [event.text for event in machine.events if isinstance(event, Message)]
    assert told and all("No space left" in text and "Training continues" in text for text in told)
    assert not any(tmp_path.iterdir())
    with pytest.raises(StoreError):
        Checkpoints(tmp_path).save({"step": 1})
    assert sum(isinstance(event, EpochEnd) for event in machine.events) == 6


def test_checkpoints_are_kept_as_often_as_asked(tmp_path: Path) -> None:
    def steps(every: str | None) -> list[int]:
        machine = Machine(tmp_path / str(every))
        machine.run(every=every)
        return [event.step for event in machine.events if isinstance(event, CheckpointSaved)]

    assert steps("5") == [*range(5, STEPS, 5), STEPS]
    assert steps("1") == [*range(1, STEPS + 1), STEPS]
    assert steps("1000s") == steps(None) == [STEPS]
    assert len(list((tmp_path / "1").iterdir())) == 1  # once it is over
    with pytest.raises(Suspended):
        Machine(tmp_path / "cut").run(after(9), every="1")
    assert len(list((tmp_path / "cut").iterdir())) == len(FILES)


@pytest.mark.parametrize("every", ["", "0", "-1", "0s", "ten", "5 minutes", "1e3", "nan s"])
def test_a_cadence_that_cannot_be_meant_is_refused(every: str) -> None:
    with pytest.raises(OptionError, match="--checkpoint-every 500"):
        CheckpointInterval(every)


def test_a_training_that_ended_goes_on_for_more_epochs(tmp_path: Path) -> None:
    first = Machine(tmp_path)
    first.run(epochs=4)
    Checkpoints(tmp_path).deliver()
    with pytest.raises(OptionError, match=r"has done its 4 epochs.\n--epochs 8|has done its 4 epochs"):
        Machine(tmp_path).run(epochs=4)
    second = Machine(tmp_path)
    history = second.run(epochs=7)
    assert history.epochs == 7 and len(history.curves["loss"]) == 7
    assert next(event for event in second.events if isinstance(event, Resumed)).epoch == 5


def test_a_training_stopped_in_mid_epoch_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    expected = Machine(tmp_path / "whole")
    history = expected.run(keep=False)
    count = iter(range(13))
    stopped = Machine(tmp_path / "cut").run(lambda: "" if next(count, None) is not None else "soft")
    assert stopped.stopped and stopped.epochs == 2
    machine = Machine(tmp_path / "cut")
    assert machine.run() == history and same(machine.state(), expected.state())


@pytest.mark.parametrize("what", ["table", "network"])
def test_a_checkpoint_of_something_else_is_refused_and_kept(what: str, tmp_path: Path) -> None:
    with pytest.raises(Suspended):
        Machine(tmp_path).run(after(9), marks={"table": "a", "network": "n"})
    machine = Machine(tmp_path)
    with pytest.raises(OptionError, match=f"another {what}"):
        machine.run(marks={"table": "a", "network": "n"} | {what: "other"})
    with pytest.raises(OptionError, match="does not fit"):
        Machine(tmp_path, "SGD").run(marks={"table": "a", "network": "n"})
    assert Machine(tmp_path).run(marks={"table": "a", "network": "n"}) == Machine(tmp_path / "w").run(keep=False)


def test_a_checkpoint_that_must_be_there_is_missed(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no checkpoint to resume from"):
        Machine(tmp_path).run(wanted=True)


def test_a_learning_rate_that_is_said_anew_counts(tmp_path: Path) -> None:
    optimizer = Machine(tmp_path).optimizer
    optimizer.scale_lr(0.5)
    state, base = optimizer.inner.state_dict(), optimizer.base
    same_rate = Machine(tmp_path).optimizer
    same_rate.load(state, base)
    assert same_rate.lr == 0.025
    other = Optimizer(Machine(tmp_path).net, "Adam", 0.01, None, {})
    other.load(state, base)
    assert other.lr == pytest.approx(0.005), "what a schedule made of the first one is kept"


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np, torch
from maas_magics.core.context import Context
from maas_magics.core.inference.loader import Loader
from maas_magics.core.store.models import Store
from maas_magics.core.training.train import train
from maas_magics.api.events import Started
from maas_magics.api.requests import TrainRequest

torch.set_num_threads(1)
place, kills, whole = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
x = np.random.default_rng(0).normal(size=(600, 6)).astype(np.float32)
y = np.where(x[:, 0] * x[:, 1] > 0, "yes", "no")
request = TrainRequest(name="m", data=x, target=y, model="mlp", params={"hidden": (16,), "dropout": 0.2}, epochs=20,
                       patience=0, batch_size=16, schedule="one-cycle", checkpoint_every="3", threads=1)
store = Store(str(place / "store"))

def run(dies_after=0.0):
    # Seconds of the processor that it took, or death after so many of them.
    begun = []
    def begin(event):
        if isinstance(event, Started):
            begun.append(time.process_time())
            signal.setitimer(signal.ITIMER_PROF, dies_after)
    train(request, Context(store, Loader(store), begin, lambda: "", checkpoints=place / "kept"))
    return time.process_time() - begun[0]

warm = Store(str(place / "warm"))  # what a first training imports is imported before the processes part
train(TrainRequest(name="m", data=x, target=y, model="linear", epochs=1),
      Context(warm, Loader(warm), lambda event: None, lambda: ""))
chance, done = random.Random(7), 0
for _ in range(kills):
    dies_after = chance.uniform(0.001, whole / 20)
    child = os.fork()
    if not child:
        run(dies_after)
        os._exit(0)
    if os.waitpid(child, 0)[1] != signal.SIGPROF:
        break
    done += 1
print(done, run())
"""


def test_killed_at_25_random_moments_it_ends_the_same(tmp_path: Path) -> None:
    """A moment is a share of the time that the whole took of the processor, which may be fast, slow or busy."""

    def weights(kills: int, whole: float = 0.0) -> tuple[bytes, Any, int, float]:
        place = tmp_path / str(kills)
        place.mkdir()
        words = [sys.executable, "-c", KILLED, str(place), str(kills), str(whole)]
        found = subprocess.run(words, capture_output=True, text=True, timeout=600)
        assert not found.returncode, found.stderr
        (version,) = (place / "store").rglob("weights.safetensors")
        manifest = json.loads((version.parent / "manifest.json").read_text())
        done, seconds = found.stdout.split()
        return version.read_bytes(), (manifest["history"], manifest["best_epoch"]), int(done), float(seconds)

    expected = weights(0)
    killed = weights(25, expected[3])
    assert killed[:2] == expected[:2]
    assert killed[2] >= 10, "it was over before it was killed as often as that"


def test_the_first_checkpoint_is_as_rare_as_those_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from maas_magics.core.training import checkpoint

    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: now[0])
    small, large = CheckpointInterval(), CheckpointInterval()
    small.expect(1_000)
    large.expect(int(2 * checkpoint.SPEED))  # two seconds each
    now[0] = 11.0
    assert small.due(5) and not large.due(5)
    now[0] = 201.0
    assert large.due(5)
    large.saved(5, 0.01)  # what one has taken counts from then on
    now[0] = 212.0
    assert large.due(6)
