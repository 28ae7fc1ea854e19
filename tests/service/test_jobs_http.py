"""Jobs of a service: uploads that go on, streams that go on, one job for a repeated submit, and sudden deaths."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pandas as pd
import pytest
from serving import Service, halt, remote

from maas_magics.api.errors import DataError, MaasError, OptionError, Refused, ServiceError
from maas_magics.api.events import FINAL_STATES, CheckpointSaved, EpochEnd, Finished, Message, Resumed
from maas_magics.api.requests import EvaluateRequest, PredictRequest, TrainRequest
from maas_magics.api.wire import Code, Uploaded, encode_request
from maas_magics.core.serialization import pack
from maas_magics.core.store.journal import Journal
from maas_magics.local.backend import LocalBackend
from maas_magics.remote.backend import RemoteBackend
from maas_magics.remote.client import Client

FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(3000, 4)), columns=list("abcy"))


def request(name: str = "m", **given: Any) -> TrainRequest:
    return TrainRequest(
        **{"name": name, "data": FRAME, "target": "y", "model": "linear", "epochs": 3, "patience": 0} | given
    )


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path / "service")
    yield made
    made.stop()


@pytest.fixture
def backend(served: Service) -> Iterator[RemoteBackend]:
    with remote(served.url, served.token) as made:
        yield made


def until(job: Any, kind: type[Any]) -> Any:
    return next(event for event in job.events() if isinstance(event, kind))


def worker_of(served: Service, job: str) -> int:
    """Process that runs a job now; 0 if it has ended."""
    journal = Journal(served.store / "jobs.sqlite")
    try:
        while True:
            found = journal.find(job)
            assert found is not None
            if found[0].state in FINAL_STATES:
                return 0
            if found[0].state == "running":
                return int(found[1].split(":")[1])
            time.sleep(0.05)
    finally:
        journal.close()


def frozen(served: Service, backend: RemoteBackend, name: str = "m", least: int = 0) -> tuple[Any, int, int]:
    """A training whose worker stands still in the midst of it, however fast the machine: job, process and epochs."""
    for epochs in (500, 2_000, 8_000, 32_000, 128_000):
        if epochs <= least:
            continue
        job = backend.submit(request(name, epochs=epochs, checkpoint_every="300"))
        until(job, CheckpointSaved)
        if worker := worker_of(served, job.info.id):
            halt(worker, served.store)
            if worker_of(served, job.info.id) == worker:
                return job, worker, epochs
    raise AssertionError("every training had ended before it could be held")


# --- uploads ---


def test_the_same_rows_are_sent_once(served: Service, backend: RemoteBackend) -> None:
    sent: list[int] = []
    original = backend.data.append
    backend.data.append = lambda digest, offset, chunk, total: (  # type: ignore[method-assign]
        sent.append(len(chunk)),
        original(digest, offset, chunk, total),
    )[1]
    backend.submit(request()).result(600)
    first = sum(sent)
    assert first > FRAME.to_numpy().nbytes
    backend.submit(request("n", data=FRAME.copy(), epochs=1)).result(600)
    assert sum(sent) == first and len(list((served.store / "data").iterdir())) == 1


def test_an_upload_goes_on_where_it_broke(served: Service, backend: RemoteBackend) -> None:
    data = os.urandom(3_000_000)
    digest = hashlib.sha256(data).hexdigest()
    assert backend.data.offset(digest) == 0
    assert backend.data.append(digest, 0, data[:1_000_000], len(data)) == 1_000_000
    served.kill()
    served.start()
    assert backend.data.offset(digest) == 1_000_000
    with pytest.raises(DataError, match="The upload is at byte 1,000,000, not 2,000,000"):
        backend.data.append(digest, 2_000_000, data[2_000_000:], len(data))
    backend.data.send(io.BytesIO(data), digest, len(data))
    assert backend.data.offset(digest) == -1 and (served.store / "data" / digest).read_bytes() == data


def test_bytes_with_another_digest_are_dropped(served: Service, backend: RemoteBackend) -> None:
    digest = hashlib.sha256(b"good").hexdigest()
    with pytest.raises(DataError, match="does not have the digest"):
        backend.data.append(digest, 0, b"evil", 4)
    assert backend.data.offset(digest) == 0 and not list((served.store / "data").iterdir())
    for wrong in ("../../etc/passwd", "A" * 64, "0" * 63):
        with pytest.raises(MaasError):
            backend.data.offset(wrong)


def test_a_client_killed_in_mid_upload_leaves_nothing_half(served: Service, backend: RemoteBackend) -> None:
    """Another process sends the same rows and is killed; the next one goes on from there."""
    import subprocess
    import sys

    big = pd.DataFrame(np.random.default_rng(1).normal(size=(200_000, 8)))
    code = f"""
