"""A service's training on several processes: its module sent as graphs, its end and its worker's death."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from serving import Service, remote, wait_for
from torch import nn

from maas_magics.api.errors import OptionError
from maas_magics.api.events import CheckpointSaved, EpochEnd, Message, Resumed, Started
from maas_magics.api.requests import TrainRequest
from maas_magics.core.store.journal import Journal
from maas_magics.remote.backend import RemoteBackend

X = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
Y = X[:, 0] - X[:, 1]
LONG = 800


def request(name: str, **given: Any) -> TrainRequest:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))
    return TrainRequest(**{"name": name, "data": X, "target": Y, "model": net, "epochs": 3} | given)


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


def workers(store: Path) -> list[int]:
    """Process ids of the workers whose folder is in a store."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"maas_magics.core.training.distributed" in words and any(w.startswith(bytes(store)) for w in words):
            found.append(int(place.name))
    return found


def test_a_service_trains_on_two_processes_as_on_one(backend: RemoteBackend) -> None:
    one = backend.submit(request("one")).result(600)
    job = backend.submit(request("two", workers=2))
    two = job.result(600)
    assert two.info.metrics == pytest.approx(one.info.metrics, abs=1e-5)
    assert two.history["loss"] == pytest.approx(one.history["loss"], abs=1e-5)
    assert until(job, Started).summary["workers"] == "2 processes"
    with pytest.raises(OptionError, match="too few for 99 workers"):
        backend.submit(request("many", workers=99)).result(600)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the workers in /proc")
def test_its_process_is_killed_and_the_service_ends_and_it_goes_on(served: Service, backend: RemoteBackend) -> None:
    job = backend.submit(request("m", workers=2, epochs=LONG))
    until(job, CheckpointSaved)
    found = Journal(served.store / "jobs.sqlite").find(job.id)
    assert found is not None
    before = workers(served.store)
    assert len(before) == 2
    os.kill(int(found[1].rsplit(":", 2)[1]), signal.SIGKILL)
    until(job, Resumed)
    assert not set(before) & set(workers(served.store))
    told = len([event for event in job.events(follow=False) if isinstance(event, EpochEnd)])
    wait_for(lambda: len([event for event in job.events(follow=False) if isinstance(event, EpochEnd)]) >= told + 5)
    served.stop()
    assert not workers(served.store)
    served.start()
    result = job.result(600)
    assert result.epochs == LONG and not result.stopped
    told_all = list(job.events())
    assert sum(isinstance(event, Resumed) for event in told_all) == 2
    assert any(isinstance(event, Message) and "died (signal 9)" in event.text for event in told_all)
