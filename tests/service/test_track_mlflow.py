"""What MLflow reads of a run, in an environment of its own; and callbacks of a run on a service."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peers import python_of
from serving import in_thread, remote

from maas_magics.api.events import EpochEnd, Event, Finished, encode_json
from maas_magics.api.requests import TrainRequest
from maas_magics.callbacks import heard
from maas_magics.local.backend import LocalBackend

X = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
REQUEST = TrainRequest(name="m", data=X, target=X[:, 0], model="linear", epochs=4, lr=0.05)

WRITE = """
import json, sys
from mlflow import MlflowClient
from maas_magics.api.events import decode_json
from maas_magics.trackers import make_trackers
from maas_magics.trackers.run import Run

uri, file = sys.argv[1:]
(start,) = make_trackers([f"mlflow={uri}"])
for name in ("m-1", "m-2"):
    write = start(Run("m", name, {"lr": 0.05, "odd name!": (1, 2)}))
    for line in open(file):
        write(decode_json(line))
client = MlflowClient(tracking_uri=uri)
experiment = client.get_experiment_by_name("m")
runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
run = next(run for run in runs if run.info.run_name == "m-1")
names = list(run.data.metrics)
print(json.dumps({
    "runs": sorted(run.info.run_name for run in runs), "status": run.info.status, "params": run.data.params,
    "metrics": {name: [[m.step, m.value] for m in client.get_metric_history(run.info.run_id, name)] for name in names},
}))
"""


def written(tmp_path: Path, events: list[Event], uri: str = "") -> subprocess.CompletedProcess[str]:
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"".join(encode_json(event) + b"\n" for event in events))
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [python_of("mlflow"), "-W", "ignore", "-c", WRITE, uri or f"sqlite:///{tmp_path / 'mlflow.db'}", str(file)],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": root, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )  # fmt: skip


@pytest.mark.slow
def test_mlflow_reads_curves_parameters_and_best_figures(store: Path, tmp_path: Path) -> None:
    job = LocalBackend(str(store)).submit(REQUEST)
    model = job.result(600)
    told = written(tmp_path, list(job.events()))
    assert told.returncode == 0, told.stderr[-3000:]
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    assert found["runs"] == ["m-1", "m-2"] and found["status"] == "FINISHED"
    assert found["params"]["lr"] == "0.05" and found["params"]["architecture"] == "linear"
    assert found["params"]["odd_name_"] == "(1, 2)"
    for name, curve in (
        ("loss/train", "loss"),
        ("loss/validation", "val_loss"),
        ("r2/validation", "val_r2"),
        ("lr", "lr"),
    ):
        assert [value for _, value in found["metrics"][name]] == pytest.approx(model.history[curve])
    for name, value in model.metrics.items():
        assert [value for _, value in found["metrics"][f"best/{name}"]] == pytest.approx([value])


def test_mlflow_refuses_a_place_that_it_does_not_know(tmp_path: Path) -> None:
    told = written(tmp_path, [], "nonsense://x")
    assert "OptionError: MLflow takes no tracking URI 'nonsense://x'" in told.stderr


def test_callbacks_hear_a_run_on_a_service_and_stop_it(store: Path) -> None:
    def enough(event: Event) -> str | None:
        events.append(event)
        return "stop" if isinstance(event, EpochEnd) and event.epoch >= 3 else None

    events: list[Event] = []
    endless = TrainRequest(name="m", data=X, target=X[:, 0], model="linear", epochs=1_000_000, patience=0)
    with in_thread(LocalBackend(str(store))) as url, remote(url) as backend:
        listen = heard([enough])
        model = listen(endless, backend.submit(endless)).result(600)
        assert model.stopped and model.ref == "m:1" and isinstance(events[-1], Finished)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
