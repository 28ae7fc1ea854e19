"""Bounds of a service's jobs: told, defaulted, and held."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from serving import Service, remote

from maas_magics.api.errors import DataError, MaasError, Refused
from maas_magics.api.events import Message
from maas_magics.api.requests import TrainRequest
from maas_magics.core.store.uploads import Uploads
from maas_magics.local.limits import Limits
from maas_magics.remote.backend import RemoteBackend
from maas_magics.service.__main__ import main

FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 3)), columns=list("aby"))
OPTIONS = (
    "--max-epochs",
    "--max-workers",
    "--max-threads",
    "--max-upload",
    "--max-uploads",
    "--worker-memory",
    "--worker-cpu",
)


def request(**given: Any) -> TrainRequest:
    return TrainRequest(**{"name": "m", "data": FRAME, "target": "y", "model": "linear"} | given)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    words = [
        "--max-epochs",
        "5",
        "--max-workers",
        "2",
        "--max-threads",
        "1",
        "--max-upload",
        "0.5",
        "--worker-cpu",
        "0.002",
    ]
    made = Service(tmp_path_factory.mktemp("limits"), *words, "--worker-memory", "20000")
    yield made
    made.stop()


@pytest.fixture
def backend(served: Service) -> Iterator[RemoteBackend]:
    with remote(served.url, served.token) as made:
        yield made


def test_help_tells_every_limit_and_its_default() -> None:
    done = subprocess.run([sys.executable, "-m", "maas_magics.service", "--help"], capture_output=True, text=True)
    told = " ".join(done.stdout.split())
    for option in OPTIONS:
        assert option in told
    assert "1000000" in told and "(default: 128)" in told and "(default: 1000.0)" in told


def test_the_lines_at_the_start_tell_them(served: Service) -> None:
    assert served.process.stdout is not None
    assert served.process.stdout.readline() == (
        "Limits: epochs 5, workers 2, threads 1, an upload 0.5 MB, a worker's address space 20,000 MB, "
        "a worker's CPU time 0.002 h\n"
    )


@pytest.mark.parametrize(
    ("asked", "told", "hint"),
    [
        ({"epochs": 6}, "--epochs 6 is more than this service takes: 5", "--epochs 5.*--max-epochs"),
        ({"workers": 3}, "--workers 3 is more", "--max-workers"),
        ({"loader_workers": 1000}, "--loader-workers 1,000 is more", "--loader-workers 2.*--max-workers"),
        ({"threads": 2}, "--threads 2 is more", "--max-threads"),
    ],
)
def test_what_is_above_a_limit_is_refused_with_it(
    asked: dict[str, Any], told: str, hint: str, backend: RemoteBackend
) -> None:
    with pytest.raises(Refused, match=told) as caught:
        backend.submit(request(**asked))
    import re

    assert re.search(hint, caught.value.hint)


def test_what_leaves_the_choice_to_us_stays_within(backend: RemoteBackend) -> None:
    assert backend.submit(request()).result(600).epochs <= 5


def test_an_upload_above_the_limit_is_refused(backend: RemoteBackend) -> None:
    many = pd.DataFrame(np.random.default_rng(0).normal(size=(60_000, 3)), columns=list("aby"))
    with pytest.raises(DataError, match="bytes were announced; 1 to 524,288 are accepted") as caught:
        backend.submit(request(data=many, epochs=1))
    assert "--max-upload" in caught.value.hint


def test_all_uploads_together_have_room_on_disk_up_to_a_limit(tmp_path: Path) -> None:
    first, second = os.urandom(600), os.urandom(600)
    names = [hashlib.sha256(data).hexdigest() for data in (first, second)]
    uploads = Uploads(tmp_path / "data", room=1_000)
    assert uploads.append(names[0], 0, first[:300], 600) == 300
    assert uploads.append(names[1], 0, second[:100], 600) == 100, "what was announced is no room taken yet"
    assert uploads.append(names[0], 300, first[300:], 600) == -1
    with pytest.raises(DataError, match="no room for 500 bytes: all uploads may take 1,000, and take 700") as caught:
        uploads.append(names[1], 100, second[100:], 600)
    assert "--max-uploads" in caught.value.hint and uploads.offset(names[1]) == 100
    assert uploads.append(names[0], 0, first, 600) == -1, "what is there needs no room"
    (tmp_path / "data" / names[0]).unlink()
    assert uploads.append(names[1], 100, second[100:], 600) == -1


def test_the_service_bounds_all_uploads(tmp_path: Path) -> None:
    served = Service(tmp_path, "--max-uploads", "0.5")
    try:
        with remote(served.url, served.token) as backend:
            assert backend.submit(request(epochs=1)).result(600).ref == "m:1"
            many = pd.DataFrame(np.random.default_rng(0).normal(size=(60_000, 3)), columns=list("aby"))
            with pytest.raises(DataError, match="all uploads may take 524,288") as caught:
                backend.submit(request(data=many, epochs=1))
            assert "--max-uploads" in caught.value.hint
    finally:
        served.stop()


def test_no_limit_is_none() -> None:
    free = Limits(epochs=0, workers=0, threads=0, upload=0, memory=0, cpu=0)
    assert free.bounded(request(epochs=10**9, workers=10**6, threads=10**6)).epochs == 10**9
    assert free.told().count("any") == 6


@pytest.mark.parametrize("value", ["-1", "inf", "nan"])
def test_a_limit_that_makes_no_sense(value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--store", str(tmp_path), "--no-auth", "--port", "0", "--worker-memory", value])
    assert "--worker-memory is" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes")
def test_a_worker_that_uses_up_its_cpu_time_keeps_its_best_epoch_and_says_why(tmp_path: Path) -> None:
    served = Service(tmp_path, "--worker-cpu", "0.005")
    try:
        with remote(served.url, served.token) as backend:
            job = backend.submit(request(epochs=1_000_000, patience=0))
            assert job.result(600).stopped
            told = [e.text for e in job.events() if isinstance(e, Message) and e.level == "warning"]
            assert any("0.005 CPU hours of one worker are used up (--worker-cpu" in text for text in told)
    finally:
        served.stop()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space")
def test_a_worker_that_asks_for_too_much_memory_says_what_bounds_it(tmp_path: Path) -> None:
    served = Service(tmp_path, "--worker-memory", "12000")
    try:
        with remote(served.url, served.token) as backend:
            with pytest.raises(MaasError, match="12,000 MB of address space") as caught:
                backend.submit(request(model="mlp", params={"hidden": (100_000, 100_000)}, epochs=1)).result(600)
            assert caught.value.hint
            assert backend.submit(request(epochs=1)).result(600).ref == "m:1"
    finally:
        served.stop()
