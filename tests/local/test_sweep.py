"""Sweeps with real trainings of moments."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

import maas_magics as maas
from maas_magics import job as job_module
from maas_magics.api.errors import JobNotFound, MaasError, ModelNotFound, OptionError, Stopped
from maas_magics.api.events import EpochEnd, Event, Finished, Message, Progress, Started
from maas_magics.api.sweep import SweepResult

rng = np.random.default_rng(0)
FRAME = pd.DataFrame(rng.normal(size=(120, 3)), columns=list("abc"))
FRAME["y"] = np.where(FRAME.a * FRAME.b + 0.3 * rng.normal(size=120) > 0, "yes", "no")
SPACE = "lr=1e-4..1e-1 log, hidden=[8, 16], dropout=0.0..0.5"
QUICK: dict[str, Any] = {"data": FRAME, "target": "y", "model": "mlp", "epochs": 12, "seed": 5}

pytestmark = pytest.mark.usefixtures("store")


def sweep(name: str = "m", space: str = SPACE, trials: int = 8, **options: Any) -> SweepResult:
    found = maas.train(name, sweep=space, trials=trials, **(QUICK | options))
    assert isinstance(found, SweepResult)
    return found


def told(result: SweepResult) -> list[Any]:
    return [(t.number, t.state, t.params, t.value, t.epochs) for t in result.trials]


def names() -> list[str]:
    return [info.ref for info in maas.models()]


def test_the_best_trial_is_published_alone_and_can_be_trained_again() -> None:
    result = sweep()
    assert [trial.number for trial in result.trials] == list(range(1, 9))
    done = [trial for trial in result.trials if trial.state == "done"]
    assert result.best == min(done, key=lambda trial: trial.value) and result.monitor == "val_loss"
    assert names() == ["m:1"] and result.ref == "m:1" == result.model.info.ref, "no candidate is left"
    assert result.model.metrics["loss"] == result.best.value == min(result.model.history["val_loss"])
    params = dict(result.params)
    again = maas.train("again", **QUICK, lr=params.pop("lr"), params=params)
    assert again.history == result.model.history
    pd.testing.assert_frame_equal(maas.predict("m", FRAME), maas.predict("again", FRAME))


def test_the_table_and_what_is_shown() -> None:
    result = sweep(trials=5)
    assert isinstance(result.table, pd.DataFrame)
    assert list(result.table) == ["trial", "state", "lr", "hidden", "dropout", "val_loss", "epochs", "seconds"]
    assert result.table.val_loss.min() == result.best.value and (result.table.seconds > 0).all()
    assert set(result.table.hidden) <= {8, 16} and result.table.lr.between(1e-4, 0.1).all()
    assert repr(result).startswith(f"<SweepResult m:1 · 5 trials · best {result.best.number}: val_loss ")
    assert "val_loss" in result._repr_html_() and "m:1" in result._repr_html_()


def test_the_same_seed_tries_the_same_and_another_does_not() -> None:
    first = sweep()
    assert told(sweep("n")) == told(first)
    assert told(sweep("o", seed=6)) != told(first)


def test_a_trial_that_falls_behind_is_pruned() -> None:
    result = sweep(trials=12, space="lr=1e-6..1e-1 log", epochs=40)
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert pruned and all(trial.number > 4 and trial.epochs < 40 for trial in pruned)
    assert all(trial.value > result.best.value for trial in pruned)


def test_a_metric_that_grows_is_maximised() -> None:
    result = sweep(monitor="accuracy", space="lr=1e-6..1e-1 log", trials=8)
    assert result.monitor == "val_accuracy" and result.mode == "max"
    assert result.best.value == max(trial.value for trial in result.trials if trial.state == "done")
    assert result.best.value == result.model.metrics["accuracy"]


def test_what_was_tried_already_is_not_trained_again() -> None:
    result = sweep(space="hidden=[8, 16]", trials=6)
    trained = [trial for trial in result.trials if trial.seconds]
    assert len(trained) <= 2 and len(result.trials) == 6
    assert len({(str(trial.params), trial.value) for trial in result.trials}) == len(trained)


def test_a_module_of_ones_own_is_swept_and_stays_at_hand() -> None:
    x, net = FRAME[["a", "b", "c"]].to_numpy("float32"), nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    result = sweep(data=x, target=FRAME.y.to_numpy(), model=net, space="lr=1e-3..1e-1 log", trials=2)
    assert result.model.info.exports == () and len(maas.predict("m", x)) == 120
    assert isinstance(maas.load("m"), nn.Sequential)
    assert [info.title for info in maas.jobs()].count(f"train m.sweep-{maas.jobs()[0].model[8:]}") == 2
    assert maas.export("m").verification.max_abs_diff < 1e-5


def test_a_trial_that_diverges_costs_only_itself() -> None:
    x = FRAME[["a", "b", "c"]].to_numpy("float32")
    result = sweep(data=x, target=x[:, 0], model="linear", space="lr=[0.01, 1e38]", optimizer="SGD", trials=6)
    states = {trial.params["lr"]: trial.state for trial in result.trials}
    assert states == {0.01: "done", 1e38: "diverged"} and result.params == {"lr": 0.01}
    assert all("--" not in trial.error and trial.error for trial in result.trials if trial.state == "diverged")


def test_what_every_trial_would_fail_of_fails_at_once() -> None:
    with pytest.raises(MaasError, match="no column 'z'"):
        sweep(target="z")
    assert [info.title.partition(".")[0] for info in maas.jobs()] == ["train m", "sweep m"] and not maas.models()


# --- stopping and going on ---


class After:
    """Stops a sweep once it has so many epochs."""

    def __init__(self, epochs: int) -> None:
        self.left, self.job = epochs, threading.Event()
        self.stop: Callable[[], None] = lambda: None

    def __call__(self, event: Event) -> None:
        self.left -= isinstance(event, EpochEnd)
        if self.left == 0:
            self.job.wait(30)
            self.stop()


def begun(name: str, after: int, **options: Any) -> Any:
    """A sweep that is stopped in the middle of a trial."""
    ends = After(after)
    job = maas.train(name, sweep=SPACE, callbacks=[ends], background=True, **(QUICK | {"trials": 8} | options))
    ends.stop = job.stop
    ends.job.set()
    return job


def test_stopped_and_resumed_it_ends_as_if_it_had_not_been_stopped() -> None:
    whole = sweep("whole")
    job = begun("m", 12 * 3 + 2)
    part = job.result(60)
    assert part.stopped and job.info.state == "stopped" and len(part.trials) == 3 and part.ref == "m:1"
    assert names() == ["m:1", "whole:1"]
    resumed = sweep("m", resume=True)
    assert told(resumed) == told(whole) and not resumed.stopped
    better = resumed.best.number != part.best.number
    assert resumed.ref == ("m:2" if better else "m:1") and len(maas.models()) == 2
    more = sweep("m", trials=9, resume=True)
    assert told(more)[:8] == told(whole) and len(more.trials) == 9
    before = len(maas.jobs())
    assert told(sweep("m", trials=9, resume=True)) == told(more) and len(maas.jobs()) == before


def test_stopped_before_a_trial_ended_it_publishes_nothing_and_can_go_on() -> None:
    with pytest.raises(Stopped, match="before a trial ended") as caught:
        begun("m", 2).result(60)
    assert "--resume" in caught.value.hint and not maas.models()
    assert told(sweep("m", resume=True)) == told(sweep("whole"))


KILLED = """
import os, sys
import maas_magics as maas, torch
sys.path.insert(0, {tests!r})
from test_sweep import QUICK, SPACE
from maas_magics.api.events import EpochEnd
torch.set_num_threads(1)
left = 12 * 3 + 2

