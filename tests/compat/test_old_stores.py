"""A store of version 0.1 (`make_store.py`, run with the commit 9b5173f) is read, asked and gone on with."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from maas_magics.api.backend import Job
from maas_magics.api.errors import MaasError, ModelError, OptionError
from maas_magics.api.events import Resumed
from maas_magics.api.requests import EvaluateRequest, ExportRequest, PredictRequest, TrainRequest
from maas_magics.api.specs import CallSpec
from maas_magics.local.pool import ServiceBackend
from maas_magics.session import Session

ARCHIVE = Path(__file__).parent / "store-0.1.tar.gz"

DATES = ("when",)
TRAINED = {"ended", "halted", "line", "own", "pictures", "swept", "table", "tags"}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as packed:
        packed.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def asked(unpacked: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((unpacked / "asked.json").read_text())
    return found


@pytest.fixture(scope="module")
def expected(unpacked: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((unpacked / "expected.json").read_text())
    return found


@pytest.fixture
def session(store: Path) -> Session:
    """A session over a copy of the store; the processes that ran its jobs were of this machine, and are gone."""
    with tarfile.open(ARCHIVE) as packed:
        packed.extractall(store.parent, filter="data")
    with contextlib.closing(sqlite3.connect(store / "jobs.sqlite")) as journal:
        journal.execute("UPDATE jobs SET owner = replace(owner, 'old-host:', ?)", (f"{socket.gethostname()}:",))
        journal.commit()
    return Session(str(store), notify=lambda text: None)


def rows(found: dict[str, Any]) -> Any:
    """Rows as they were given to the version before: in a table of pandas 3, whose texts are large ones of Arrow."""
    if "array" in found:
        return np.array(found["array"], found["dtype"])
    frame = pd.DataFrame(found["columns"])
    texts = {name: pd.ArrowDtype(pa.large_string()) for name in frame if frame[name].dtype == object}
    return frame.astype(texts | {name: "datetime64[us]" for name in DATES if name in frame})


def same(answer: Any, before: dict[str, Any]) -> None:
    """The same answer as the version before gave."""
    if "array" in before:
        np.testing.assert_allclose(answer, np.array(before["array"]), rtol=1e-5, atol=1e-6)
        return
    pd.testing.assert_frame_equal(answer, pd.DataFrame(before["columns"]), check_dtype=False, rtol=1e-5, atol=1e-6)


def same_curves(history: dict[str, Any], before: dict[str, Any]) -> None:
    assert history.keys() == before.keys()
    for name, values in before.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-4, atol=1e-6, err_msg=name)


def job_of(session: Session, name: str) -> Job[Any]:
    return session.job(next(info.id for info in session.jobs() if info.title == f"train {name}"))


def test_every_version_and_alias_is_there(session: Session) -> None:
    models = session.backend.models
    assert {info.name for info in models.list()} == TRAINED
    assert models.get("line").ref == "line:2" and models.get("line@prod").ref == "line:1"
    assert models.get("table").classes == ("high", "low", "middle")
    assert models.get("tags").target == ("warm", "dry", "far")
    assert models.record("table").history["loss"] and models.record("own").best_epoch
    found = session.compare(["line:1", "line:2"])
    assert [record.info.ref for record in found.records] == ["line:1", "line:2"]


def test_models_answer_as_they_did(session: Session, asked: dict[str, Any]) -> None:
    for one in asked.values():
        options = one["options"]
        answer = session.predict(PredictRequest(model=one["model"], data=rows(one["rows"]), **options))
        same(answer, one["answer"])


def test_models_are_scored_and_exported_again(session: Session, expected: dict[str, Any], tmp_path: Path) -> None:
    scored = session.run(EvaluateRequest(model="table", data=rows(expected["frame"])))
    assert {"accuracy", "f1"} <= scored.values.keys()
    session.run(EvaluateRequest(model="line", data=rows(expected["x"]), target=rows(expected["y"])))
    for model, form in (("table", "onnx"), ("tags", "pt2"), ("pictures", "onnx")):
        artifact = session.run(ExportRequest(model=model, format=form, out=str(tmp_path / form)))
        assert artifact.verification.max_abs_diff <= 1e-4
    assert session.backend.exported("own", "onnx"), "it was published with it"
    with pytest.raises(ModelError, match="was defined in a notebook"):
        session.run(ExportRequest(model="own"))


def test_jobs_of_every_end_are_told_again(session: Session, expected: dict[str, Any]) -> None:
    now = {info.id: info for info in session.jobs()}
    assert now.keys() == expected["jobs"].keys()
    for id, before in expected["jobs"].items():
        assert now[id].title == before["title"]
        assert now[id].state == before["state"] or before["state"] == "queued", "a service alone will train it"
        told = [[event.seq, type(event).__name__] for event in session.job(id).events(follow=False)]
        assert told == before["events"], before["title"]
    with pytest.raises(MaasError, match="absent"):
        job_of(session, "wrong").result()
    assert job_of(session, "halted").info.state == "stopped"
    assert job_of(session, "table").result().info.ref == "table:1"


def test_an_ended_training_goes_on_as_if_it_had_never_ended(session: Session, expected: dict[str, Any]) -> None:
    x, y, before = rows(expected["x"]), rows(expected["y"]), expected["ended"]
    request = TrainRequest(name="ended", data=x, target=y, epochs=8, resume=True, **before["long"])
    same_curves(session.run(request).history, before["history"])


def test_a_training_of_a_table_goes_on(session: Session, expected: dict[str, Any]) -> None:
    given: dict[str, Any] = expected["table"] | {"name": "table", "data": rows(expected["frame"]), "target": "label"}
    del given["epochs"]
    given["params"] |= {"hidden": tuple(given["params"]["hidden"])}
    with pytest.raises(OptionError, match="another seed"):
        session.run(TrainRequest(**given, epochs=6, resume=True, seed=7))
    assert session.run(TrainRequest(**given, epochs=6, resume=True)).epochs == 6


def test_a_training_goes_on_with_the_network_that_was_usual_then(session: Session, expected: dict[str, Any]) -> None:
    given: dict[str, Any] = expected["table"] | {"name": "table", "data": rows(expected["frame"]), "target": "label"}
    given |= {"model": "auto", "epochs": 6, "resume": True}
    given["params"] = given["params"] | {"hidden": tuple(given["params"]["hidden"])}
    found = session.run(TrainRequest(**given))
    assert (found.info.architecture, found.epochs) == ("mlp", 6)


def test_a_training_of_a_killed_kernel_goes_on(session: Session, expected: dict[str, Any]) -> None:
    x, y, long = rows(expected["x"]), rows(expected["y"]), expected["ended"]["long"] | {"checkpoint_every": "50"}
    killed = job_of(session, "killed")
    assert killed.info.state == "failed"
    job: Any = session.run(
        TrainRequest(name="killed", data=x, target=y, epochs=10**6, resume=True, **long), background=True
    )
    assert next(event for event in job.events() if isinstance(event, Resumed)).step >= 50
    job.stop()
    assert job.result().info.name == "killed"


def test_a_service_goes_on_with_what_was_paused_and_what_waited(session: Session, expected: dict[str, Any]) -> None:
    paused, waiting = job_of(session, "paused").info.id, job_of(session, "waiting").info.id
    with contextlib.closing(ServiceBackend(session.store)) as backend:
        assert backend.job(paused).info.state == "paused"
        assert backend.job(waiting).result(timeout=120).info.ref == "waiting:1"
        backend.job(paused).resume()
        found = backend.job(paused).result(timeout=120)
    same_curves(found.history, expected["paused"]["history"])
    kinds = [type(event).__name__ for event in backend.job(paused).events(follow=False)]
    assert "Resumed" in kinds and kinds[-1] == "Finished"


def test_a_sweep_goes_on_with_the_trials_that_it_had(session: Session, expected: dict[str, Any]) -> None:
    request = TrainRequest(name="swept", data=rows(expected["frame"]), **expected["swept"])
    found = session.train(request, CallSpec(sweep=expected["space"], trials=5), resume=True)
    assert [trial.params for trial in found.trials] == [params for params, _ in expected["sweep"]]
    assert [trial.value for trial in found.trials] == pytest.approx([value for _, value in expected["sweep"]])
    other = TrainRequest(name="swept", data=rows(expected["frame"]), **expected["swept"] | {"epochs": 4})
    with pytest.raises(OptionError, match="another epochs"):
        session.train(other, CallSpec(sweep=expected["space"], trials=6), resume=True)
