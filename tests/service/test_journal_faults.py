"""A journal that is locked or broken costs the jobs their record, and the models nothing."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from serving import Service, in_thread, remote

from maas_magics.api.backend import JobInfo
from maas_magics.api.errors import StoreError
from maas_magics.api.events import Message
from maas_magics.api.requests import EvaluateRequest, PredictRequest, TrainRequest
from maas_magics.core.store.journal import Journal
from maas_magics.local.backend import LocalBackend
from maas_magics.local.process import this_process

X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
ASKED = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 2.0, 3.0]}]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    backend = LocalBackend(str(folder / "store"))
    backend.submit(TrainRequest(name="m", data=X, target=X[:, 0], epochs=2, model="linear")).result(600)
    return folder


def break_it(file: Path) -> None:
    for name in (f"{file}-wal", f"{file}-shm"):
        Path(name).unlink(missing_ok=True)
    file.write_bytes(b"this is no database, whatever its name may say" * 1000)


def body(http: httpx2.Client) -> dict[str, Any]:
    [spec] = http.get("/v2/models/m").json()["inputs"]
    return {"inputs": [{**ASKED["inputs"][0], "name": spec["name"]}]}


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Somebody else writes, and does not end."""
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("COMMIT")
        other.close()


def test_a_service_with_a_broken_journal_serves_its_models(trained: Path) -> None:
    file = trained / "store" / "jobs.sqlite"
    kept = file.read_bytes()
    break_it(file)
    served = Service(trained)
    try:
        with httpx2.Client(base_url=served.url, headers=served.headers, timeout=600) as http:
            assert http.post("/v2/models/m/infer", json=body(http)).status_code == 200
            assert http.get("/v2/health/ready").status_code == 200
            told = http.get("/v1/jobs")
            assert told.status_code >= 500 and "cannot be opened: file is not a database" in told.text
        with remote(served.url, served.token) as backend:
            assert len(backend.predict(PredictRequest(model="m", data=X)).columns) > 0
            with pytest.raises(StoreError, match="cannot be opened"):
                backend.submit(EvaluateRequest(model="m", data=X, target=X[:, 0]))
            # Once it is moved away, as the error says, there are jobs again.
            file.rename(file.with_suffix(".broken"))
            time.sleep(2.1)
            assert backend.submit(EvaluateRequest(model="m", data=X, target=X[:, 0])).result(600).rows == 60
    finally:
        served.stop()
        file.write_bytes(kept)
    assert (trained / "stderr.log").read_text().count("cannot be opened") == 1, "told once, not with every look"


def test_a_journal_that_breaks_while_it_is_used_is_a_short_error(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "jobs.sqlite")
    for i in range(200):
        journal.open(JobInfo(f"{i}", "t", "m", "queued", 1.0), "me")
    journal.close()
    journal = Journal(tmp_path / "jobs.sqlite")
    with open(tmp_path / "jobs.sqlite", "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 16384)
    for act in (journal.jobs, lambda: journal.events("1"), lambda: journal.find("1"), lambda: journal.stop("1")):
        with pytest.raises(StoreError, match="cannot be (read|written)"):
            act()


def test_reading_waits_for_nobody_who_writes(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "jobs.sqlite")
    journal.open(JobInfo("a", "t", "m", "queued", 1.0), "me")
    with locked(tmp_path / "jobs.sqlite"):
        writer = threading.Thread(target=lambda: journal.append("a", [Message(seq=1, text="x")], "running"))
        writer.start()
        while not journal._file._lock.locked():
            time.sleep(0.001)
        assert journal.find("a") is not None and journal.events("a") == [] and writer.is_alive()
    writer.join()
    assert len(journal.events("a")) == 1


def test_while_the_journal_is_locked_models_answer_and_jobs_wait(trained: Path) -> None:
    backend = LocalBackend(str(trained / "store"))
    journal = Journal(trained / "store" / "jobs.sqlite")
    journal.open(JobInfo("waits", "train x", "x", "running", 1.0), this_process())
    with in_thread(backend) as url, httpx2.Client(base_url=url, timeout=600) as http:
        sent = body(http)
        with ThreadPoolExecutor(12) as pool:
            with locked(trained / "store" / "jobs.sqlite"):
                stops = [pool.submit(http.post, "/v1/jobs/waits/stop") for _ in range(10)]
                for _ in range(20):
                    assert http.post("/v2/models/m/infer", json=sent).status_code == 200
                    assert http.get("/v2/models/m").status_code == 200, "what asks for no job waits behind none"
                    assert http.get("/v1/models").status_code == 200
                    assert http.get("/v1/jobs/waits").json()["state"] == "running"
                assert not any(stop.done() for stop in stops)
            assert [stop.result().status_code for stop in stops] == [202] * 10
    assert journal.stops("waits") == 10
    journal.append("waits", [], "stopped")


def test_a_follower_that_leaves_frees_its_thread_at_once(trained: Path) -> None:
    backend = LocalBackend(str(trained / "store"))
    journal = Journal(trained / "store" / "jobs.sqlite")
    journal.open(JobInfo("quiet", "train x", "x", "running", 1.0), this_process())
    journal.append("quiet", [Message(seq=1, text="begun")], "running")
    with in_thread(backend) as url, httpx2.Client(base_url=url, timeout=600) as http:
        http.get("/v1/jobs")
        before = threading.active_count()
        followers = []
        for _ in range(30):
            follower = http.stream("GET", "/v1/jobs/quiet/events")
            told = follower.__enter__()
            assert next(told.iter_lines()) == "id: 1"
            followers.append(follower)
        assert threading.active_count() <= before + 4, "nobody who follows holds a thread"
        for follower in followers:
            follower.__exit__(None, None, None)
        assert http.get("/v1/jobs/quiet").json()["state"] == "running"
    journal.append("quiet", [], "stopped")
