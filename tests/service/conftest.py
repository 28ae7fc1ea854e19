"""Services that many tests ask, and the models that they serve."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from serving import Service
from torch import nn

from maas_magics.api.requests import ExportRequest, TrainRequest
from maas_magics.local.backend import LocalBackend


def cells(rows: int = 200, seed: int = 7) -> pd.DataFrame:
    """Rows of every kind of column, some missing."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "size": rng.normal(size=rows),
            "kind": rng.choice(["p", "q", "ü"], rows),
            "flag": rng.integers(0, 2, rows).astype(bool),
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 90, rows), unit="D"),
        }
    )
    frame.loc[::9, "size"] = np.nan
    frame.loc[::7, "kind"] = None
    frame["label"] = np.where(frame["size"].fillna(0) + (frame["kind"] == "p") > 0.4, "yes", "no")
    return frame


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store holds ``cells`` (a table, exported), ``net`` (one array) and ``plain`` (not exported)."""
    folder = tmp_path_factory.mktemp("served")
    torch.set_num_threads(1)
    backend = LocalBackend(str(folder / "store"))
    frame = cells()
    backend.submit(TrainRequest(name="cells", data=frame, target="label", epochs=3)).result(600)
    backend.submit(ExportRequest(model="cells")).result(600)
    x = np.random.default_rng(0).normal(size=(90, 8)).astype(np.float32)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    for _ in range(2):
        backend.submit(TrainRequest(name="net", data=x, target=np.arange(90) % 3, model=net, epochs=1)).result(600)
        backend.submit(ExportRequest(model="net")).result(600)
    backend.models.alias("net:1", "steady")
    backend.submit(TrainRequest(name="plain", data=frame, target="size", model="linear", epochs=1)).result(600)
    return folder


@pytest.fixture(scope="session")
def service(filled: Path) -> Iterator[Service]:
    """A service of those models, in a process of its own."""
    made = Service(filled)
    yield made
    made.stop()


@pytest.fixture
def here(filled: Path) -> LocalBackend:
    """The same models, asked in this process."""
    return LocalBackend(str(filled / "store"))


@pytest.fixture(autouse=True)
def no_token_of_the_testers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MAAS_")]:
        monkeypatch.delenv(name)
