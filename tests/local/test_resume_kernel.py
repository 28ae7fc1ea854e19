"""A kernel that dies in the midst of a training; another goes on with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maas_magics.api.errors import MaasError, OptionError, StoreError
from maas_magics.api.requests import TrainRequest
from maas_magics.local.backend import LocalBackend

X = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
Y = X @ np.arange(5, dtype=np.float32)

EPOCHS = 40

KERNEL = """
import os, signal, sys
import numpy as np
from maas_magics.api.requests import TrainRequest
from maas_magics.core.training.checkpoint import Checkpoints
from maas_magics.local.backend import LocalBackend
X = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
save, left = Checkpoints.save, [3]
def dies(self, state):
    save(self, state)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoints.save = dies
LocalBackend(sys.argv[1]).submit(TrainRequest(
    name="m", data=X, target=X @ np.arange(5, dtype=np.float32), model="linear", epochs=int(sys.argv[2]), patience=0,
    threads=1, checkpoint_every="50")).result()
"""


def request(**given: Any) -> TrainRequest:
    usual = {"name": "m", "data": X, "target": Y, "model": "linear", "epochs": EPOCHS, "patience": 0, "threads": 1}
    return TrainRequest(**usual | given)


def folders(store: Path) -> set[str]:
    """Jobs that have a state, whatever another thread removes meanwhile."""
    found = set()
    for folder in (store / "jobs").glob("*"):
        with contextlib.suppress(FileNotFoundError):
            if os.listdir(folder):
                found.add(folder.name)
    return found


def become(store: Path, expected: set[str]) -> None:
    """Wait until those jobs alone have a state: a training tidies up after those before it once its result is out."""
    deadline = time.monotonic() + 60
    while folders(store) != expected and time.monotonic() < deadline:
        time.sleep(0.02)
    assert folders(store) == expected


def test_a_training_of_a_dead_kernel_goes_on_in_another(tmp_path: Path) -> None:
    store = tmp_path / "store"
    died = subprocess.run([sys.executable, "-c", KERNEL, str(store), str(EPOCHS)], capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    backend = LocalBackend(str(store))
    assert [info.state for info in backend.jobs()] == ["failed"]
    with pytest.raises(OptionError, match="is not here any more"):
        backend.submit(TrainRequest(name="m", resume=True))
    with pytest.raises(MaasError, match="another seed"):
        backend.submit(request(resume=True, seed=1)).result(60)
    found = backend.submit(request(resume=True)).result(120)
    whole = LocalBackend(str(tmp_path / "whole")).submit(request()).result(120)
    assert found.history == whole.history and found.best_epoch == whole.best_epoch
    one, other = (next(place.rglob("weights.safetensors")).read_bytes() for place in (store, tmp_path / "whole"))
    assert one == other


def test_of_each_name_the_newest_state_is_kept(tmp_path: Path) -> None:
    backend = LocalBackend(str(tmp_path))
    for _ in range(3):
        last: Any = backend.submit(request(epochs=2))
        last.result(60)
        other: Any = backend.submit(request(name="other", epochs=2))
        other.result(60)
    become(tmp_path, {last.id, other.id})
    backend.models.delete("other")
    last = backend.submit(request(epochs=2))
    last.result(60)
    become(tmp_path, {last.id})


def test_a_training_that_could_keep_nothing_leaves_the_state_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    backend = LocalBackend(str(tmp_path))
    first = backend.submit(request(epochs=2))
    first.result(60)
    with monkeypatch.context() as disk:
        disk.setattr("maas_magics.core.training.checkpoint.os.fsync", full)
        second = backend.submit(request(epochs=2))
        with pytest.raises(StoreError, match="No space left"):
            second.result(60)
    backend.submit(request(name="other", epochs=1)).result(60)  # by then the one before is cleared up after
    assert first.info.id in folders(tmp_path)
    assert backend.submit(request(epochs=4, resume=True)).result(60).epochs == 4


def test_a_line_that_was_refused_is_not_the_one_that_is_gone_on_with(tmp_path: Path) -> None:
    backend = LocalBackend(str(tmp_path))
    backend.submit(request(epochs=2)).result(60)
    for wrong in ({"batch_size": 7}, {"seed": 4}):
        with pytest.raises(OptionError, match="another"):
            backend.submit(TrainRequest(name="m", resume=True, epochs=4, **wrong)).result(60)
    with pytest.raises(MaasError):
        backend.submit(request(metrics=("no such",))).result(60)
    assert backend.submit(TrainRequest(name="m", resume=True, epochs=4)).result(60).epochs == 4


def test_removing_a_model_removes_its_state_at_once_and_a_version_does_not(tmp_path: Path) -> None:
    backend = LocalBackend(str(tmp_path))
    ids = {}
    for name in ("m", "m", "other"):
        job: Any = backend.submit(request(name=name, epochs=2))
        job.result(60)
        ids[name] = job.id
    last: Any = backend.submit(request(name="last", epochs=1))  # the one before it has been tidied up after
    last.result(60)
    backend.models.delete("m:2")
    assert ids["m"] in folders(tmp_path)
    LocalBackend(str(tmp_path)).models.delete("m")
    assert folders(tmp_path) - {last.id} == {ids["other"]}
    with pytest.raises(OptionError, match="no checkpoint of a training of 'm'"):
        backend.submit(request(resume=True))


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), StoreError("locked")])
def test_tidying_up_that_fails_leaves_the_next_training_its_turn(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = LocalBackend(str(tmp_path / "store"))

    def names() -> list[str]:
        raise error

    monkeypatch.setattr(backend.trainings, "_names", names)
    for _ in range(2):
        assert backend.submit(request(epochs=2, checkpoint_every="1")).result(120).epochs == 2


def test_checkpoints_that_are_taken_up_meanwhile_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = LocalBackend(str(tmp_path / "store"))

    def moved(self: Path, pattern: str) -> Any:
        raise FileNotFoundError(self)
        yield

    monkeypatch.setattr(Path, "glob", moved)
    assert not backend.trainings.has("any") and backend.trainings._written("any") == []
