"""A session with a store of its own, and what it said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import maas_magics.session
from maas_magics.api.events import Message
from maas_magics.api.requests import EvaluateRequest, ExportRequest, PredictRequest, TrainRequest
from maas_magics.api.results import Artifact, Metrics, TrainedModel
from maas_magics.core import publish
from maas_magics.local.job import LocalJob
from maas_magics.session import Session


class Lab:
    """The words of a cell on a store in a temporary folder, with few epochs and without a view."""

    def __init__(self, store: Path) -> None:
        self.session = Session(str(store), notify=lambda text: None)
        self.last: LocalJob[Any] | None = None

    def start(self, data: Any, target: Any = None, name: str = "m", **options: Any) -> LocalJob[TrainedModel]:
        request = TrainRequest(name=name, data=data, target=target, **{"model": "linear", "epochs": 1} | options)
        self.last = self.session.run(request, background=True)
        return self.last

    def train(self, data: Any, target: Any = None, name: str = "m", **options: Any) -> TrainedModel:
        return self.start(data, target, name, **options).result()

    def predict(self, data: Any, model: str = "m", **options: Any) -> Any:
        return self.session.predict(PredictRequest(model=model, data=data, **options))

    def evaluate(self, data: Any, target: Any = None, model: str = "m", **options: Any) -> Metrics:
        return self.session.run(EvaluateRequest(model=model, data=data, target=target, **options))

    def export(self, model: str = "m", **options: Any) -> Artifact:
        return self.session.run(ExportRequest(model=model, **options))

    def net(self, model: str = "m") -> torch.nn.Module:
        return self.session.load(model)

    @property
    def messages(self) -> list[str]:
        """Sentences of the newest training."""
        assert self.last is not None
        return [event.text for event in self.last.events(follow=False) if isinstance(event, Message)]

    @property
    def columns(self) -> dict[str, str]:
        """Kind of each column that the newest version of ``m`` takes."""
        predictor = self.session.backend.loader.predictor("m")
        return {feature.name: type(feature).__struct_config__.tag for feature in predictor.processor.features}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small models on two contended threads are many times slower than on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def lab(store: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    made = Lab(store)
    monkeypatch.setattr(maas_magics.session, "_session", made.session)
    return made


@pytest.fixture
def unexported(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules are published without their ONNX export: a second for each training that is other tests' matter.

    A test that is about the whole version asks for `exported`.
    """
    if "exported" not in request.fixturenames:
        monkeypatch.setattr(publish, "export_to", lambda *_: None)


@pytest.fixture
def exported() -> None:
    """Modules are published as they are for a person."""


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def frame(rng: np.random.Generator) -> pd.DataFrame:
    """Sixty rows with a column of every kind, something missing in most, and a target of two texts."""
    n = 60
    gone = rng.random((n, 4)) < 0.15
    frame = pd.DataFrame(
        {
            "size": np.where(gone[:, 0], np.nan, rng.normal(size=n)),
            "count": rng.integers(0, 100, n),
            "flag": rng.integers(0, 2, n).astype(bool),
            "kind": pd.Series(rng.choice(["p", "q", "r"], n)).mask(gone[:, 1]),
            "when": pd.Series(pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D")).mask(
                gone[:, 2]
            ),
        }
    )
    frame["label"] = np.where(frame["count"] + 20 * rng.normal(size=n) > 50, "yes", "no")
    return frame