import sys, numpy as np, pandas as pd
from maas_magics.core.serialization import pack
from maas_magics.remote import backend as there
from maas_magics.remote.client import Client
from maas_magics.api.requests import TrainRequest
there.CHUNK = 500_000
data = there.RemoteData(Client({served.url!r}, lambda: sys.stdin.readline().strip() or token))
token = sys.stdin.readline().strip()
data._client._token = lambda: token
sent = data.append
def slow(digest, offset, chunk, total):
    print(digest, flush=True)
    return sent(digest, offset, chunk, total)
data.append = slow
frame = pd.DataFrame(np.random.default_rng(1).normal(size=(200_000, 8)))
pack(TrainRequest(name="m", data=frame, target="7"), data.send)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(served.token + "\n")
    process.stdin.flush()
    digest = [process.stdout.readline() for _ in range(5)][-1].strip()
    process.kill()
    process.communicate()
    there = backend.data.offset(digest)
    assert 0 < there < big.to_numpy().nbytes
    packed = pack(TrainRequest(name="m", data=big, target="7"), backend.data.send)
    assert packed.data == Uploaded(digest) and backend.data.offset(digest) == -1


@pytest.mark.parametrize(
    "data",
    [
        FRAME,
        FRAME.assign(k=pd.Categorical(np.where(FRAME.a > 0, "u", "v")), t=pd.Timestamp("2024-01-01")).iloc[:500],
        (FRAME[["a", "b"]].to_numpy(np.float32), FRAME["y"].to_numpy()),
        {"a": FRAME["a"].to_numpy(), "y": FRAME["y"].to_numpy()},
    ],
    ids=["frame", "categories and dates", "arrays", "dict"],
)
def test_what_is_trained_there_is_what_is_trained_here(
    data: Any, served: Service, backend: RemoteBackend, tmp_path: Path
) -> None:
    given = {"data": data, "target": None if isinstance(data, tuple) else "y", "model": "linear", "epochs": 2}
    there = backend.submit(request(**given)).result(600)
    here = LocalBackend(str(tmp_path / "here")).submit(request(**given)).result(600)
    assert there.history == here.history and there.info.signature == here.info.signature
    assert there.info.lineage["data"] == here.info.lineage["data"]


# --- requests ---


def test_a_repeated_submit_makes_one_job(served: Service, backend: RemoteBackend) -> None:
    body = encode_request(pack(request(epochs=1), backend.data.send))
    headers = {**served.headers, "idempotency-key": "k"}
    answers = [httpx2.post(f"{served.url}/maas/v1/jobs", content=body, headers=headers) for _ in range(3)]
    assert len({answer.json()["id"] for answer in answers}) == 1 and answers[0].status_code == 201
    assert len(backend.jobs()) == 1
    backend.job(answers[0].json()["id"]).result(600)
    assert (
        httpx2.post(f"{served.url}/maas/v1/jobs", content=body, headers=headers).json()["id"] == answers[0].json()["id"]
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (TrainRequest(name="m", data="/etc/passwd", target="y"), "does not read files"),
        (TrainRequest(name="m", data=Uploaded("0" * 64), target="y"), "is not on the service"),
        (TrainRequest(name="m", data=Uploaded("../x"), target="y"), "is not a SHA-256 digest"),
        (EvaluateRequest(model="m", data="s3://bucket/x.csv"), "does not read files"),
        (PredictRequest(model="m", data="x.csv"), "does not read files"),
    ],
)
def test_a_request_reads_no_file_of_the_service(asked: Any, told: str, served: Service, backend: RemoteBackend) -> None:
    answer = httpx2.post(f"{served.url}/maas/v1/jobs", content=encode_request(asked), headers=served.headers)
    assert answer.status_code in (400, 403) and told in answer.json()["error"] and backend.jobs() == ()


