"""Jobs of other processes, dead and alive, read from the journal."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maas_magics.api.backend import JobInfo
from maas_magics.api.errors import DataError, JobNotFound, MaasError
from maas_magics.api.events import EpochEnd, Finished, Message, Resumed, Started
from maas_magics.api.requests import PredictRequest, TrainRequest
from maas_magics.core import dispatch as tasks
from maas_magics.core.context import Context
from maas_magics.core.inference.loader import Loader
from maas_magics.core.store.journal import Journal
from maas_magics.core.store.models import Store
from maas_magics.core.training.checkpoint import Checkpoints
from maas_magics.local.backend import LocalBackend
from maas_magics.local.job import LocalJob
from maas_magics.local.process import _started
from maas_magics.local.process import alive as _alive

CODE = """
import sys, time, numpy as np
from maas_magics.api.requests import TrainRequest
from maas_magics.local.backend import LocalBackend
X = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
backend = LocalBackend(sys.argv[1])
job = backend.submit(TrainRequest(name="m", data=X, target=X[:, 0], model="linear", epochs=int(sys.argv[2])))
print(job.info.id, flush=True)
sys.stdin.readline()
job.stop()
job.result()
"""


@pytest.fixture
def other(store: Path) -> Iterator[Any]:
    """Function that starts a training in another process: the process and the job's id."""
    started: list[subprocess.Popen[str]] = []

    def start(epochs: int) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, str(store), str(epochs)], stdin=-1, stdout=-1, text=True
        )
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_job_of_a_living_process_is_followed_to_its_end(other: Any, store: Path) -> None:
    process, id = other(10_000_000)
    backend = LocalBackend(str(store))
    job = backend.job(id)
    events = job.events()
    seen = []
    for event in events:
        seen.append(event)
        if isinstance(event, EpochEnd):
            break
    assert job.info.state == "running" and backend.jobs()[0].state == "running"
    with pytest.raises(TimeoutError):
        job.result(0.1)
    job.stop()
    seen += list(events)
    assert isinstance(seen[0], Started) and isinstance(seen[-1], Finished) and seen[-1].state == "stopped"
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    assert job.info.state == "stopped"
    assert job.result().ref == "m:1" and job.result().stopped
    job.stop()
    assert process.poll() is None, "its process was asked, not killed"


def test_a_job_of_a_killed_process_has_failed(other: Any, store: Path) -> None:
    process, id = other(10_000_000)
    backend = LocalBackend(str(store))
    job = backend.job(id)
    events = job.events()
    next(event for event in events if isinstance(event, EpochEnd))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    rest = list(events)
    assert isinstance(rest[-1], Finished) and rest[-1].state == "failed" and "is gone" in str(rest[-1].error)
    assert job.info.state == "failed" and [info.state for info in backend.jobs()] == ["failed"]
    assert not any(isinstance(event, Finished) for event in job.events(follow=False))
    with pytest.raises(MaasError, match="is gone"):
        job.result()


def test_a_job_that_failed_elsewhere_raises_what_it_raised(store: Path) -> None:
    job = LocalBackend(str(store)).submit(TrainRequest(name="m", data=np.ones((9, 2)), target=np.ones(9), epochs=1))
    with pytest.raises(DataError) as there:
        job.result()
    with pytest.raises(DataError) as here:
        LocalBackend(str(store)).job(job.info.id).result()
    assert (here.value.message, here.value.hint) == (there.value.message, there.value.hint)


def test_a_number_used_again_is_not_the_same_process(store: Path) -> None:
    journal = Journal(store / "jobs.sqlite")
    host = os.uname().nodename
    reused = f"{host}:{os.getpid()}:1"
    journal.open(JobInfo("aaaa0000", "train m", "m", "running", 1.0), reused)
    journal.append("aaaa0000", [Message(seq=1, text="begun")], "running")
    assert not _alive(reused) and _alive(f"{host}:{os.getpid()}:{_started(os.getpid())}")
    assert _alive("elsewhere.example:1:2"), "of another machine nothing can be known"
    job = LocalBackend(str(store)).job("aaaa")
    assert job.info.state == "failed"
    assert [type(event) for event in job.events()] == [Message, Finished]
    assert [event.seq for event in job.events(after=1)] == [2]


def test_a_job_outlives_its_backend(store: Path) -> None:
    X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    first = LocalBackend(str(store))
    job = first.submit(TrainRequest(name="m", data=X, target=X[:, 0], model="linear", epochs=3))
    events = list(job.events())
    past = LocalBackend(str(store)).job(job.info.id)
    assert list(past.events()) == events and past.info == job.info
    assert past.result() == job.result()
    with pytest.raises(JobNotFound):
        LocalBackend(str(store / "other")).job(job.info.id)


