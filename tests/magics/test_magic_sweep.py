"""`--callback`, `--track`, `--sweep` and `%maas compare` in a real shell and in executed notebooks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import numpy as np
import pandas as pd
import pytest
from IPython.core.completer import provisionalcompleter

from maas_magics.api.events import Finished, Started
from maas_magics.api.records import Comparison
from maas_magics.api.sweep import SweepResult

Run = Callable[[str], Any]
Failing = Callable[[str], str]

rng = np.random.default_rng(0)
FRAME = pd.DataFrame(rng.normal(size=(80, 2)), columns=["a", "b"])
FRAME["y"] = np.where(FRAME.a > 0, "yes", "no")
TRAIN = "%train m --data df --target y --model linear --epochs 3"


@pytest.fixture(autouse=True)
def variables(ip: Any) -> None:
    ip.user_ns.update(df=FRAME.copy(), heard=[])


def test_callbacks_and_trackers_on_the_line(cell: Run, ip: Any, tmp_path: Path) -> None:
    cell("def note(event):\n    heard.append(event)\nclass Both:\n    add = heard.append")
    assert cell(f"{TRAIN} --callback note Both.add --track tensorboard={tmp_path / 'runs'}").ref == "m:1"
    heard = ip.user_ns["heard"]
    assert isinstance(heard[0], Started) and isinstance(heard[-1], Finished) and len(heard) == 2 * 6
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_a_metric_of_torchmetrics_in_a_variable(cell: Run) -> None:
    cell("from torchmetrics.classification import BinaryF1Score\nscore = BinaryF1Score(threshold=0.4)")
    model = cell(f"{TRAIN} --metrics score,accuracy --monitor BinaryF1Score")
    assert set(model.metrics) == {"loss", "BinaryF1Score", "accuracy"}
    assert cell("%evaluate m --data df --metrics score")["BinaryF1Score"] > 0


def test_a_sweep_on_the_line(cell: Run, ip: Any) -> None:
    result = cell(f'{TRAIN} --sweep "lr=1e-4..1e-1 log, batch_size=[16, 32]" --trials 3')
    assert isinstance(result, SweepResult) and len(result.trials) == 3 and result.ref == "m:1"
    cell(f'r = {TRAIN} --sweep "lr=1e-4..1e-1 log, batch_size=[16, 32]" --trials 4 --resume;')
    assert ip.user_ns["r"].trials[:3] == result.trials and len(ip.user_ns["r"].trials) == 4
    job = cell(f"{TRAIN} --sweep lr=1e-4..1e-1 --trials 2 -b")
    assert len(cell("%predict m df")) == 80 and job.info.state == "succeeded"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"{TRAIN} --callback nobody", "--callback: There is no variable 'nobody'."),
        (f"{TRAIN} --callback df.a", "--callback: 'df.a' is of type Series, not a function."),
        (f"{TRAIN} --track wandb", "There is no tracker 'wandb'."),
        (f"{TRAIN} --trials 3", "--trials belongs to a sweep."),
        (f"{TRAIN} --resume", "There is no checkpoint of a training of 'm'."),
        (f"{TRAIN} --sweep lr", "'lr' is not of the form NAME=VALUES."),
        (f"{TRAIN} --sweep lr=1e-4..x", "lr: 'x' is not a number."),
        (f"{TRAIN} --sweep lr=1e-4..1 --trials 0", "trials is 0"),
        (f"{TRAIN} --sweep lr=1e-4..1 --resume", "There is no sweep of 'm' to resume."),
        ("%maas compare", "%maas compare needs NAMES."),
        ("%maas compare nobody", "There is no model 'nobody'."),
    ],
)
def test_a_slip_is_answered_shortly(line: str, told: str, failing: Failing) -> None:
    assert told in failing(line)


def test_compare_on_the_line(cell: Run) -> None:
    cell(TRAIN)
    cell(TRAIN + " --lr 0.1")
    cell(TRAIN.replace(" m ", " other "))
    found = cell("%maas compare m m:1 other")
    assert isinstance(found, Comparison) and list(found.table.model) == ["m:2", "m:1", "other:1"]
    assert cell("%maas compare m m:1;") is None


def test_a_running_sweep_is_listed_followed_and_stopped(cell: Run, failing: Failing, capsys: Any) -> None:
    job = cell(f'{TRAIN} --sweep "lr=1e-4..1e-1 log" --trials 1000 -b')
    while not any(trial.state == "done" for trial in job.trials):
        time.sleep(0.01)
    for word in ("jobs", "status"):
        capsys.readouterr()
        cell(f"%maas {word}")
        assert job.id in (told := capsys.readouterr().out) and "sweep m" in told and "running" in told
    assert cell(f"%maas attach {job.id[:5]}") is job
    told = failing(f"%maas pause {job.id}")
    assert "A sweep cannot be paused." in told and "→ Stop it; --resume resumes it." in told
    assert "A sweep cannot be paused." in failing(f"%maas resume {job.id}")
    cell(f"%maas stop {job.id}")
    told = capsys.readouterr().out
    assert f"Stopping sweep m ({job.id}); the current trial is dropped, the best of the others published." in told
    assert job.result(60).stopped and job.info.state == "stopped"
    cell(f"%maas stop {job.id}")
    assert f"The job {job.id} has ended already: stopped." in capsys.readouterr().out
    cell(f"%maas logs {job.id}")
    told = capsys.readouterr().out
    assert "started sweep m: parameters lr" in told and "1 of 1000 trials" in told and told.strip().endswith("stopped")
    result = cell(f"%maas attach {job.id} --wait")
    assert isinstance(result, SweepResult) and result is job.result() and result.ref == "m:1"


def test_a_sweep_is_not_lost_behind_its_own_trials(cell: Run, ip: Any, capsys: Any) -> None:
    job = cell(f"{TRAIN} --sweep lr=1e-4..1e-1 --trials 52 --epochs 1 -b".replace("--epochs 3 ", ""))
    assert len(job.result(120).trials) == 52
    capsys.readouterr()
    cell("%maas jobs")
    told = capsys.readouterr().out
    assert f"{job.id}  " in told and told.count("train m.sweep-") == 50
    text = f"%maas attach {job.id[:4]}"
    with provisionalcompleter():
        assert job.id in [completion.text for completion in ip.Completer.completions(text, len(text))]


SETUP = """%load_ext maas_magics
import numpy as np, pandas as pd, torch
torch.set_num_threads(1)
rng = np.random.default_rng(0)
df = pd.DataFrame(rng.normal(size=(80, 2)), columns=["a", "b"])
df["y"] = np.where(df.a > 0, "yes", "no")"""
SWEEP = '%train m --data df --target y --model linear --epochs 4 --sweep "lr=1e-4..1e-1 log, batch_size=[16, 32]" --trials 6'
CHART, TABLE = ["image/png", "image/svg+xml", "text/plain"], ["text/html", "text/plain"]


CELLS = (SWEEP, "%train n --data df --target y --model linear --epochs 3", "%maas compare m n")


def executed(tmp_path: Path, *cells: str, **env: str) -> list[Any]:
    """Outputs of the cells of a notebook after nbclient ran it."""
    sources = (SETUP, *(cells or CELLS))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": root, "MAAS_STORE": str(tmp_path), **env}
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute(env=env)
    return [cell.outputs for cell in book.cells]


def kinds(outputs: Any) -> list[list[str]]:
    return [sorted(output.get("data", {output.output_type: ""})) for output in outputs]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_notebook_keeps_picture_and_table(tmp_path: Path) -> None:
    _, swept, _, compared = executed(tmp_path)
    assert kinds(swept) == [CHART, TABLE, TABLE, TABLE]
    picture, empty, trials, value = swept
    assert picture.data["text/plain"].startswith("sweep m: 6 trials, best ") and not empty.data["text/html"]
    assert "★" in trials.data["text/html"] and trials.data["text/html"].count("<tr>") == 7
    assert value.data["text/plain"].startswith("<SweepResult m:1 · 6 trials") and "val_loss" in value.data["text/html"]
    assert "widget-view" not in str(swept)
    assert kinds(compared) == [CHART, TABLE] and "n:1" in compared[1].data["text/html"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_static_output_is_the_same_in_two_runs(tmp_path: Path) -> None:
    runs = [executed(tmp_path / name, SWEEP, MAAS_UI="static")[1] for name in ("one", "two")]
    assert runs[0] == runs[1] and kinds(runs[0]) == [CHART, TABLE, TABLE]
    assert "seconds" not in runs[0][1].data["text/plain"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_attached_is_shown_once_and_handed_out(tmp_path: Path) -> None:
    find = "import maas_magics as maas\nfrom maas_magics.session import current\njobs = maas.jobs()\n"
    find += "trial, swept = current().job(jobs[0].id), current().job(next(i.id for i in jobs if i.title == 'sweep m'))"
    show = "%maas attach swept --wait"
    _, _, _, again, one, taken, silent = executed(
        tmp_path, SWEEP, find, show, "%maas attach trial", "job = %maas attach trial", "%maas attach trial -w;"
    )
    assert kinds(again) == [CHART, TABLE, TABLE, TABLE] and "<SweepResult m:1" in again[-1].data["text/plain"]
    assert "★" in again[2].data["text/html"]
    assert kinds(one)[-1] == ["text/plain"] and one[-1].data["text/plain"].startswith("<Job ")
    assert [output.output_type for output in taken] == ["display_data"] * 2
    assert kinds(silent) == [CHART, TABLE]