def test_source_runs_only_where_the_owner_allows_it(served: Service, backend: RemoteBackend) -> None:
    with pytest.raises(Refused, match="does not run code"):
        backend.submit(request(model=Code("import os; os.abort()")))


def test_bytes_that_are_no_request(served: Service, backend: RemoteBackend) -> None:
    for body in (
        b"",
        b"\xc1",
        b"\x81\xa4kind\xa4evil",
        encode_request(request(data=Uploaded("0" * 64)))[:-3],
        b"\x91" * 5000,
    ):
        answer = httpx2.post(f"{served.url}/maas/v1/jobs", content=body, headers=served.headers)
        assert answer.status_code == 400 and answer.json()["kind"] == "OptionError"


# --- streams ---


def test_events_are_server_sent_and_go_on_after_the_last_one_seen(served: Service, backend: RemoteBackend) -> None:
    job = backend.submit(request())
    events = list(job.events())
    with httpx2.stream(
        "GET", f"{served.url}/maas/v1/jobs/{job.info.id}/events", headers={**served.headers, "last-event-id": "2"}
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = list(httpx2.EventSource(answer))
    assert [event.id for event in told] == [str(event.seq) for event in events[2:]]
    assert told[-1].event == "Finished"
    answer = httpx2.get(f"{served.url}/maas/v1/jobs/{job.info.id}/events?after=x", headers=served.headers)
    assert answer.status_code == 400


def test_a_stream_goes_on_when_the_service_comes_back(
    served: Service, backend: RemoteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maas_magics.remote.job.PATIENCE", 300.0)  # a busy machine may take long to start one
    job, worker, epochs = frozen(served, backend)
    seen: list[Any] = []
    error: list[Exception] = []

    def follow() -> None:
        try:
            seen.extend(job.events())
        except Exception as found:
            error.append(found)

    thread = threading.Thread(target=follow)
    thread.start()
    served.kill()
    served.start()
    os.kill(worker, signal.SIGCONT)
    thread.join(600)
    assert not error and [event.seq for event in seen] == list(range(1, len(seen) + 1))
    assert isinstance(seen[-1], Finished) and seen[-1].state == "succeeded"
    assert len(job.result(600).history["loss"]) == epochs


FOLLOW = """
import sys, httpx2
with httpx2.stream("GET", sys.argv[1], headers={"authorization": "Bearer " + sys.argv[2]}, timeout=600) as told:
    for line in told.iter_lines():
        print(line, flush=True)
"""


def test_clients_killed_in_mid_stream_leave_the_job_and_the_service_as_they_were(
    served: Service, backend: RemoteBackend
) -> None:
    def open_files() -> int:
        return len(list(Path(f"/proc/{served.process.pid}/fd").iterdir()))

    job = backend.submit(request(epochs=1_000_000))
    until(job, EpochEnd)
    before = open_files()
    for _ in range(3):
        words = [sys.executable, "-c", FOLLOW, f"{served.url}/maas/v1/jobs/{job.info.id}/events", served.token]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as client:
            assert client.stdout is not None
            assert any(b"EpochEnd" in line for line in client.stdout)
            client.kill()
    job.stop()
    assert job.result(600).stopped
    seqs = [event.seq for event in job.events()]
    assert seqs == sorted(set(seqs))
    deadline = time.monotonic() + 600
    while open_files() > before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert open_files() <= before
    assert not (served.folder / "stderr.log").read_text()


def test_another_client_attaches_and_stops(served: Service, backend: RemoteBackend) -> None:
    job = backend.submit(request(epochs=1_000_000))
    until(job, EpochEnd)
    with remote(served.url, served.token) as other:
        found = other.job(job.info.id[:5])
        events = found.events()
        assert next(events) == next(job.events())
        found.stop()
        assert isinstance(list(events)[-1], Finished)
        assert found.result(600).stopped
    assert job.result(600).stopped and job.info.state == "stopped"


# --- sudden deaths ---


def losses(job: Any) -> list[float]:
    """Losses of the epochs as they were told last."""
    return [
        loss for _, loss in sorted({e.epoch: e.train["loss"] for e in job.events() if isinstance(e, EpochEnd)}.items())
    ]


def whole(folder: Path, epochs: int) -> Any:
    """The same training in this process, from its beginning to its end."""
    return LocalBackend(str(folder / "here")).submit(request("whole", epochs=epochs)).result(600)


def test_a_killed_worker_goes_on_from_its_last_checkpoint(
    served: Service, backend: RemoteBackend, tmp_path: Path
) -> None:
    job, worker, epochs = frozen(served, backend, "killed")
    os.kill(worker, signal.SIGKILL)
    found = losses(job)
    told = list(job.events())
    assert any(isinstance(event, Resumed) for event in told)
    assert any(isinstance(event, Message) and "died (signal 9)" in event.text for event in told)
    expected = whole(tmp_path, epochs)
    assert found == expected.history["loss"] and job.result(600).history == expected.history
    assert job.result(600).info.metrics == expected.info.metrics
    assert len(list((served.store / "jobs" / job.info.id).glob("checkpoint-*"))) == 1  # its last state, to go on from


def test_a_service_that_ends_keeps_its_jobs_state_and_goes_on(
    served: Service, backend: RemoteBackend, tmp_path: Path
) -> None:
    epochs, state = 0, ""
    while state != "queued":  # else it had ended before it was told to give way
        job, worker, epochs = frozen(served, backend, "suspended", least=epochs)
        queued = backend.submit(request("queued", epochs=1))
        os.kill(worker, signal.SIGCONT)
        served.stop()
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
        found = Journal(served.store / "jobs.sqlite").find(job.id)
        assert found is not None
        state = found[0].state
        served.start()
    resumed_losses = losses(job)
    told = list(job.events())
    last = max(
        event.epoch
        for event in told[: next(i for i, e in enumerate(told) if isinstance(e, Resumed))]
        if isinstance(event, EpochEnd)
    )
    resumed = next(event for event in told if isinstance(event, Resumed))
    assert resumed.epoch >= last, "it kept its state when it was told to end, not only now and then"
    assert queued.result(600).ref.startswith("queued:")
    assert resumed_losses == whole(tmp_path, epochs).history["loss"]


def test_a_killed_service_finds_its_workers_again(served: Service, backend: RemoteBackend) -> None:
    job, worker, epochs = frozen(served, backend)
    served.kill()
    os.kill(worker, 0)
    served.start()
    waiting = backend.submit(request("next", epochs=1))
    assert backend.job(job.info.id).info.state == "running"
    os.kill(worker, signal.SIGCONT)
    assert len(job.result(600).history["loss"]) == epochs
    assert waiting.result(600).ref == "next:1"
    assert not any(isinstance(event, Resumed) for event in job.events())


def test_both_killed_at_once_the_job_goes_on(served: Service, backend: RemoteBackend) -> None:
    job, worker, epochs = frozen(served, backend)
    served.kill()
    os.kill(worker, signal.SIGKILL)
    served.start()
    assert len(job.result(600).history["loss"]) == epochs
    assert any(isinstance(event, Resumed) for event in job.events())


def test_a_worker_that_dies_again_and_again_is_given_up(served: Service, backend: RemoteBackend) -> None:
    job = backend.submit(request(epochs=1_000_000))
    while worker := worker_of(served, job.info.id):
        with contextlib.suppress(ProcessLookupError):  # it may have been killed, and not yet been missed
            os.kill(worker, signal.SIGKILL)
        time.sleep(0.05)
    with pytest.raises(MaasError, match="3 times, and the job is given up"):
        job.result(600)
    assert backend.submit(request("other", epochs=1)).result(600).ref == "other:1"


def test_a_locked_journal_is_waited_for(served: Service, backend: RemoteBackend) -> None:
    lock = sqlite3.connect(served.store / "jobs.sqlite", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.append(backend.submit(request(epochs=1))))
    thread.start()
    thread.join(2.0)
    assert not made
    lock.execute("COMMIT")
    lock.close()
    thread.join(600)
    assert made[0].result(600).ref == "m:1"


def test_a_service_that_is_gone_is_told(tmp_path: Path) -> None:
    client = Client("http://127.0.0.1:9", lambda: "")
    with pytest.raises(ServiceError, match="does not answer") as caught:
        client.request("GET", "/v2", patience=0.3)
    assert "%connect local" in caught.value.hint


def test_an_upload_on_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maas_magics.api.errors import StoreError
    from maas_magics.core.store.uploads import Uploads

    data = os.urandom(1000)
    digest = hashlib.sha256(data).hexdigest()
    uploads = Uploads(tmp_path)
    assert uploads.append(digest, 0, data[:400], 1000) == 400
    full: Callable[[int], None] = lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device"))  # noqa: E731
    monkeypatch.setattr("maas_magics.core.store.uploads.os.fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        uploads.append(digest, 400, data[400:], 1000)
    monkeypatch.undo()
    assert uploads.offset(digest) == 400
    assert uploads.append(digest, 400, data[400:], 1000) == -1


def test_values_that_cannot_travel_are_named() -> None:
    with pytest.raises(OptionError, match="loss holds a function, which cannot be sent"):
        encode_request(request(loss=lambda a, b: a, data=Uploaded("0" * 64)))
    sent = encode_request(
        request(data=Uploaded("0" * 64), class_weights=np.array([1.0, 2.0]), params={"hidden": np.int64(3)})
    )
    assert b"hidden" in sent


def test_an_export_is_fetched_from_the_service(served: Service, backend: RemoteBackend, tmp_path: Path) -> None:
    from maas_magics.api.requests import ExportRequest
    from maas_magics.session import Session

    session = Session(str(tmp_path / "store"))
    session._backend, session._remote = backend, True
    session.run(request())
    for out in (tmp_path / "copy" / "m.onnx", tmp_path / "folder"):
        artifact: Any = session.run(ExportRequest(model="m", out=str(out)))
        assert artifact.path == str(out)
    found = (tmp_path / "copy" / "m.onnx").read_bytes()
    assert hashlib.sha256(found).hexdigest() == artifact.digest
    assert (tmp_path / "folder" / "model.onnx").read_bytes() == found
    with pytest.raises(MaasError, match="has no export 'pt2'"):
        backend.exported("m", "pt2")
    answers = session.predict(PredictRequest(model="m", data=FRAME))
    assert len(answers) == len(FRAME) and backend.traffic()["waiting"] == 0


def test_data_that_nobody_named_for_long_is_removed(tmp_path: Path) -> None:
    from maas_magics.core.store.uploads import Uploads

    uploads = Uploads(tmp_path)
    old, new = (hashlib.sha256(data).hexdigest() for data in (b"old", b"new"))
    uploads.append(old, 0, b"old", 3)
    uploads.append(new, 0, b"new", 3)
    for file in tmp_path.iterdir():
        os.utime(file, (1.0, 1.0))
    uploads.path(new)
    uploads.forget(86_400)
    assert uploads.offset(new) == -1 and uploads.offset(old) == 0


def test_the_model_asked_longest_ago_is_closed_first(filled: Path) -> None:
    whole = LocalBackend(str(filled / "store"))
    for name in ("cells", "net:1", "net:2"):
        whole.load(name)
    sizes = {ref: whole.loader.predictor(ref).size for ref in ("cells:1", "net:1", "net:2")}
    little = LocalBackend(str(filled / "store"), memory=sizes["net:1"] + sizes["net:2"])
    little.load("net:1")
    little.load("net:2")
    little.load("cells")
    assert "cells:1" in little.loaded() and "net:1" not in little.loaded()
    little.infer("net:1", {"x": np.ones((1, 8), np.float32)})
    assert "net:1" in little.loaded(), "it is opened again when it is asked"