def test_a_journal_that_cannot_be_written_costs_its_record_but_not_the_job(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    monkeypatch.setattr("maas_magics.core.store.journal.WAIT", 0.1)
    backend = LocalBackend(str(store))
    job = backend.submit(TrainRequest(name="a", data=X, target=X[:, 0], model="linear", epochs=1_000_000))
    next(event for event in job.events() if isinstance(event, EpochEnd))
    import sqlite3

    locker = sqlite3.connect(store / "jobs.sqlite", isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    job.stop()
    assert job.result(30).ref == "a:1" and isinstance(list(job.events())[-1], Finished)
    locker.execute("COMMIT")
    locker.close()
    again = backend.submit(TrainRequest(name="b", data=X, target=X[:, 0], model="linear", epochs=1))
    assert again.result(30).ref == "b:1" and [info.state for info in backend.jobs()] == ["succeeded", "stopped"]
    assert [info.state for info in LocalBackend(str(store)).jobs()] == ["succeeded", "stopped"], "it was written later"
    further = backend.submit(TrainRequest(name="a", resume=True))
    next(event for event in further.events() if isinstance(event, EpochEnd))
    further.stop()
    assert further.result(30).ref == "a:2"


LEAVES = (
    CODE[: CODE.index("sys.stdin")]
    + """
from maas_magics.api.events import EpochEnd
next(event for event in job.events() if isinstance(event, EpochEnd))
"""
)


def test_a_process_that_ends_keeps_what_its_training_came_to(store: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LEAVES, str(store), "10000000"], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    backend = LocalBackend(str(store))
    assert backend.jobs()[0].state == "failed"
    X = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
    again = TrainRequest(name="m", data=X, target=X[:, 0], model="linear", epochs=10_000_000, resume=True)
    job = backend.submit(again)
    seen = next(event for event in job.events() if isinstance(event, (Resumed, Finished)))
    job.stop()
    assert isinstance(seen, Resumed) and seen.epoch > 1 and job.result(60).stopped


def test_answers_belong_to_whoever_asked(store: Path) -> None:
    X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    backend = LocalBackend(str(store))
    backend.submit(TrainRequest(name="m", data=X, target=X[:, 0], model="linear", epochs=1)).result()
    job = backend.submit(PredictRequest(model="m", data=X))
    answers, id = weakref.ref(job.result().columns["prediction"]), job.info.id
    del job
    deadline = time.monotonic() + 60
    while answers() is not None and time.monotonic() < deadline:  # the worker's thread lets go of it a moment later
        gc.collect()
        time.sleep(0.02)
    assert answers() is None and backend.job(id).info.state == "succeeded"


def test_what_was_told_is_written_down_before_the_state_that_comes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that goes on from a state tells nothing of the epochs before it again."""
    store, journal = Store(str(tmp_path / "store")), Journal(tmp_path / "jobs.sqlite")
    info = JobInfo("a", "train m", "m", "queued", 0.0)
    journal.open(info, "")
    job = LocalJob[Any](info, journal, flush=1e9)
    context = Context(store, Loader(store), job.emit, job.stopping, checkpoints=tmp_path / "a", written=job.written)
    seen: list[tuple[int, int]] = []
    save = Checkpoints.save

    def saved(self: Checkpoints, state: dict[str, Any]) -> None:
        save(self, state)
        told = Journal(tmp_path / "jobs.sqlite").events("a")
        seen.append((sum(isinstance(event, EpochEnd) for event in told), len(state["history"]["curves"]["loss"])))

    monkeypatch.setattr(Checkpoints, "save", saved)
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    request = TrainRequest(name="m", data=x, target=x[:, 0], model="linear", epochs=6, checkpoint_every="3")
    job.run(lambda: tasks.run(request, context))
    job.result(60)
    assert len(seen) > 2 and all(told == done for told, done in seen)


def test_a_backend_that_no_one_needs_is_gone(tmp_path: Path) -> None:
    """With the models that it has open: each store that a notebook was connected to would keep its own else."""
    backend = LocalBackend(str(tmp_path))
    x = np.arange(40, dtype=np.float32)[:, None]
    request = TrainRequest(name="m", data=(x, x[:, 0] * 2), model="linear", epochs=1)
    backend.submit(request).result(60)
    backend.submit(request).result(60)
    backend.predict(PredictRequest(model="m", data=x))
    gone = weakref.ref(backend), weakref.ref(backend.loader)
    del backend
    until = time.monotonic() + 60
    while (
        any(one() is not None for one in gone) and time.monotonic() < until
    ):  # the thread lets go of the last training
        time.sleep(0.02)
        gc.collect()
    assert [one() for one in gone] == [None, None]
