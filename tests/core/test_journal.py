"""Jobs and events on disk: they outlive the process, and wait for other writers."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import pytest
from publishing import output, program

from maas_magics.api.backend import JobInfo
from maas_magics.api.errors import StoreError
from maas_magics.api.events import Event, Finished, Message, Step
from maas_magics.core.store import journal as module
from maas_magics.core.store.journal import Journal

EVENTS: list[Event] = [Message(seq=1, time=1.0, text="hello"), Step(seq=2, step=1, epoch=1, loss=float("nan"), samples=1),
                       Finished(seq=3, state="succeeded")]  # fmt: skip


def info(id: str, created: float = 0.0) -> JobInfo:
    return JobInfo(id, f"train {id}", id, "queued", created)


def test_jobs_and_events_are_kept_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "jobs.sqlite")
    for i, id in enumerate("abc"):
        journal.open(info(id, float(i)), "owner")
    journal.append("b", EVENTS[:2], "running")
    journal.append("b", EVENTS[1:], "succeeded")
    assert [(job.id, job.state) for job, _ in journal.jobs()] == [("c", "queued"), ("b", "succeeded"), ("a", "queued")]
    assert repr(journal.events("b")) == repr(EVENTS)
    assert repr(journal.events("b", after=2)) == repr(EVENTS[2:])
    assert journal.events("nobody") == []


def test_what_one_process_wrote_another_reads(tmp_path: Path) -> None:
    code = """
from maas_magics.api.backend import JobInfo
from maas_magics.api.events import Message
from maas_magics.core.store.journal import Journal
import os
journal = Journal(Path(sys.argv[1]))
journal.open(JobInfo("a", "train a", "a", "queued", 1.0), "me")
journal.append("a", [Message(seq=1, text="é"), Message(seq=2, text="b")], "running")
os._exit(0)
"""
    output(program(code, str(tmp_path / "jobs.sqlite")))
    journal = Journal(tmp_path / "jobs.sqlite")
    assert [(job.state, owner) for job, owner in journal.jobs()] == [("running", "me")]
    assert [event.text for event in journal.events("a") if isinstance(event, Message)] == ["é", "b"]


def test_another_writer_is_waited_for(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "jobs.sqlite")
    journal.open(info("a"), "me")
    other = sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.5, lambda: other.execute("COMMIT"))
    begun = time.monotonic()
    release.start()
    journal.append("a", EVENTS, "succeeded")
    assert time.monotonic() - begun > 0.4
    assert len(journal.events("a")) == 3
    assert [job.state for job, _ in Journal(tmp_path / "jobs.sqlite").jobs()] == ["succeeded"]
    other.close()


def test_a_writer_that_never_ends_is_told_and_later_writes_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT", 0.2)
    journal = Journal(tmp_path / "jobs.sqlite")
    journal.open(info("a"), "me")
    other = sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="database is locked"):
        journal.append("a", EVENTS, "succeeded")
    other.execute("COMMIT")
    other.close()
    assert journal.events("a") == [] and journal.jobs()[0][0].state == "queued"
    journal.append("a", EVENTS, "succeeded")
    assert len(journal.events("a")) == 3


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "jobs.sqlite")
    journal.open(info("a"), "me")
    with pytest.raises(StoreError, match="UNIQUE"):
        journal.open(info("a"), "me")
    journal.append("a", EVENTS, "succeeded")
    assert len(journal.jobs()) == 1 and len(journal.events("a")) == 3


def test_many_processes_may_make_the_file_at_once(tmp_path: Path) -> None:
    code = """
from maas_magics.api.backend import JobInfo
from maas_magics.core.store.journal import Journal
for i in range(20):
    journal = Journal(Path(sys.argv[1]) / f"{i}.sqlite")
    journal.open(JobInfo(sys.argv[2], "t", "m", "queued", 1.0), "me")
    journal.append(sys.argv[2], [], "running")
"""
    for process in [program(code, str(tmp_path), str(number)) for number in range(3)]:
        output(process)
    assert all(len(Journal(tmp_path / f"{i}.sqlite").jobs()) == 3 for i in range(20))


def test_no_database_is_a_short_error(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_text("this is no database, whatever its name may say" * 100)
    with pytest.raises(StoreError, match="cannot be opened: file is not a database") as caught:
        Journal(tmp_path / "jobs.sqlite")
    assert "MAAS_STORE" in caught.value.hint
