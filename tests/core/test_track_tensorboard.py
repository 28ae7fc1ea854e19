"""What TensorBoard reads of a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

import maas_magics as maas
from maas_magics.api.errors import MaasError, OptionError
from maas_magics.api.events import EpochEnd, Finished, Resumed, Started, Step
from maas_magics.trackers.tensorboard import TensorBoard

X = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
Y = X[:, 0] - X[:, 1]
QUICK: dict[str, Any] = {"data": X, "target": Y, "model": "linear", "epochs": 4, "seed": 3}

pytestmark = [pytest.mark.usefixtures("lab"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def read(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def session(run: EventAccumulator, part: str) -> Any:
    content = run.SummaryMetadata(f"_hparams_/session_{part}_info").plugin_data.content
    return getattr(HParamsPluginData.FromString(content), f"session_{part}_info")


def values(run: EventAccumulator, tag: str) -> list[float]:
    return [scalar.value for scalar in run.Scalars(tag)]


def test_curves_parameters_and_best_figures_are_read_back(tmp_path: Path) -> None:
    model = maas.train("m", track=[f"tensorboard={tmp_path / 'tb'}"], params={}, lr=0.05, **QUICK)
    (folder,) = (tmp_path / "tb").iterdir()
    assert folder.name == f"m-{maas.jobs()[0].id}"
    run = read(folder)
    for tag, curve in (
        ("loss/train", "loss"),
        ("loss/validation", "val_loss"),
        ("r2/validation", "val_r2"),
        ("lr", "lr"),
    ):
        assert values(run, tag) == pytest.approx(model.history[curve], rel=1e-6), tag
    ends = [event for event in maas.logs(maas.jobs()[0].id) if isinstance(event, EpochEnd)]
    assert [scalar.step for scalar in run.Scalars("loss/train")] == [event.step for event in ends]
    assert [scalar.wall_time for scalar in run.Scalars("lr")] == [event.time for event in ends]
    for name, value in model.metrics.items():
        assert values(run, f"best/{name}") == pytest.approx([value], rel=1e-6)
    told = session(run, "start").hparams
    assert told["lr"].number_value == 0.05 and told["seed"].number_value == 3
    assert told["architecture"].string_value == "linear" and told["task"].string_value == "regression"
    assert session(run, "end").status == 1, "success"


def test_every_run_has_a_folder_of_its_own_and_the_default_is_runs(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        maas.train("m", track=["tensorboard"], **QUICK)
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_run_that_goes_on_from_a_checkpoint_is_told_once(tmp_path: Path) -> None:
    """Steps after the checkpoint are told again; a reader sees each only once."""
    write = TensorBoard(str(tmp_path / "run"), {})
    write(Started(title="train m", time=1.0))
    for step, loss in ((10, 0.9), (20, 0.8), (30, 0.7)):
        write(Step(step=step, epoch=1, loss=loss, samples=step, time=2.0))
    write(Resumed(epoch=1, step=10, samples=10, time=3.0))
    for step, loss in ((20, 0.5), (30, 0.4)):
        write(Step(step=step, epoch=1, loss=loss, samples=step, time=4.0))
    write(Finished(state="stopped", time=5.0))
    found = read(tmp_path / "run").Scalars("loss/step")
    assert [(scalar.step, round(scalar.value, 4)) for scalar in found] == [(10, 0.9), (20, 0.5), (30, 0.4)]


def test_a_job_that_fails_before_it_begins_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(MaasError):
        maas.train("m", track=[f"tensorboard={tmp_path / 'tb'}"], params={"nonsense": 1}, **QUICK)
    assert not (tmp_path / "tb").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="is a file; a folder was expected"):
        maas.train("m", track=[f"tensorboard={tmp_path / 'file'}"], **QUICK)


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").write_text("")
    model = maas.train("m", track=[f"tensorboard={tmp_path / 'file' / 'below'}"], **QUICK)
    assert model.ref == "m:1"
    assert capsys.readouterr().err.count("the callback TensorBoard failed and was dropped") == 1


def test_it_is_written_without_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    script = """
import sys
from maas_magics.api.events import Finished, Started
from maas_magics.trackers.tensorboard import prepare
from maas_magics.trackers.run import Run
write = prepare(sys.argv[1])(Run("a", "a-1"))
write(Started(title="a"))
write(Finished(state="succeeded"))
"""
    env = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
    command = [sys.executable, "-c", script, str(tmp_path / "runs")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "runs").rglob("events.*"))
