"""A training that is cut off at any step and gone on with ends as one that never stopped, to the bit."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from maas_magics.api.errors import StoreError, Suspended
from maas_magics.api.events import CheckpointSaved, EpochEnd, Message, Resumed
from maas_magics.core.data.answers import Answers
from maas_magics.core.training.batches import FromLoader, InMemory
from maas_magics.core.training.blocks import Blocks, Kept, Spill
from maas_magics.core.training.checkpoint import FILES, Checkpoints
from maas_magics.core.training.loop import History, Plan, fit
from maas_magics.core.training.losses import make_loss
from maas_magics.core.training.optimizers import Optimizer
from maas_magics.core.training.schedules import schedule

rng = np.random.default_rng(0)
X = torch.from_numpy(rng.normal(size=(90, 6)).astype(np.float32))
Y = (X[:, :1] * 2 - X[:, 1:2]).contiguous()
ANSWERS = Answers("regression", ("y",), center=(0.0,), scale=(1.0,))
STEPS = 6 * 6


def plan(epochs: int = 6) -> Plan:
    return Plan(make_loss("auto", ANSWERS, None, 0.0), ANSWERS, {}, "loss", "min", epochs, 0, schedule("one-cycle"), 5)


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
            spill = Spill(folder, [Kept(torch.float32, torch.float32, (6,)), Kept(torch.float32, torch.float32, (1,))])
            spill.append([X, Y])
            self.batches = Blocks(spill, 16, torch.device("cpu"), block=7, window=4)
        if rows == "loader":
            self.batches = FromLoader(
                DataLoader(TensorDataset(X, Y), 16, shuffle=True), lambda y: y, torch.device("cpu")
            )
        self.held = InMemory((X[:20],), Y[:20], 16)
        self.events: list[Any] = []
        self.folder = folder

    def run(self, stopping: Callable[[], Any] = lambda: "", keep: bool = True) -> History:
        checkpoints = Checkpoints(self.folder) if keep else None
        return fit(self.net, self.optimizer, self.batches, self.held, plan(), self.events.append, stopping, checkpoints)

    def state(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.net.state_dict().items()}


def after(steps: int) -> Callable[[], Any]:
    """A wish to suspend, told after so many steps."""
    count = iter(range(steps))
    return lambda: "" if next(count, None) is not None else "suspend"


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("rows", ["memory", "loader", "disk"])
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
    newest = max((tmp_path / "cut" / name for name in FILES), key=lambda file: file.stat().st_mtime_ns)
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
    monkeypatch.setattr("maas_magics.core.training.loop.EPOCH_PAUSE", 0.0)
    monkeypatch.setattr("maas_magics.core.training.loop.COST", 0)
    machine = Machine(tmp_path)
    assert machine.run().epochs == 6
    told = [event.text for event in machine.events if isinstance(event, Message)]
    assert told and all("No space left" in text and "Training goes on" in text for text in told)
    assert not any(tmp_path.iterdir())
    with pytest.raises(StoreError):
        Checkpoints(tmp_path).save({"step": 1})
    assert sum(isinstance(event, EpochEnd) for event in machine.events) == 6