def die(event):
    global left
    left -= isinstance(event, EpochEnd)
    if not left:
        os._exit(9)

maas.train("m", sweep=SPACE, trials=8, callbacks=[die], **QUICK)
"""


@pytest.mark.slow
def test_a_sweep_whose_process_was_killed_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", KILLED.format(tests=str(Path(__file__).parent))], capture_output=True)
    assert done.returncode == 9, done.stderr.decode()[-2000:]
    resumed = sweep("m", resume=True)
    assert told(resumed) == told(sweep("whole")) and names() == ["m:1", "whole:1"]


@pytest.mark.parametrize(
    ("options", "named"),
    [({"space": "lr=1e-3..1e-1 log"}, "space"), ({"epochs": 11}, "epochs"), ({"seed": 6}, "seed")],
)
def test_another_sweep_is_not_gone_on_with(options: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError, match="There is no sweep of 'm' to resume"):
        sweep(resume=True)
    sweep(trials=1)
    with pytest.raises(OptionError, match=f"had another {named}: ") as caught:
        sweep(**options, resume=True)
    assert "--resume" in caught.value.hint


def test_other_data_is_told() -> None:
    sweep(trials=1)
    with pytest.raises(MaasError, match="The data has changed since the sweep began"):
        sweep(trials=2, data=FRAME.iloc[:100], resume=True)
    assert names() == ["m:1"]


# --- around it ---


def test_it_is_a_job_with_events_and_callbacks_hear_every_trial() -> None:
    heard: list[Event] = []
    job = maas.train("m", sweep=SPACE, trials=3, callbacks=[heard.append], background=True, **QUICK)
    assert job.info.title == "sweep m" and job.info.model == "m"
    with pytest.raises(TimeoutError, match="is running after"):
        job.result(0)
    events = list(job.events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[0], Started) and isinstance(events[-1], Finished) and events[-1].state == "succeeded"
    assert [event.done for event in events if isinstance(event, Progress)] == [0, 1, 2, 3]
    assert sum(isinstance(event, Finished) for event in heard) == 3
    assert maas.predict("m", FRAME.head(2)).shape[0] == 2, "a later word waits for it"


def test_steady_text_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MAAS_UI", "static")
    texts = []
    for name in ("m", "n"):
        sweep(name, trials=2)
        texts.append(capsys.readouterr().out.replace(f"sweep {name}", "sweep"))
    assert texts[0] == texts[1] and texts[0].startswith("sweep: best trial ") and "seconds" not in texts[0]
    with pytest.raises(MaasError):
        sweep(target="z")
    assert capsys.readouterr().out == ""


def test_it_leaves_one_version_and_no_checkpoints(store: Path) -> None:
    sweep(trials=3)
    assert names() == ["m:1"]

    def kept() -> list[str]:
        return [name for _, _, names in os.walk(store / "jobs") for name in names]

    deadline = time.monotonic() + 60
    while kept() and time.monotonic() < deadline:  # the last trial tidies up a moment later
        time.sleep(0.02)
    assert not kept()


def test_the_session_lists_finds_and_stops_its_sweeps() -> None:
    ends = After(14)
    job: Any = maas.train("m", sweep=SPACE, trials=8, callbacks=[ends], background=True, **QUICK)
    assert job.id in [info.id for info in maas.jobs()] and maas.status()["jobs going"] in (1, 2)
    ends.stop = lambda: maas.stop(job.id[:5])
    ends.job.set()
    assert job.result(60).stopped and len(job.trials) == 1
    assert [(info.title, info.state) for info in maas.jobs() if info.id == job.id] == [("sweep m", "stopped")]
    assert maas.logs(job.id) == list(job.events()) and maas.attach(job.id) is job
    again = maas.train("m", sweep=SPACE, trials=1, resume=True, **QUICK)
    assert isinstance(again, SweepResult) and maas.attach(job.id, block=True) == again
    assert [info.id for info in maas.jobs()].count(job.id) == 1, "gone on with, it is the same sweep"
    assert [info.created for info in maas.jobs()] == sorted((info.created for info in maas.jobs()), reverse=True)


def test_an_id_that_a_sweep_and_a_training_begin_with_names_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_module, "LEAST", 1)  # four characters that are alike would take some thousand trainings
    job: Any = maas.train("m", sweep=SPACE, trials=1, background=True, **QUICK)
    job.result(60)
    first = job.id[0]
    while not any(info.id.startswith(first) for info in maas.jobs() if info.id != job.id):
        maas.train("other", **QUICK | {"epochs": 1})
    with pytest.raises(JobNotFound, match=f"Several jobs begin with '{first}'") as caught:
        maas.attach(first)
    assert job.id in caught.value.hint
    for id in ("", "zzz"):
        with pytest.raises(JobNotFound, match="There is no job"):
            maas.attach(id)


def test_the_rows_of_an_ended_sweep_are_not_held() -> None:
    rows = np.eye(40, dtype="float32")
    held, target = weakref.ref(rows), rows[0].copy()
    job: Any = maas.train("m", rows, target, model="linear", epochs=2, sweep="lr=[0.1]", trials=1, background=True)
    job.result(60)
    del rows
    deadline = time.monotonic() + 60
    while held() is not None and time.monotonic() < deadline:  # the worker's thread lets go of it a moment later
        gc.collect()
        time.sleep(0.02)
    assert held() is None and len(job.trials) == 1 and job.best == job.trials[0]


def test_a_callback_that_fails_is_told_once_for_each_trial(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(event: Event) -> None:
        raise ValueError("no ink")

    job = maas.train("m", sweep=SPACE, trials=2, callbacks=[broken], background=True, **QUICK)
    assert len(job.result(60).trials) == 2
    assert sum(isinstance(event, Message) and "no ink" in event.text for event in job.events()) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "trials is 0"),
        ({"name": "a/b"}, "is not a valid model name"),
        ({"space": "lr=1"}, "lr: '1' is neither"),
        ({"space": "nonsense=[1]"}, "hyperparameter 'nonsense'"),
        ({"epochs": 0}, "epochs is 0"),
        ({"track": ["nobody"]}, "no tracker 'nobody'"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_written(
    options: dict[str, Any], message: str, store: Path
) -> None:
    with pytest.raises(OptionError, match=message):
        sweep(**options)
    assert not (store / "sweeps").exists() and not maas.jobs()


def test_only_a_candidate_is_published() -> None:
    from maas_magics.session import current

    maas.train("plain", **QUICK)
    with pytest.raises(OptionError, match="'plain' is not a candidate of a sweep"):
        current().backend.publish("plain:1", "m")
    with pytest.raises(ModelNotFound):
        current().backend.publish("m.sweep-abc:1", "m")
    assert names() == ["plain:1"]


MISSING = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "optuna":
            raise ModuleNotFoundError(name)
sys.meta_path = [type("Finder", (), {"find_spec": lambda self, name, path=None, target=None: None})()] + [
    type("Hide", (), {"find_spec": lambda self, name, path=None, target=None, inner=finder:
         None if name.partition(".")[0] == "optuna" else inner.find_spec(name, path, target)})() for finder in sys.meta_path]
import maas_magics as maas
try:
    maas.train("m", [[1.0]], [1.0], sweep="lr=1e-3..1e-1 log")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_without_optuna_the_command_that_installs_it_is_named() -> None:
    done = subprocess.run([sys.executable, "-c", MISSING], capture_output=True, text=True)
    assert "MissingDependency A sweep needs Optuna, which is not installed." in done.stdout, done.stderr[-2000:]
    assert '%pip install "maas-magics[sweep]"' in done.stdout
