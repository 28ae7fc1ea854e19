"""What a training goes on with: an end that was not published, other options, state that is in no ``state_dict``."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import traceback
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Lab
from test_train_resume import step_of
from test_train_workers import Kept
from torch import Tensor, nn

from maas_magics.api.errors import ModelError, OptionError, Suspended
from maas_magics.api.events import EpochEnd, Message, Resumed, Step
from maas_magics.core.training.checkpoint import FILES, Checkpoints

pytestmark = pytest.mark.usefixtures("unexported")

made = np.random.default_rng(0)
X = made.normal(size=(120, 5)).astype(np.float32)
Y = (X @ np.array([1, -2, 0.5, 0, 0], dtype=np.float32)).astype(np.float32)


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))


def kept(place: Path, **options: Any) -> Kept:
    base: dict[str, Any] = {"data": X, "target": Y, "model": plain(), "epochs": 5, "patience": 0, "batch_size": 16}
    return Kept(place / "store", **base | {"checkpoint_every": "3"} | options)


def cut(training: Kept, epochs: int = 2) -> None:
    with pytest.raises(Suspended):
        training.run(lambda: "suspend" if len(training.of(EpochEnd)) >= epochs else "")


# --- an end that nobody heard of ---

DIES = """
import os, signal, sys
from pathlib import Path
from maas_magics.api.events import CheckpointSaved
from test_train_resume_changed import kept

options = eval(sys.argv[2])
training = kept(Path(sys.argv[1]), **options)

class Events(list):
    def append(self, event):
        super().append(event)
        if isinstance(event, CheckpointSaved) and training_over():
            os.kill(os.getpid(), signal.SIGKILL)

def training_over():
    import torch, io
    kept = [io.BytesIO(file.read_bytes()[32:]) for file in training.folder.glob("checkpoint-*.pt")]
    return any(torch.load(state, weights_only=True)["ended"] for state in kept)

training.events = Events()
training.run()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="SIGKILL")
@pytest.mark.parametrize(
    "options", [{}, {"patience": 2, "epochs": 60, "lr": 0.3}], ids=["all epochs", "early stopping"]
)
def test_what_ended_and_was_not_published_is_published(options: dict[str, Any], tmp_path: Path) -> None:
    command = [sys.executable, "-c", DIES, str(tmp_path / "cut"), repr(options)]
    died = subprocess.run(command, capture_output=True, cwd=Path(__file__).parent)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    training = kept(tmp_path / "cut", **options)
    assert not training.store.storage.names()
    result = training.run()
    assert not training.of(Step) and not training.of(EpochEnd)
    assert any("publish" in event.text for event in training.of(Message))
    expected = kept(tmp_path / "whole", **options).run()
    assert result.history == expected.history and result.best_epoch == expected.best_epoch
    (ours,), (theirs,) = (list((tmp_path / n).rglob("weights.safetensors")) for n in ("cut", "whole"))
    assert ours.read_bytes() == theirs.read_bytes()
    if not options:
        with pytest.raises(OptionError, match="has done its"):
            kept(tmp_path / "cut").run()


def test_more_epochs_are_trained_whether_or_not_the_fewer_were_published(tmp_path: Path) -> None:
    kept(tmp_path, epochs=3).run()
    (tmp_path / "checkpoints" / "delivered").unlink()
    assert kept(tmp_path, epochs=6).run().epochs == 6


def test_fewer_epochs_than_were_done_are_refused(tmp_path: Path) -> None:
    cut(kept(tmp_path), 3)
    with pytest.raises(OptionError, match=r"has done 3 epochs already"):
        kept(tmp_path, epochs=2).run()
    assert kept(tmp_path).run().epochs == 5


# --- other options ---


@pytest.mark.parametrize(
    ("first", "then", "what"),
    [
        ({"schedule": "StepLR", "schedule_params": {"step_size": 1}}, {"schedule": "ExponentialLR", "schedule_params": {"gamma": 0.5}}, "schedule"),
        ({"schedule": "StepLR", "schedule_params": {"step_size": 1}}, {"schedule_params": {"step_size": 2}}, "schedule"),
        ({"schedule": "StepLR", "schedule_params": {"step_size": 1}}, {"schedule": "constant", "schedule_params": {}}, "schedule"),
        ({"loss": "mse"}, {"loss": "l1"}, "loss"),
        ({"optimizer": "AdamW"}, {"weight_decay": 0.3}, "optimizer"),
        ({"optimizer": "AdamW"}, {"optimizer_params": {"betas": (0.5, 0.9)}}, "optimizer"),
        ({}, {"ema": 0.9}, "average of the weights"),
        ({}, {"precision": "bf16"}, "precision"),
    ],
)  # fmt: skip
def test_what_would_not_go_on_to_the_same_is_refused(
    first: dict[str, Any], then: dict[str, Any], what: str, tmp_path: Path
) -> None:
    cut(kept(tmp_path, **first))
    with pytest.raises(OptionError, match=f"another {what}"):
        kept(tmp_path, **first | then).run()
    assert kept(tmp_path, **first).run().epochs == 5


