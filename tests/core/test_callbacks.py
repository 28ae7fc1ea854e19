"""Callbacks of a run: what they hear, and how little they can do."""

from __future__ import annotations

import threading
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import maas_magics as maas
from maas_magics.api.errors import MissingDependency, OptionError
from maas_magics.api.events import CheckpointSaved, EpochEnd, Event, Finished, Message, Started
from maas_magics.local.job import LocalJob

X = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
Y = X[:, 0] - X[:, 1]
QUICK: dict[str, Any] = {"data": X, "target": Y, "model": "linear", "epochs": 3}
ENDLESS: dict[str, Any] = QUICK | {"epochs": 1_000_000, "patience": 0}

pytestmark = pytest.mark.usefixtures("lab")


def test_a_callback_hears_every_event_in_order() -> None:
    heard: list[Event] = []
    model = maas.train("m", callbacks=[heard.append], **QUICK)
    assert model.ref == "m:1"
    assert [type(event) for event in heard] == [Started, EpochEnd, EpochEnd, EpochEnd, CheckpointSaved, Finished]
    assert [event.seq for event in heard] == [1, 2, 3, 4, 5, 6]
    assert heard == maas.logs(maas.jobs()[0].id)
    assert heard[1].validation["loss"] == model.history["val_loss"][0]


def test_the_run_is_over_only_when_the_callbacks_have_heard_its_end() -> None:
    heard: list[Event] = []
    slow = threading.Event()

    def late(event: Event) -> None:
        slow.wait(0.05)
        heard.append(event)

    job = maas.train("m", callbacks=[late], background=True, **QUICK)
    with pytest.raises(TimeoutError, match="after 0 s"):
        job.result(0)
    assert job.result(30).ref == "m:1" and isinstance(heard[-1], Finished)


def test_a_callback_asks_for_a_stop_and_the_best_epoch_is_kept() -> None:
    def enough(event: Event) -> str | None:
        return "stop" if isinstance(event, EpochEnd) and event.epoch >= 5 else None

    model = maas.train("m", callbacks=[enough, enough], **ENDLESS)
    assert model.stopped and model.epochs >= 5 and model.ref == "m:1", "several wishes are one, and soft"


def test_a_callback_cannot_change_what_others_hear() -> None:
    heard: list[Event] = []

    def spoil(event: Event) -> None:
        if isinstance(event, EpochEnd):
            event.validation.clear()
            event.train["loss"] = -1.0
            with pytest.raises(AttributeError):
                event.epoch = 7

    spoiled = maas.train("m", callbacks=[spoil, heard.append], **QUICK)
    assert spoiled.history == maas.train("m", **QUICK).history
    assert all(event.train["loss"] > 0 and event.validation for event in heard if isinstance(event, EpochEnd))
    assert heard == maas.logs(maas.jobs()[1].id)


class Fails(BaseException):
    pass


@pytest.mark.parametrize("kind", [ValueError, Fails, SystemExit])
def test_a_callback_that_raises_is_dropped_with_one_warning(kind: type[BaseException], capsys: Any) -> None:
    calls: list[Event] = []
    heard: list[Event] = []

    def broken(event: Event) -> None:
        calls.append(event)
        raise kind("no more ink")

    job = maas.train("m", callbacks=[broken, heard.append], background=True, **QUICK)
    plain = maas.train("plain", **QUICK)
    assert job.result(30).history == plain.history
    assert len(calls) == 1 and len(heard) == 6
    events = list(job.events())
    told = [event.text for event in events if isinstance(event, Message)]
    assert told == [f"the callback broken failed and was dropped: {kind.__name__}: no more ink"]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    maas.train("m", callbacks=[broken], **QUICK)
    assert capsys.readouterr().err.count("warning: the callback broken failed") == 1, "and the view shows it"


def test_a_job_that_fails_still_fails_and_is_heard() -> None:
    heard: list[Event] = []
    with pytest.raises(OptionError, match="no hyperparameter"):
        maas.train("m", params={"nonsense": 1}, callbacks=[heard.append], **QUICK)
    assert isinstance(heard[-1], Finished) and heard[-1].state == "failed"


def test_without_callbacks_the_job_is_the_backends_own() -> None:
    job = maas.train("m", background=True, **QUICK)
    assert isinstance(job, LocalJob)
    job.result(30)


def test_what_is_no_callback_is_refused_before_anything_runs() -> None:
    with pytest.raises(OptionError, match="a function of one event was expected|callbacks holds 3"):
        maas.train("m", callbacks=[3], **QUICK)
    with pytest.raises(OptionError, match="There is no tracker 'tensorbord'") as caught:
        maas.train("m", track=["tensorbord"], **QUICK)
    assert caught.value.hint == "Did you mean 'tensorboard'?"
    with pytest.raises(OptionError, match="No place follows 'tensorboard='"):
        maas.train("m", track=["tensorboard="], **QUICK)
    assert not maas.jobs() and not maas.models()


@pytest.mark.skipif(find_spec("mlflow") is not None, reason="MLflow is installed")
def test_a_tracker_that_is_not_installed_names_its_command() -> None:
    with pytest.raises(MissingDependency, match="--track mlflow needs MLflow, which is not installed") as caught:
        maas.train("m", track=["mlflow"], **QUICK)
    assert caught.value.hint == '%pip install "maas-magics[mlflow]"'
    assert not maas.jobs()
