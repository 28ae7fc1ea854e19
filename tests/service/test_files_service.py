"""Files and values that a notebook names are read here and understood there, as in the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from serving import in_thread, remote

from maas_magics.api.backend import Backend
from maas_magics.api.errors import DataError
from maas_magics.api.events import Message
from maas_magics.api.requests import EvaluateRequest, PredictRequest, TrainRequest
from maas_magics.local.backend import LocalBackend

WORDS = ["NA", "null", "007", "1e3", "true", "1.0", " a", "a", "2020-01-01"]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Backend, Backend]]:
    """A kernel's backend and the service over it."""
    torch.set_num_threads(1)
    local = LocalBackend(str(tmp_path_factory.mktemp("files") / "store"))
    with in_thread(local) as url, remote(url) as made:
        yield local, made


def _frame() -> pd.DataFrame:
    n = 6 * len(WORDS)
    return pd.DataFrame({"k": np.resize(WORDS, n), "v": np.arange(n) / 4, "y": np.resize(["NA", "no", "012"], n)})


def _told(job: Any) -> list[str]:
    return [event.text for event in job.events() if isinstance(event, Message)]


def test_a_file_asks_and_scores_on_a_service_as_in_the_kernel(both: tuple[Backend, Backend], tmp_path: Path) -> None:
    local, service = both
    frame = _frame()
    local.submit(TrainRequest(name="m", data=frame, target="y", model="linear", epochs=2)).result(600)
    wanted = local.predict(PredictRequest(model="m", data=frame)).columns["probabilities"]
    for part in (frame, frame[frame["k"] == "007"], frame[frame["k"] == "NA"]):
        path = tmp_path / "rows.csv"
        part.to_csv(path, index=False, sep=";")
        found = service.predict(PredictRequest(model="m", data=path)).columns["probabilities"]
        assert np.allclose(found, wanted[part.index], atol=1e-6)
        scores = [made.submit(EvaluateRequest(model="m", data=data)).result(600)
                  for made, data in ((local, part), (local, path), (service, path), (service, [path]))]  # fmt: skip
        assert all(score.values == scores[0].values and score.rows == len(part) for score in scores)


def test_a_training_on_a_service_tells_how_its_files_were_read(both: tuple[Backend, Backend], tmp_path: Path) -> None:
    service = both[1]
    for i in range(2):
        _frame().to_csv(tmp_path / f"p{i}.csv", index=False, sep=";")
    (tmp_path / "README.txt").write_text("words")
    job = service.submit(TrainRequest(name="f", data=tmp_path, target="y", model="linear", epochs=1))
    assert job.result(600).info.classes == ("012", "NA", "no")
    told = _told(job)
    assert any("is read with ';' between cells" in text for text in told)
    assert any("not read: README.txt" in text for text in told)
    job = service.submit(
        TrainRequest(
            name="f", data=str(tmp_path / "p*.csv"), target="y", model="linear", epochs=1, csv="sep=; missing=NA"
        )
    )
    assert job.result(600).info.classes == ("012", "no")


def test_masks_and_objects_travel(both: tuple[Backend, Backend]) -> None:
    local, service = both
    gone = np.arange(40) % 5 == 0
    data = {
        "a": np.ma.array(np.where(gone, -9999.0, np.arange(40.0)), mask=gone),
        "b": [True, *(i / 2 for i in range(37)), "n/a", None],
        "c": np.arange(40).astype("datetime64[M]"),
    }
    target = np.ma.array(np.where(gone, 1e6, np.arange(40) / 7), mask=gone)
    models = [
        made.submit(TrainRequest(name=name, data=data, target=target, model="linear", epochs=2)).result(600)
        for made, name in ((local, "here"), (service, "there"))
    ]
    assert models[0].metrics == models[1].metrics
    answers = [made.predict(PredictRequest(model=name, data=data)).columns["prediction"]
               for made, name in ((local, "here"), (local, "there"), (service, "there"))]  # fmt: skip
    assert np.allclose(answers[0], answers[1]) and np.allclose(answers[1], answers[2])
    assert np.abs(answers[0]).max() < 100


def test_answers_that_rest_on_nothing_are_told_by_a_service(both: tuple[Backend, Backend]) -> None:
    local, service = both
    local.submit(TrainRequest(name="n", data=_frame()[["k", "y"]], target="y", model="linear", epochs=1)).result(600)
    found = service.predict(PredictRequest(model="n", data={"k": ["unseen", "NA", None]}))
    assert found.blank == 2 and found.warnings[0].startswith("2 of 3 answers rest on nothing")
    assert service.predict(PredictRequest(model="n", data={"k": ["NA"]})).warnings == ()


def test_times_whose_zone_was_assumed_are_told_by_a_service(both: tuple[Backend, Backend]) -> None:
    local, service = both
    hours = np.arange(40) * np.timedelta64(1, "h") + np.datetime64("2024-01-01", "us")
    zoned = {"zeit·когда": pa.array(hours, pa.timestamp("us", "Asia/Tokyo")), "y": np.arange(40.0)}
    local.submit(TrainRequest(name="n", data=zoned, target="y", model="linear", epochs=1)).result(60)
    asked = PredictRequest(model="n", data={"zeit·когда": hours}, batch_size=7)
    found = service.predict(asked)
    assert len(found.columns["prediction"]) == 40 and found.warnings == local.predict(asked).warnings
    assert "'zeit·когда' were taken as UTC; the model learnt times in Asia/Tokyo" in found.warnings[0]
    assert service.predict(PredictRequest(model="n", data=zoned)).warnings == ()


def test_hints_of_a_service_are_about_where_the_rows_came_from(both: tuple[Backend, Backend], tmp_path: Path) -> None:
    local, service = both
    local.submit(TrainRequest(name="n", data=_frame()[["v", "y"]], target="y", model="linear", epochs=1)).result(60)
    bad = pd.DataFrame({"v": ["many", "few"], "y": [0, 1]})
    bad.to_csv(tmp_path / "rows.csv", index=False)
    for made in both:
        with pytest.raises(DataError, match="holds text") as error:
            made.predict(PredictRequest(model="n", data=str(tmp_path / "rows.csv")))
        assert "--csv" in error.value.hint
        with pytest.raises(DataError, match="holds text") as error:
            made.predict(PredictRequest(model="n", data=bad))
        assert "pd.to_numeric" in error.value.hint
    frame = pd.DataFrame({"when": pd.date_range("2024-01-01", periods=60).strftime("%d.%m.%Y"), "n": range(60)})
    frame.assign(y=frame["n"] / 3).to_csv(tmp_path / "dates.csv", index=False)
    request = TrainRequest(name="d", data=str(tmp_path / "dates.csv"), target="y", model="linear", epochs=1)
    job = service.submit(request)
    job.result(60)
    assert any("--csv dates=dmy" in event.text for event in job.events() if isinstance(event, Message))