@pytest.mark.parametrize("schedule", ["OneCycleLR", "CosineAnnealingLR"])
def test_a_schedule_that_ends_with_the_training_follows_its_new_length(schedule: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"schedule": schedule, "lr": 0.01, "optimizer": "SGD"}
    kept(tmp_path / "cut", epochs=3, **options).run()
    longer = kept(tmp_path / "cut", epochs=6, **options).run()
    whole = kept(tmp_path / "whole", epochs=6, **options).run()
    assert longer.history["lr"][3:] == pytest.approx(whole.history["lr"][3:])


def test_another_learning_rate_keeps_what_the_schedule_did(tmp_path: Path) -> None:
    options: dict[str, Any] = {"schedule": "StepLR", "schedule_params": {"step_size": 1}}
    cut(kept(tmp_path, lr=0.1, **options))
    assert kept(tmp_path, lr=0.01, **options).run().history["lr"] == pytest.approx([0.1, 0.01, 1e-4, 1e-5, 1e-6])


# --- broken files ---


def test_an_older_checkpoint_that_is_broken_matters_to_nobody(tmp_path: Path) -> None:
    cut(kept(tmp_path))
    files = sorted((tmp_path / "checkpoints" / name for name in FILES), key=step_of)
    before = files[0].stat()
    files[0].write_bytes(b"junk")
    os.utime(files[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    training = kept(tmp_path)
    training.run()
    assert not training.of(Message) and training.of(Resumed)


def test_two_broken_ones_are_no_beginning_where_one_was_asked_for(tmp_path: Path) -> None:
    cut(kept(tmp_path))
    for name in FILES:
        (tmp_path / "checkpoints" / name).write_bytes(b"junk")
    training = kept(tmp_path, resume=True)
    with pytest.raises(OptionError, match="The checkpoints are broken"):
        training.run()
    assert not training.of(Message)


def test_a_folder_without_a_checkpoint_is_never_delivered(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.deliver()
    assert not checkpoints.delivered and not list(tmp_path.iterdir())


# --- state of its own ---


class Own(nn.Module):
    """Draws from a generator of its own, and has buffers and state that ``state_dict`` leaves out, or tells its way."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(5, 1)
        self.numbers = torch.Generator().manual_seed(7)
        self.register_buffer("seen", torch.zeros(5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += x.detach().mean(0)
            x = x + 0.1 * torch.randn(x.shape, generator=self.numbers) + 0.01 * self.seen
        return self.layer(x)

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        assert state["version"] == 3


def test_state_that_a_module_keeps_to_itself_goes_on(tmp_path: Path) -> None:
    cut(kept(tmp_path / "cut", model=Own()))
    again = kept(tmp_path / "cut", model=Own()).run()
    whole = kept(tmp_path / "whole", model=Own()).run()
    assert again.history == whole.history


# --- what a failure leaves ---


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.steps = nn.Linear(5, 1), 0

    def forward(self, x: Tensor) -> Tensor:
        self.steps += self.training and len(x) > 2
        if self.steps > 6:
            raise ValueError("the seventh step")
        return self.layer(x)


@pytest.mark.parametrize("options", [{}, {"clip": 1.0}, {"ema": 0.9}, {"accumulate": 2}])
def test_a_failed_training_keeps_nothing_alive(options: dict[str, Any], lab: Lab) -> None:
    def fail(name: str) -> tuple[Any, Any]:
        net, rows = Failing(), X.copy()
        with pytest.raises(ValueError, match="seventh") as caught:
            lab.train(rows, Y, name=name, model=net, epochs=3, batch_size=16, **options)
        assert "forward" in "".join(traceback.format_tb(caught.value.__traceback__)), "where it failed is told"
        return weakref.ref(net), weakref.ref(rows)

    net, _ = fail("one")
    job = lab.last
    lab.train(X, Y, name="one")  # what a training of the same name would go on from is the newest request
    gc.collect()
    assert net() is None
    assert job is not None
    with pytest.raises(ValueError, match="seventh"):
        job.result()


# --- what an epoch is chosen by ---


def test_a_figure_that_is_no_number_leaves_the_choice_to_the_loss(tmp_path: Path) -> None:
    def odd(target: Any, prediction: Any) -> float:
        return float("nan")

    training = kept(tmp_path, epochs=20, metrics=(odd,), monitor="odd", lr=0.01)
    result = training.run()
    assert result.best_epoch == 1 + int(np.argmin(result.history["val_loss"])) > 1
    (told,) = training.of(Message)
    assert "compared by their loss" in told.text and told.level == "warning"


def test_a_figure_of_rows_that_are_not_held_out_is_refused(lab: Lab) -> None:
    with pytest.raises(OptionError, match="metric of held-out rows"):
        lab.train(X, (Y > 0).astype(int), validation=0.0, monitor="accuracy")


def test_what_cannot_be_trained_is_refused(lab: Lab) -> None:
    labels = torch.from_numpy((Y > 0).astype(np.int64))
    rows = torch.utils.data.TensorDataset(torch.from_numpy(X), labels)
    with pytest.raises(OptionError, match="not counted beforehand"):
        lab.train(rows, model=nn.Linear(5, 2), class_weights="balanced")
    with pytest.warns(DeprecationWarning, match="jit"):
        traced = torch.jit.trace(nn.Linear(5, 1), torch.ones(2, 5))
    with pytest.raises(ModelError, match="TorchScript"):
        lab.train(X, Y, model=traced)
    for seed in (-1, 2**70):
        with pytest.raises(OptionError, match="seed is"):
            lab.train(X, Y, seed=seed)
