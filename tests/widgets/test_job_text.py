"""A job's text in a notebook and on a service."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import pytest
from IPython.lib.pretty import pretty

from maas_magics.api.backend import JobInfo
from maas_magics.api.errors import ServiceError
from maas_magics.job import LoggedJob
from maas_magics.remote.client import Client
from maas_magics.remote.job import RemoteJob


def test_what_stays_in_a_notebook_is_true_later_too() -> None:
    job, go = LoggedJob[Any](JobInfo("ab12", "train m", "m", "running", time.time())), threading.Event()
    assert repr(job) == "<Job ab12 · train m · running>"
    assert re.fullmatch(r"<Job ab12 · train m · since \d\d:\d\d:\d\d>", pretty(job))
    go.set()
    job.carry_out(go.wait)
    assert repr(job) == pretty(job) == "<Job ab12 · train m · succeeded>"
    paused = LoggedJob[Any](JobInfo("ab12", "train m", "m", "paused", 0.0))
    assert re.fullmatch(r"<Job ab12 · train m · paused at \d\d:\d\d:\d\d>", pretty(paused))


def test_a_job_of_a_service_is_asked_for_and_says_so_when_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*args: Any, **kwargs: Any) -> Any:
        assert kwargs["patience"] == 0.0, "a text must not hold a cell up"
        raise ServiceError("no route")

    monkeypatch.setattr(Client, "request", gone)
    client = Client("http://127.0.0.1:9", lambda: "")
    job = RemoteJob[Any](JobInfo("ab12", "train m", "m", "running", time.time()), client)
    assert repr(job) == "<Job ab12 · train m · running, when last seen>"
    assert "when last seen" in pretty(job)
