"""One owner for each job: two services on one store, pauses, deaths, and workers that hang."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from serving import Service, halt, in_thread, remote, wait_for

from maas_magics.api.backend import JobInfo
from maas_magics.api.errors import Stopped
from maas_magics.api.events import CheckpointSaved, EpochEnd, Message, Resumed, Started
from maas_magics.api.requests import TrainRequest
from maas_magics.core.store.journal import Journal
from maas_magics.local import keeper as module
from maas_magics.local.pool import ServiceBackend
from maas_magics.local.process import alive, here, this_process
from maas_magics.remote.backend import RemoteBackend

FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(2000, 3)), columns=list("aby"))
LONG = 6000
"""Epochs that take a few seconds, a few checkpoints long."""


def request(name: str = "m", **given: Any) -> TrainRequest:
    return TrainRequest(
        **{"name": name, "data": FRAME, "target": "y", "model": "linear", "epochs": 3, "patience": 0, "batch_size": 256}
        | given
    )


def until(job: Any, kind: type[Any]) -> Any:
    return next(event for event in job.events() if isinstance(event, kind))


def warnings(job: Any) -> list[str]:
    return [event.text for event in job.events() if isinstance(event, Message) and event.level == "warning"]


def owner(store: Path, job: str) -> str:
    """Name of the process that runs a job, once one does."""
    journal = Journal(store / "jobs.sqlite")
    try:
        return wait_for(lambda: [held.owner for held in journal.held(job) if held.info.state == "running"])[0]
    finally:
        journal.close()


def number(process: str) -> int:
    return here(process) or 0


def ended(process: str) -> None:
    """Wait until a process is no more: whoever took it over may be in no hurry to look."""
    wait_for(lambda: not alive(process))


@contextmanager
def service(store: Path) -> Iterator[RemoteBackend]:
    """A service in this process, whose workers have processes of their own."""
    backend = ServiceBackend(str(store))
    try:
        with in_thread(backend) as url, remote(url) as made:
            yield made
    finally:
        backend.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE", 15.0)


# --- the journal ---


def test_a_job_changes_hands_only_from_the_one_that_has_it(tmp_path: Path) -> None:
    journal, other = Journal(tmp_path / "jobs.sqlite"), Journal(tmp_path / "jobs.sqlite")
    journal.open(JobInfo("a", "train m", "m", "queued", 1.0), "one", request=b"x", keeper="one")
    [seen] = other.held()
    assert (seen.owner, seen.keeper) == ("one", "one")
    assert not other.take("a", "worker", "two")
    assert other.keep(seen, "two") and not journal.keep(seen, "three"), "who looked before comes too late"
    assert not journal.take("a", "late", "one")
    assert other.take("a", "worker", "two") and not other.take("a", "second", "two")
    assert journal.beat("a", "worker") and not journal.beat("a", "late")
    journal.append("a", [Message(seq=1, text="late")], "failed", owner="late")
    assert journal.events("a") == [] and journal.held()[0].info.state == "running"
    [seen] = journal.held()
    assert journal.take_back(seen, [Message(seq=1, text="dead")]) and not other.take_back(seen, [])
    assert [(job.info.state, job.owner) for job in journal.held()] == [("queued", "two")]
    journal.take("a", "again", "two")
    assert journal.give_way("a", []) == "queued" and journal.held()[0].owner == "two"


def test_a_journal_of_before_is_read_and_its_jobs_are_taken_up(tmp_path: Path) -> None:
    import sqlite3

    old = sqlite3.connect(tmp_path / "jobs.sqlite")
    old.execute(
        "CREATE TABLE jobs (id TEXT PRIMARY KEY, title TEXT NOT NULL, model TEXT NOT NULL, state TEXT NOT NULL, "
        "created REAL NOT NULL, owner TEXT NOT NULL, key TEXT NOT NULL DEFAULT '', stops INTEGER NOT NULL DEFAULT 0, "
        "request BLOB, result BLOB, pause INTEGER NOT NULL DEFAULT 0)"
    )
    old.execute("INSERT INTO jobs VALUES ('a', 'train m', 'm', 'running', 1.0, 'gone:1:2', '', 0, x'00', NULL, 0)")
    old.commit()
    old.close()
    journal = Journal(tmp_path / "jobs.sqlite")
    [seen] = journal.held()
    assert seen.keeper == "" and journal.keep(seen, "me")


# --- services ---


def test_two_services_on_one_store_run_each_job_once(tmp_path: Path) -> None:
    first = Service(tmp_path / "first")
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "store").symlink_to(first.store)
    second = Service(tmp_path / "second")
    try:
        with remote(first.url, first.token) as one, remote(second.url, second.token) as two:
            jobs = [each.submit(request(f"m{i}", epochs=400)) for i in range(1) for each in (one, two)]
            assert two.job(jobs[0].info.id).info.state in ("queued", "running", "succeeded")
            for job in jobs:
                job.result(600)
            for job in jobs:
                told = list(job.events())
                assert [type(e) for e in told if isinstance(e, (Started, Resumed))] == [Started]
                assert not warnings(job)
            assert [[info.version for info in one.models.versions(f"m{i}")] for i in range(1)] == [[1, 2]]
            # One that is killed leaves its jobs to the other.
            left = one.submit(request("left", epochs=1))
            first.kill()
            assert two.job(left.id).result(600).ref == "left:1"
    finally:
        first.stop()
        second.stop()


def test_pause_and_resume_say_nothing_alarming(tmp_path: Path) -> None:
    with service(tmp_path / "store") as backend:
        job = backend.submit(request(epochs=LONG, checkpoint_every="1s"))
        until(job, EpochEnd)
        for _ in range(2):
            job.pause()
            wait_for(lambda: job.info.state == "paused")
            job.resume()
            owner(tmp_path / "store", job.info.id)
        assert len(job.result(600).history["loss"]) == LONG
        assert not warnings(job)


def test_after_a_kill_of_both_there_is_one_start_and_it_is_told_truly(tmp_path: Path) -> None:
    served = Service(tmp_path)
    try:
        with remote(served.url, served.token) as backend:
            job = backend.submit(request(epochs=LONG, checkpoint_every="1s"))
            until(job, CheckpointSaved)
            worker = owner(served.store, job.info.id)
            served.kill()
            os.kill(number(worker), signal.SIGKILL)
            served.start()
            assert len(job.result(600).history["loss"]) == LONG
            assert warnings(job) == ["The worker process died. The job resumes from its last checkpoint."]
            assert len([event for event in job.events() if isinstance(event, Resumed)]) == 1
    finally:
        served.stop()


@pytest.mark.usefixtures("impatient")
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="halts a process")
def test_a_worker_that_hangs_is_noticed_and_its_job_goes_on(tmp_path: Path) -> None:
    with service(tmp_path / "store") as backend:
        job = backend.submit(request(epochs=LONG, checkpoint_every="1s"))
        until(job, CheckpointSaved)
        worker = owner(tmp_path / "store", job.info.id)
        halt(number(worker), tmp_path / "store")
        assert len(job.result(600).history["loss"]) == LONG
        [told] = warnings(job)
        assert told.startswith("The worker process gave no sign of life for 15 s, and was ended.")
        assert told.endswith("The job resumes from its last checkpoint.")
        ended(worker)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="halts a process")
@pytest.mark.parametrize("adopted", [False, True])
def test_three_stops_end_a_hung_job_for_good(adopted: bool, tmp_path: Path) -> None:
    served = Service(tmp_path)
    try:
        with remote(served.url, served.token) as backend:
            job = backend.submit(request(epochs=1_000_000, checkpoint_every="1s"))
            until(job, CheckpointSaved)
            worker = owner(served.store, job.info.id)
            halt(number(worker), served.store)
            if adopted:
                served.kill()
                served.start()
            for _ in range(3):
                assert job.info.state == "running"
                job.stop()
            with pytest.raises(Stopped, match="ignored three stops.*--resume resumes"):
                job.result(600)
            assert job.info.state == "stopped" and list(job.events())[-1].error is not None
            ended(worker)
            assert backend.submit(request("m", epochs=1)).result(600).ref == "m:1"
    finally:
        served.stop()


def test_a_worker_that_was_held_for_dead_leaves_at_once_and_writes_nothing(tmp_path: Path) -> None:
    with service(tmp_path / "store") as backend:
        job = backend.submit(request(epochs=1_000_000, checkpoint_every="1s"))
        until(job, EpochEnd)
        worker = owner(tmp_path / "store", job.info.id)
        journal = Journal(tmp_path / "store" / "jobs.sqlite")
        [seen] = journal.held()
        assert journal.keep(seen, this_process().replace(str(os.getpid()), str(os.getppid())))
        assert journal.take_back(journal.held()[0], [])
        told = len(journal.events(job.info.id))
        ended(worker)
        assert len(journal.events(job.info.id)) == told
        job.stop()
