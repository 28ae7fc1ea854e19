"""A small store as an earlier version of the package makes it, packed: ``python make_store.py FOLDER ARCHIVE``.

Run with that version on ``PYTHONPATH``: for ``store-0.1.tar.gz`` with that of the commit 9b5173f. The archive holds
``store/``, ``asked.json`` (what each model was asked, and what it answered) and ``expected.json`` (what became of each
job, and what a training and a sweep that were never interrupted came to).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from maas_magics.core.portable import pack
from torch import nn

from maas_magics.api.errors import MaasError
from maas_magics.api.events import CheckpointSaved
from maas_magics.api.requests import ExportRequest, PredictRequest, TrainRequest
from maas_magics.local.backend import LocalBackend
from maas_magics.local.pool import ServiceBackend
from maas_magics.session import Session

rng = np.random.default_rng(0)
N = 80
FRAME = pd.DataFrame(
    {
        "size": np.where(rng.random(N) < 0.15, np.nan, rng.normal(size=N)).round(3),
        "count": rng.integers(0, 100, N),
        "flag": rng.integers(0, 2, N).astype(bool),
        "kind": pd.Series(rng.choice(["p", "q", "ä r"], N)).mask(rng.random(N) < 0.15),
        "when": pd.Series(
            pd.Timestamp("2020-01-01 06:30") + pd.to_timedelta(rng.integers(0, 90_000, N), unit="min")
        ).mask(rng.random(N) < 0.15),
    }
)
FRAME["label"] = np.where(FRAME["count"] > 60, "high", np.where(FRAME["count"] > 25, "middle", "low"))
X = rng.normal(size=(60, 5)).round(3).astype(np.float32)
Y = (X @ np.arange(5, dtype=np.float32)).round(3)
PICTURES = rng.normal(size=(40, 1, 8, 8)).round(2).astype(np.float32)
SHADE = (PICTURES.mean(axis=(1, 2, 3)) > 0).astype(np.int64)
TAGS = pd.DataFrame((X[:, :3] > 0).astype(np.int64), columns=["warm", "dry", "far"])
TAGGED = pd.concat([pd.DataFrame(X, columns=list("abcde")), TAGS], axis=1)

SWEEP = {
    "data": FRAME,
    "target": "label",
    "model": "mlp",
    "params": {"bins": 4, "members": 2},
    "epochs": 3,
    "seed": 5,
    "threads": 1,
}
SPACE = "lr=1e-3..1e-1 log, hidden=[4, 8]"
RESUMED = ("train table", "train ended", "train paused", "train killed")
"""Trainings whose checkpoints are kept."""

LONG = {"model": "linear", "patience": 0, "threads": 1, "seed": 3, "validation": 0.2, "schedule": "cosine", "lr": 0.01}


def rows_of(data: Any) -> dict[str, Any]:
    """Rows as plain values."""
    if isinstance(data, pd.DataFrame):
        data = data.astype({name: str for name in data if str(data[name].dtype).startswith("datetime")})
        values = data.astype(object).where(data.notna() & (data != "NaT"), None)
        return {"columns": {str(name): values[name].tolist() for name in data}}
    return {"array": np.asarray(data).tolist(), "dtype": str(np.asarray(data).dtype)}


class Own(nn.Module):
    """A module of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(x)))


def wait(until: Callable[[], bool]) -> None:
    """Return once something holds."""
    end = time.monotonic() + 120
    while not until():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)


def anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """A member of the archive without its owner."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def models(place: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Models of every kind, a version twice, an ended training that can go on, and a sweep."""
    session = Session(place, notify=lambda text: None)

    def train(name: str, data: Any, target: Any = None, **options: Any) -> Any:
        return session.run(TrainRequest(name=name, data=data, target=target, threads=1, **options))

    table = {"model": "mlp", "params": {"hidden": (8,), "bins": 4, "members": 2, "embedding": 4}, "epochs": 4}
    train("table", FRAME, "label", **table, metrics=("accuracy", "f1"))
    expected: dict[str, Any] = {"table": table | {"metrics": ("accuracy", "f1"), "threads": 1}}
    session.run(ExportRequest(model="table"))
    train("line", X, Y, model="linear", epochs=3)
    train("line", X, Y, model="linear", epochs=6, lr=0.05)
    session.backend.models.alias("line:1", "prod")
    torch.manual_seed(0)
    train("own", X, Y, model=Own(), source="class Own(nn.Module): …", loss="mse", epochs=3)
    train("pictures", PICTURES, SHADE, model="cnn", params={"channels": (4,)}, epochs=2)
    train("tags", TAGGED, ["warm", "dry", "far"], task="multilabel", **table)
    asked = {}
    for ref, data, options in (
        ("table", FRAME.drop(columns="label").head(12), {}),
        ("table", FRAME.drop(columns="label").head(3), {"top": 2}),
        ("line@prod", X[:9], {}),
        ("line:2", X[:9], {}),
        ("own", X[:9], {}),
        ("pictures", PICTURES[:4], {}),
        ("pictures", PICTURES[:4], {"probabilities": True}),
        ("tags", TAGGED[list("abcde")].head(7), {}),
    ):
        answer = session.predict(PredictRequest(model=ref, data=data, **options))
        asked[f"{ref} {options or ''}".strip()] = {
            "model": ref, "options": options, "rows": rows_of(data), "answer": rows_of(answer)
        }  # fmt: skip

    long = LONG | {"data": X, "target": Y, "checkpoint_every": "2"}
    session.run(TrainRequest(name="ended", epochs=4, **long))
    whole = session.run(TrainRequest(name="ended", epochs=8, resume=True, **long))
    expected["ended"] = {"history": whole.history, "long": {**LONG, "checkpoint_every": "2"}}
    # What a training of eight epochs came to is known now; the one that is kept has ended after four.
    session.backend.models.delete("ended")
    session.run(TrainRequest(name="ended", epochs=4, **long))

    aside = Session(f"{place}-aside", notify=lambda text: None)
    alone = aside.run(TrainRequest(name="alone", data=X, target=Y, epochs=400, checkpoint_every="50", **LONG))
    expected["paused"] = {"history": alone.history}

    with contextlib.suppress(MaasError):
        session.run(TrainRequest(name="wrong", data=FRAME, target="absent"))
    forever = TrainRequest(name="halted", data=X, target=Y, epochs=10**6, **LONG)
    job: Any = session.run(forever, background=True)
    next(event for event in job.events() if type(event).__name__ == "EpochEnd")
    job.stop()
    job.result()
    session.sweep(TrainRequest(name="swept", **SWEEP), SPACE, trials=3)
    more = session.sweep(TrainRequest(name="whole", **SWEEP), SPACE, trials=5)
    expected["sweep"] = [[trial.params, trial.value] for trial in more.trials]
    session.backend.models.delete("whole")
    expected["space"], expected["swept"] = SPACE, {k: v for k, v in SWEEP.items() if k != "data"}
    return asked, expected


def service(place: str) -> None:
    """A training of a service that is paused, and one that waits behind it."""
    backend = ServiceBackend(place)

    def send(file: Any, digest: str, size: int) -> None:
        backend.data.append(digest, 0, file.read(), size)

    def submit(name: str, **options: Any) -> Any:
        request = TrainRequest(name=name, data=X, target=Y, **LONG | options)
        return backend.submit(pack(request, send))

    job = submit("paused", epochs=400, checkpoint_every="50")
    next(event for event in job.events() if isinstance(event, CheckpointSaved))
    job.pause()
    wait(lambda: job.info.state == "paused")
    backend.close()
    assert submit("waiting", epochs=2).info.state == "queued", "the service is closed, and another one will train it"


KILLED = """
import os, sys, make_store
from maas_magics.api.events import CheckpointSaved
from maas_magics.api.requests import TrainRequest
from maas_magics.local.backend import LocalBackend
request = TrainRequest(name="killed", data=make_store.X, target=make_store.Y, epochs=10**6, checkpoint_every="50",
                       **make_store.LONG)
job = LocalBackend(sys.argv[1]).submit(request)
next(event for event in job.events() if isinstance(event, CheckpointSaved))
os._exit(1)
"""


def jobs(place: str, file: str) -> None:
    """Write down how another process sees the jobs."""
    backend = LocalBackend(place)
    found = {
        info.id: {
            "title": info.title,
            "state": info.state,
            "events": [(event.seq, type(event).__name__) for event in backend.job(info.id).events(follow=False)],
        }
        for info in backend.jobs()
    }
    Path(file).write_text(json.dumps(found))


def main(folder: str, archive: str) -> None:
    """Make the store in a folder and pack it."""
    os.environ["MAAS_UI"] = "off"
    here = Path(folder)
    place = str(here / "store")
    asked, expected = models(place)
    service(place)
    subprocess.run([sys.executable, "-c", KILLED, place], cwd=Path(__file__).parent, check=False)
    subprocess.run([sys.executable, __file__, place, str(here / "jobs.json")], cwd=Path(__file__).parent, check=True)
    expected["jobs"] = json.loads((here / "jobs.json").read_text())
    with contextlib.closing(sqlite3.connect(Path(place) / "jobs.sqlite")) as journal:
        journal.execute("UPDATE jobs SET owner = replace(owner, ?, 'old-host:')", (f"{socket.gethostname()}:",))
        journal.commit()
        journal.execute("VACUUM")
    expected["frame"] = rows_of(FRAME)
    expected["x"], expected["y"] = rows_of(X), rows_of(Y)
    (here / "asked.json").write_text(json.dumps(asked))
    (here / "expected.json").write_text(json.dumps(expected))
    for id, job in expected["jobs"].items():
        if job["title"] not in RESUMED:
            shutil.rmtree(Path(place) / "jobs" / id, ignore_errors=True)
    with tarfile.open(archive, "w:gz", compresslevel=9) as packed:
        for name in ("store", "asked.json", "expected.json"):
            packed.add(here / name, name, filter=anonymous)


if __name__ == "__main__":
    (jobs if sys.argv[2].endswith(".json") else main)(*sys.argv[1:])
