"""The magics in a real IPython shell."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from torch import nn

import maas_magics as maas
from maas_magics.api.backend import Job
from maas_magics.api.events import EpochEnd
from maas_magics.api.results import Artifact, Metrics, TrainedModel
from maas_magics.local.job import LocalJob

Run = Callable[[str], Any]
Failing = Callable[[str], str]

rng = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {"a": rng.normal(size=80), "big b": rng.normal(size=80), "code": rng.choice(["01", "007", "x"], 80)}
)
FRAME["y"] = np.where(FRAME.a + FRAME["big b"] > 0, "yes", "no")
X = rng.normal(size=(80, 3)).astype(np.float32)
Y = X @ np.array([1.0, -2.0, 0.5], dtype=np.float32)


@pytest.fixture(autouse=True)
def variables(ip: Any) -> None:
    """What the cells speak of."""
    ip.user_ns.update(df=FRAME.copy(), X=X, y=Y, n=3, np=np, nn=nn, pd=pd)


TRAIN = "%train m --data df --target y --model linear --epochs 2"


# --- %train ---


@pytest.mark.parametrize(
    "line",
    [
        TRAIN,
        "%train m -d df -t y -m linear -e n",
        '%train "m" --data df --target "y" --model linear --epochs {n - 1};',
        "%train m --data df[df['big b'] < 100] --target y --model linear --epochs=2",
        "%maas train m --data df --target y --model linear --epochs $n",
        "%train m --data df --target y --model linear --epochs 2 --workers 2 --shard",
        "x = 5\n%train m --data df --target y --model linear --epochs 2",
        "%train m --data X y --model linear --epochs 2 --lr 0.01 --metrics mae,rmse --seed 3",
        "%train m --data {'a': X[:,0],'b': X[:, 1]} --target X[:,2] --model linear --epochs 2",
        "%train m --data df --target y --model linear --epochs 2 --validation df.head(20)",
        "%train m --data df --target y --model linear --epochs 2 --class-weights {'yes': 2.0, 'no': 1.0}",
        "%train m --data df --target y --model linear --epochs 2 --precision bf16 --accumulate 2 --clip 1 --ema 0.9",
        "%train m --data df --target y --model linear --epochs 2 --balance --schedule StepLR --schedule-set step_size=1",
        '%train m --data df --target y --model linear --epochs 2 --lr-of "*bias*=1e-3" "*=0.01" --warmup 1',
        "%train m --data df --target y --model linear --epochs 2 --freeze *bias* --unfreeze *bias*@2",
    ],
)
def test_train_by_line(line: str, cell: Run) -> None:
    cell(line)
    assert cell("%maas models") is None
    assert cell("import maas_magics; maas_magics.models()[0].ref") == "m:1"


def test_train_returns_a_model_that_can_be_assigned(cell: Run, ip: Any) -> None:
    model = cell(TRAIN)
    assert isinstance(model, TrainedModel) and model.ref == "m:1"
    cell("model = " + TRAIN)
    assert ip.user_ns["model"].ref == "m:2"
    cell("model = " + TRAIN + ";")
    assert ip.user_ns["model"].ref == "m:3"


def test_train_on_a_file_from_disk(cell: Run, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("x,side\n" + "\n".join(f"{i % 7},{'ab'[i % 7 > 3]}" for i in range(400)))
    model = cell(f"m = %train m --data {file} -t side -m linear -e 1 --stream\nm")
    assert model.info.classes == ("a", "b")
    assert any("streamed from disk" in getattr(event, "text", "") for event in maas.logs(maas.jobs()[0].id))


def test_a_semicolon_silences(cell: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert cell(TRAIN + ";") is None
    capsys.readouterr()
    assert cell("%predict m df.head(2);") is None
    assert "yes" not in capsys.readouterr().out
    assert cell("%predict m df.head(2)") is not None
    cell("p = %predict m df.head(2);")
    assert cell("len(p)") == 2


def test_a_module_in_a_variable(cell: Run) -> None:
    cell("net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))\nbefore = net[0].weight.detach().clone()")
    model = cell("%train m --data X y --model net --loss mse --optimizer Adam --epochs 2")
    assert model.info.architecture == "Sequential"
    assert cell("bool((net[0].weight == before).all())"), "the notebook's own module stays as it was"


def test_a_background_job_is_waited_for_by_the_next_magic(
    cell: Run, ip: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = threading.Event()
    result = LocalJob.result
    monkeypatch.setattr(LocalJob, "result", lambda self, timeout=None: (waited.set(), result(self, timeout))[1])
    ip.user_ns["hold"] = lambda decoded, target: float(waited.wait(60))  # it cannot end before somebody waits for it
    job = cell("job = %train m --data df --target y --model linear --epochs 3 --metrics hold -b")
    job = ip.user_ns["job"]
    assert isinstance(job, LocalJob) and isinstance(job, Job)
    assert len(cell("%predict m df")) == 80
    told = capsys.readouterr()
    assert f"Waiting for job {job.id} (train m)." in told.err
    assert job.info.state == "succeeded" and job.result().ref == "m:1"
    assert len(cell("%predict m df")) == 80 and "Waiting" not in capsys.readouterr().err


# --- errors ---


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("%train m --data df --target y --ep 3", "%train has no option --ep.\n  → Did you mean '--epochs'?"),
        ("%train m --data df --target y --epochs", "expected one argument"),
        ("%train m --data df --target y --epochs many", "--epochs: 'many' is not a whole number."),
        ("%train m --data df --target y --epochs 0", "epochs is 0; at least 1 was expected."),
        ("%train m --data df --target y --workers 0", "workers is 0; at least 1 was expected.\n  → --workers 1"),
        ("%train m --data df --target y --shard", "there is one.\n  → --workers 2 --shard"),
        ("%train m --data df --target y --lr -1", "at least 0 was expected."),
        (
            "%train m --data df --target y --lr-of head",
            "--lr-of: 'head' is not of the form pattern=rate.\n  → For example: head.*=1e-3",
        ),
        ("%train m --data df --target y --lr-of head.*=fast", "--lr-of: 'fast' is not a number."),
        ("%train m --data df --target y --unfreeze *", "--unfreeze: '*' is not of the form pattern@epoch."),
        ("%train m --data df --target y --unfreeze *@x", "--unfreeze: 'x' is not a whole number."),
        (
            "%train m --data df --target y --precision fp61",
            "--precision: there is no 'fp61'.\n  → Did you mean 'fp16'?",
        ),
        ("%train m --data df --target y --schedule cosin", "There is no schedule 'cosin'.\n  → Did you mean 'cosine'?"),
        ("%train m --data df --target y --freeze heads.*", "--freeze: no parameter of the network matches 'heads.*'."),
        ("%train m --data dg --target y", "There is no variable 'dg'.\n  → There is: df."),
        ("%train m --data df", "No target was named."),
        ("%train m", "%train needs --data DATA.\n  → %train NAME --data df"),
        ("%train", "%train needs NAME."),
        ("%train m --data df --target yy", "no column 'yy'"),
        ("%train m --data df --target y --model mlq", "Did you mean 'mlp'?"),
        ("%train m --data df --target y --task multi", "Did you mean 'multiclass' or 'multilabel'?"),
        ("%train a/b --data df --target y", "is not a valid model name"),
        ("%train .. --data df --target y", "is not a valid model name"),
        ("%train m --data df --target 'y", "The line ends inside quotes"),
        ("%train m --data df X y --target y", "3 words were given"),
        ("%train m --data no_such.csv --target y", "There is no file 'no_such.csv'."),
        ("%train m --data df.no_such() --target y", "cannot be evaluated: AttributeError"),
        ("%predict nobody df", "There is no model 'nobody'."),
        ("%predict m", "%predict needs rows."),
        ("%predict m df --out 3x", "'3x' is not a variable name."),
        ("%predict m df --top -1", "at least"),
        ("%export nobody", "There is no model 'nobody'."),
        ("%evaluate nobody --data df", "There is no model 'nobody'."),
        ("%evaluate nobody", "%evaluate needs --data DATA."),
        ("%maas modles", "%maas has no subcommand 'modles'.\n  → Did you mean 'models'?"),
        ("%maas models nobody", "There is no model 'nobody'."),
        ("%maas stop zzz", "There is no job 'zzz'."),
        ("%maas attach zzz", "There is no job 'zzz'."),
        ("%maas pause zzz", "There is no job 'zzz'."),
        ("%train m --epochs 3", "%train needs --data DATA."),
        ("%train m --resume", "There is no checkpoint of a training of 'm'."),
        ("%train m --data df --target y --checkpoint-every often", "--checkpoint-every 'often' is not valid."),
        ("%maas logs", "There is no job yet."),
        ("%maas attach", "There is no job yet."),
        ("%maas stop m", "There is no job 'm'."),
        ("%maas list", "%maas has no subcommand 'list'.\n  → Did you mean 'models'?"),
        ("%maas lgos", "Did you mean 'logs'?"),
        ("%export m --ou there", "%export has no option --ou.\n  → Did you mean '--out'?"),
        ("%train m --data df --target y --arch mlp", "no option --arch.\n  → Did you mean '--model'?"),
        ("%train m --data df --target y --learning-rate 1", "Did you mean '--lr'?"),
        ("%train m --data df --target y --pretrained", "no option --pretrained.\n  → %train --help lists them."),
        ("%train m --data df --target y --hosts x", "no option --hosts.\n  → %train --help lists them."),
        ("%train m --data df --target y --redact x", "no option --redact.\n  → %train --help lists them."),
        ("%train m --data df --target y --aim x", "no option --aim.\n  → %train --help lists them."),
        ("%train m --data df --target y --epochs 1 -e 2", "--epochs is given twice.\n  → Give it once."),
        ("%train m --data df --data df --target y", "--data is given twice."),
        ('%train m --data "df" --target y', "--data: 'df' is a text, as quotes make it.\n  → Without quotes it is the"),
        ("%maas rm", "%maas rm needs NAME."),
        ("%maas alias nobody x", "There is no model 'nobody'."),
        ("%%maas models\nbody", "%%maas models takes no cell."),
        ("%%predict nobody\na,b\n1,2", "There is no model 'nobody'."),
    ],
)
def test_bad_lines_are_told_in_two_lines(line: str, told: str, failing: Failing, cell: Run) -> None:
    if "%predict m df" in line:
        cell(TRAIN)
    text = failing(line)
    assert told in text and "Traceback" not in text


def test_a_misspelt_model_is_suggested(failing: Failing, cell: Run) -> None:
    cell(TRAIN.replace("train m ", "train penguins "))
    for line in ("%predict pengins df", "%export pengins", "%evaluate pengins --data df", "%maas rm pengins"):
        assert "Did you mean 'penguins'?" in failing(line)


def test_run_all_stops_at_the_cell_that_fails(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nbclient
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    cells = ["%load_ext maas_magics", "%maas models", "%predict nobody [[1.0]]", "print('never')"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="There is no model 'nobody'"):
        nbclient.NotebookClient(book, timeout=60, kernel_name="python3").execute(env=dict(os.environ))
    error = book.cells[2].outputs[-1]
    assert error.output_type == "error" and error.ename == "ModelNotFound" and 1 <= len(error.traceback) <= 3
    assert book.cells[1].outputs[0].data["text/plain"].startswith("There is no model yet")
    assert book.cells[3].outputs == []


# --- help ---


@pytest.mark.parametrize("name", ["train", "evaluate", "export", "predict", "maas"])
def test_help_in_every_form(name: str, cell: Run, ip: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for line in (f"%{name} --help", f"%{name} -h"):
        assert cell(line) is None
        told = capsys.readouterr().out
        assert f"%{name}" in told
    doc = ip.magics_manager.magics["line"][name].__doc__
    assert doc and doc.strip() == told.strip()
    assert ip.object_inspect(f"%{name}")["docstring"] == doc


def test_help_of_subcommands(cell: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cell("%maas help")
    overview = capsys.readouterr().out
    for word in ("%train", "%export", "%maas status", "%maas stop", "%maas alias"):
        assert word in overview
    for word in ("status", "models", "jobs", "attach", "stop", "pause", "resume", "logs", "rm", "alias", "help"):
        cell(f"%maas {word} --help")
        assert capsys.readouterr().out.startswith(f"usage: %maas {word}")
    cell("%maas train --help")
    assert capsys.readouterr().out.startswith("usage: %train NAME [options]")


# --- %evaluate, %export ---


def test_evaluate(cell: Run) -> None:
    cell(TRAIN)
    for line in ("%evaluate m --data df", "%evaluate m:1 -d df -t y --metrics f1,auc", "%maas evaluate m --data df"):
        metrics = cell(line)
        assert isinstance(metrics, Metrics) and metrics.rows == 80 and 0 <= metrics["f1"] <= 1
    cell("%train r --data X y --model linear --epochs 2")
    assert cell("%evaluate r --data X y")["rmse"] > 0


def test_export(cell: Run, tmp_path: Path) -> None:
    cell(TRAIN)
    artifact = cell(f'%export m --format safetensors --tolerance 1e-5 --out "{tmp_path}/a file.bin"')
    assert isinstance(artifact, Artifact) and Path(artifact.path).is_file() and artifact.verification.tolerance == 1e-5
    assert isinstance(cell("%maas export m -f safetensors"), Artifact)


# --- %predict ---


def test_predict(cell: Run, ip: Any) -> None:
    cell(TRAIN)
    answers = cell("%predict m df")
    assert list(answers.columns) == ["prediction", "probability_no", "probability_yes"] and len(answers) == 80
    assert list(cell("%predict m df[['a', 'big b', 'code']].head(3)").index) == [0, 1, 2]
    assert list(cell("%predict m --top 1 df").columns) == ["top_1", "probability_1"]
    assert len(cell("%predict m:1 df --batch-size n --proba")) == 80
    assert cell("%predict m df --out answers") is None and len(ip.user_ns["answers"]) == 80
    cell("%maas alias m best")
    assert len(cell("%maas predict m@best df.tail(2)")) == 2
    cell("%train r --data X y --model linear --epochs 2")
    array = cell("%predict r X[:5]")
    assert isinstance(array, np.ndarray) and array.shape == (5,)
    assert cell("%predict r [[1.0, 2.0, 3.0]]").shape == (1,)


ROW = {"a": 0.5, "big b": 1.0, "code": "007"}
BODIES = {
    "csv": "a,big b,code\n0.5,1.0,007\n-1,2,x",
    "csv without header": "0.5,1.0,007\n-1,2,x",
    "semicolons": "a;big b;code\n0.5;1.0;007\n-1;2;x",
    "tabs": "a\tbig b\tcode\n0.5\t1.0\t007\n-1\t2\tx",
    "quoted": '"a","big b","code"\n"0.5","1.0","007"\n-1,2,"x"',
    "other order": "code,a,big b\n007,0.5,1.0\nx,-1,2",
    "blank lines": "\n\na,big b,code\n0.5,1.0,007\n-1,2,x\n\n",
    "json lines": '{"a": 0.5, "big b": 1.0, "code": "007"}\n{"a": -1, "big b": 2, "code": "x"}',
    "json list": '[{"a": 0.5, "big b": 1.0, "code": "007"},\n {"a": -1, "big b": 2, "code": "x"}]',
    "json columns": '{"a": [0.5, -1], "big b": [1.0, 2], "code": ["007", "x"]}',
    "json rows": '[[0.5, 1.0, "007"], [-1, 2, "x"]]',
}


@pytest.mark.parametrize("form", BODIES)
def test_rows_in_a_cell(form: str, cell: Run, ip: Any) -> None:
    ip.user_ns["df"].loc[0:20, "code"] = "007"
    cell(TRAIN)
    ip.user_ns["rows"] = pd.DataFrame([ROW, {"a": -1, "big b": 2, "code": "x"}])
    expected = cell("%predict m rows")
    answers = cell(f"%%predict m\n{BODIES[form]}")
    pd.testing.assert_frame_equal(answers, expected)


def test_one_object_is_one_row(cell: Run) -> None:
    cell(TRAIN)
    assert len(cell("%%predict m --proba\n" + json.dumps(ROW))) == 1
    assert len(cell("%%maas predict m\n" + json.dumps(ROW))) == 1


def test_rows_of_an_array_model(cell: Run) -> None:
    cell("%train r --data X y --model linear --epochs 2")
    expected = cell("%predict r np.array([[1, 2, 3], [4, 5, 6]], dtype='float32')")
    for body in ("[[1, 2, 3], [4, 5, 6]]", "1,2,3\n4,5,6", "[1, 2, 3]\n[4, 5, 6]"):
        np.testing.assert_allclose(np.ravel(cell(f"%%predict r\n{body}")), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "body",
    ["\n \n", "{", '{"a": 1', "a,big b\n1,2", "a,big b,code\n1,2", '[1, "x"', "a,big b,code\nhello,1,x",
     '{"a": 1}\nnot json', "1,2", '[[1, 2], [3]]', "null", "[]", "{}", "3"],
)  # fmt: skip
def test_broken_rows_are_told(body: str, failing: Failing, cell: Run) -> None:
    cell(TRAIN)
    assert failing(f"%%predict m\n{body}").startswith("DataError")


def test_rows_come_from_one_place(failing: Failing, cell: Run) -> None:
    cell(TRAIN)
    assert "The rows are in the cell" in failing("%%predict m df\na,b\n1,2")


# --- %%train ---


@pytest.mark.parametrize(
    "body",
    [
        "nn.Sequential(nn.Linear(inputs, 4), nn.ReLU(), nn.Linear(4, outputs))",
        "width = 4\nnet = nn.Sequential(nn.Linear(inputs, width), nn.Linear(width, outputs))",
        "net: nn.Module = nn.Linear(inputs, outputs)",
        "# a comment\nnn.Linear(inputs, outputs)  # the end\n\n",
        "print(f'{inputs} {{braces}} $n')\n{'a': nn.Linear(inputs, outputs)}['a']",
    ],
)
def test_a_cell_builds_the_network(body: str, cell: Run, ip: Any) -> None:
    model = cell(f"%%train net --data X y --epochs 2\n{body}")
    assert isinstance(model, TrainedModel) and model.info.parameters >= 4
    assert "inputs" not in ip.user_ns and "outputs" not in ip.user_ns
    assert cell("%predict net X").shape == (80,)


def test_what_a_cell_defines_stays_and_its_source_is_kept(cell: Run, ip: Any, store: Path) -> None:
    body = """class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(width, 1)
    def forward(self, x):
        return self.layer(x)

Net(inputs)"""
    cell("inputs = 'mine'")
    model = cell(f"%%train net --data X y --epochs 1\n{body}")
    assert model.info.architecture in ("Net", "module") and ip.user_ns["inputs"] == "mine"
    assert cell("Net(3)(__import__('torch').zeros(2, 3)).shape[0]") == 2
    manifest = json.loads((store / "models/net/1/manifest.json").read_text())
    assert manifest["source"].strip() == body.strip()


def test_annotations_of_a_cell_are_not_turned_into_text(cell: Run) -> None:
    cell("%%train net --data X y --epochs 1\ndef f(x: int): pass\nkind = f.__annotations__['x']\nnn.Linear(inputs, 1)")
    assert cell("kind is int")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("# nothing", "does not end with a network"),
        ("x = [", "The cell cannot be read"),
        ("nn.Linear(inputs,", "The cell cannot be read"),
        ("import torch", "does not end with a network"),
        ("3", "The architecture is of type int"),
        ("nn.Linear", "The architecture is of type type"),
        ("nobody(inputs)", "The cell fails: NameError: name 'nobody' is not defined"),
        ("inputs = np.zeros(3)\n1 / 0\nnn.Linear(3, 1)", "The cell fails: ZeroDivisionError"),
        ("nn.Linear(inputs + 1, outputs)", "cannot take the features"),
        ("nn.Linear(inputs, outputs + 1)", "wants (2, 1)"),
    ],
)
def test_a_cell_that_builds_none_is_told(body: str, told: str, failing: Failing, ip: Any) -> None:
    text = failing(f"%%train net --data X y --epochs 1\n{body}")
    assert text.startswith("ModelError") and told in text
    assert "outputs" not in ip.user_ns


def test_a_cell_and_a_model_are_one_too_many(failing: Failing) -> None:
    assert "The cell builds the network" in failing("%%train net --data X y --model mlp\nnn.Linear(3, 1)")


# --- %maas ---


def test_maas_shows_models_versions_and_aliases(
    cell: Run, failing: Failing, capsys: pytest.CaptureFixture[str]
) -> None:
    cell(TRAIN)
    cell(TRAIN)
    cell(TRAIN.replace("train m ", "train other "))
    cell("%maas alias m:1 production")
    assert "m@production names m:1 now." in capsys.readouterr().out
    cell("%maas models")
    told = capsys.readouterr().out
    assert "m:2" in told and "other:1" in told and "m:1" not in told and "binary" in told
    cell("%maas models m;")
    told = capsys.readouterr().out
    assert "m:1" in told and "m:2" in told and "production" in told and "other" not in told
    told = failing("%maas rm m")
    assert "m has 2 versions, and m@production is in use." in told and "%maas rm m --yes" in told
    assert "in use" in failing("%maas rm m@production") and "in use" in failing("%maas rm m:1")
    cell("%maas rm m:2")
    assert "Removed m:2." in capsys.readouterr().out
    assert "m@production is in use." in failing("%maas rm m") and "--yes removes it" in failing("%maas rm m")
    cell("%maas rm m --yes")
    cell("%maas models")
    assert "other:1" in capsys.readouterr().out
    cell("%maas status")
    told = capsys.readouterr().out
    assert "this kernel" in told and "models   1" in told and "0 active, 3 ended" in told


def test_a_training_is_paused_resumed_and_extended(cell: Run, ip: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cell("df['same'] = 1.0")
    job = cell("%train m --data df --target y --model linear --epochs 100000 --patience 0 --background")
    next(event for event in job.events() if isinstance(event, EpochEnd))
    cell("%maas pause job" if "job" in ip.user_ns else f"%maas pause {job.info.id}")
    while job.info.state != "paused":
        time.sleep(0.01)
    assert f"%maas resume {job.info.id} continues" in capsys.readouterr().out
    cell("%maas status")
    assert "paused" in capsys.readouterr().out
    before = random.getstate(), np.random.get_state()[1].tolist()
    assert cell(f"%maas resume {job.info.id}") is job
    cell(f"%maas stop {job.info.id}")
    done = job.result(30).epochs
    cell(f"%maas logs {job.info.id}")
    told = capsys.readouterr().out
    assert "paused" in told and "continues in epoch" in told
    assert told.count("has one value only") == 1
    more = cell(f"%train m --resume --epochs {done + 2}")
    assert more.ref == "m:2" and more.epochs == done + 2
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_a_cell_whose_training_is_paused_ends_with_the_job(cell: Run, ip: Any) -> None:
    def pause() -> None:
        while not (jobs := ip.user_ns["maas"].jobs()) or jobs[0].state != "running":
            time.sleep(0.01)
        job = ip.user_ns["maas"].attach(jobs[0].id)
        next(event for event in job.events() if isinstance(event, EpochEnd))
        job.pause()

    cell("import maas_magics as maas")
    threading.Thread(target=pause, daemon=True).start()
    job = cell("%train m --data df --target y --model linear --epochs 100000 --patience 0")
    assert isinstance(job, Job) and job.info.state == "paused"
    cell(f"%maas stop {job.info.id}")
    assert job.result(30).stopped


def test_maas_follows_and_stops_jobs(cell: Run, ip: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cell("%maas jobs")
    assert "There is no job yet." in capsys.readouterr().out
    cell("job = %train m --data df --target y --model linear --epochs 1000000 -b")
    id = ip.user_ns["job"].id
    next(event for event in ip.user_ns["job"].events() if type(event).__name__ == "EpochEnd")
    cell("%maas jobs")
    assert id in capsys.readouterr().out
    cell("%maas status")
    told = capsys.readouterr().out
    assert f"job {id}" in told and "train m: running" in told
    cell(f"%maas stop {id[:6]}")
    assert f"Stopping train m ({id})" in capsys.readouterr().out
    ip.user_ns["job"].result(30)
    cell(f"%maas stop {id}")
    assert "has ended already: stopped" in capsys.readouterr().out
    cell(f"%maas logs {id}")
    told = capsys.readouterr().out
    assert "started train m: task binary" in told and "epoch 1: train loss" in told and "← best" in told
    assert told.strip().splitlines()[-1].endswith("stopped")
    assert cell(f"%maas attach {id}") is ip.user_ns["job"]
    assert cell(f"%maas attach {id} --wait") is ip.user_ns["job"].result()
    assert "train m: stopped" in capsys.readouterr().err


def test_a_job_is_named_by_its_model_or_is_the_newest(
    cell: Run, ip: Any, failing: Failing, capsys: pytest.CaptureFixture[str]
) -> None:
    cell("%train a --data df --target y --model linear --epochs 1")
    cell("long = %train b --data df --target y --model linear --epochs 1000000 --patience 0 -b")
    cell("%predict a df")
    long = ip.user_ns["long"]
    next(event for event in long.events() if isinstance(event, EpochEnd))
    assert cell("%maas attach") is long and cell("%maas attach b") is long and cell("%maas attach b:3") is long
    cell("%maas pause b")
    while long.info.state != "paused":
        time.sleep(0.01)
    assert cell("%maas resume b") is long
    assert "There is no job 'c'." in failing("%maas stop c")
    assert "There is no job" in failing(f"%maas stop {long.info.id[:3]}"), "so short a word may be a slip"
    cell("%maas stop")
    assert f"Stopping train b ({long.info.id})" in capsys.readouterr().out
    long.result(30)
    cell("again = %train a --data df --target y --model linear --epochs 1000000 --patience 0 -b")
    next(event for event in ip.user_ns["again"].events() if isinstance(event, EpochEnd))
    cell("%maas stop a")
    assert ip.user_ns["again"].result(30).stopped
    capsys.readouterr()
    cell("%maas logs")
    assert "started train a" in capsys.readouterr().out
    cell("%maas logs b")
    assert "started train b" in capsys.readouterr().out
    assert cell("%maas attach a --wait").ref == "a:2"


def test_a_job_that_is_attached_and_waited_for_gives_what_its_own_cell_gave(cell: Run, failing: Failing) -> None:
    cell("%train m --data df --target y --model linear --epochs 1000000 --patience 0 -b")
    cell("import maas_magics as maas")
    cell("job = maas.jobs()[0].id\nnext(event for event in maas.attach(job).events() if 'EpochEnd' in repr(event))")
    cell("import threading\nthreading.Timer(0.2, maas.stop, [job]).start()")
    assert cell("maas.attach(job, block=True)").stopped
    told = failing("%train n --data df --target nobody")
    assert told == failing("maas.attach(maas.jobs()[0].id, block=True)") and "nobody" in told
    cell("maas.functions.current().backend.submit(maas.functions.PredictRequest(model='m', data=df)).result()")
    job = cell("maas.attach(maas.jobs()[0].id, block=True)")
    assert isinstance(job, Job) and job.info.state == "succeeded", "its answers went to whoever asked"


# --- in and out of the shell ---


def test_loading_twice_and_unloading(ip: Any, cell: Run) -> None:
    names = ("train", "evaluate", "export", "predict", "maas")
    ours = [m for m in ip.Completer.custom_matchers if getattr(m, "matcher_identifier", "") == "maas_magics"]
    assert len(ours) == 1
    ip.run_line_magic("load_ext", "maas_magics")
    ip.run_line_magic("reload_ext", "maas_magics")
    ours = [m for m in ip.Completer.custom_matchers if getattr(m, "matcher_identifier", "") == "maas_magics"]
    assert len(ours) == 1
    cell(TRAIN)
    ip.run_line_magic("unload_ext", "maas_magics")
    for kind in ("line", "cell"):
        assert not set(names) & set(ip.magics_manager.magics[kind])
    assert not [m for m in ip.Completer.custom_matchers if getattr(m, "matcher_identifier", "") == "maas_magics"]
    ip.run_line_magic("load_ext", "maas_magics")
    assert len(cell("%predict m df")) == 80, "the session goes on"


def test_automagic_runs_until_the_word_is_a_variable(ip: Any, cell: Run) -> None:
    cell("%automagic on") if not ip.automagic else None
    assert cell(TRAIN.removeprefix("%")).ref == "m:1"
    assert "maas_magics.magics" in sys.modules


# --- quotes ---


def test_a_text_in_quotes_is_one_row_and_never_run(cell: Run, ip: Any, failing: Failing, tmp_path: Path) -> None:
    ip.user_ns["said"] = pd.DataFrame({"text": ["df", "I love this", "n"] * 20, "mood": ["bad", "good", "so"] * 20})
    cell("%train mood --data said --target mood --model mlp --epochs 60 --patience 0 --batch-size 8")
    for line in (
        '%predict mood "I love this"',
        "%predict mood 'I love this'  # and I mean it",
        "%predict mood {' '.join(['I', 'love', 'this'])}",
    ):
        answers = cell(line)
        assert len(answers) == 1 and answers.iloc[0, 0] == "good"
    assert len(cell("%predict mood 'df'")) == 1, "a text, though it is the name of a table"
    assert cell("%predict mood \"__import__('os').getcwd()\" --top 1") is not None
    cell(f"said.to_csv({str(tmp_path / 'my rows.csv')!r})")
    assert len(cell(f'%predict mood "{tmp_path}/my rows.csv"')) == 60
    cell(TRAIN)
    told = failing('%predict m "I love this"')
    assert "not a file; the model takes a, big b, code" in told


# --- completion ---

KINDS = ("audio", "column", "image", "spans", "text", "words")


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("%train --mo", ["--model", "--monitor"]),
        ("x = %train --mo", ["--model", "--monitor"]),
        ("%%train --mo", ["--model", "--monitor"]),
        ("a = 1\n%train m --ep", ["--epochs"]),
        ("%train m --epochs 3 --ep", []),
        ("%train m --data d", ["df"]),
        ("%train m --data df --target ", ["a", '"big b"', "code", "y"]),
        ("%train m --data df --target b", ['"big b"']),
        ('%train m --data df --target "bi', ['"big b"']),
        ('%train m --data df --target "big ', ['"big b"']),
        ("%train m --data X ", ["X", "df", "y"]),
        ("%train m --data X y --model li", ["linear"]),
        ("%train -b ", ["kept"]),
        ("%train m --data rows.csv --target ", ["x", '"y z"']),
        ("%train m --target a,b --data rows.csv -m lin", ["linear"]),
        ("%train m --data ro", ["rows.csv"]),
        ("%train m --data df --target a,co", ["a,code"]),
        ("%train m --data df --metrics accuracy,f", ["accuracy,f1", "accuracy,fit_me"]),
        ("%train m --data df --loss fi", ["fit_me"]),
        ("%train m --data df --callback fi", ["fit_me"]),
        ("%train m --data df --epochs ", ["n"]),
        ("%train m --data df --lr a", ["auto"]),
        ("%train m --data df --model mlp --set hi", ["hidden="]),
        ("%train m --data df --task=multil", ["--task=multilabel"]),
        ("%train m --data df --optimizer SGD --optimizer-set mom", ["momentum="]),
        ("return %train m --data df --task bi", ["binary"]),
        ("def f(x): return %train m --data df --task bi", ["binary"]),
        ("%serve ke", ["kept"]),
        ("%serve --s", ["--stop"]),
        ("%connect lo", ["local"]),
        ("%connect local --token-file ro", ["rows.csv"]),
        ("%export kept --out ro", ["rows.csv"]),
        ("%predict kept df --out d", ["df"]),
        ("%predict kept:", ["kept:1"]),
        ("%predict kept@", ["kept@best"]),
        ("%maas rm kept@b", ["kept@best"]),
        ("%maas rm kept --", ["--yes"]),
        ("%maas alias kept ", ["best"]),
        ("%maas compare kept:1 kept@", ["kept@best"]),
        ("%maas stop ke", ["kept"]),
        ("%maas logs ke", ["kept"]),
        ("%train --epochs=3 ", ["kept"]),
        ("%train --epochs 3 ", ["kept"]),
        (
            "%train m --data df --model ",
            [
                "bow",
                "causal",
                "cnn",
                "diffusers",
                "flow",
                "fusion",
                "gpt",
                "hf",
                "linear",
                "mlp",
                "net",
                "resnet",
                "tabm",
                "textcnn",
                "timm",
                "transformer",
                "trees",
                "unet",
            ],
        ),
        ("%train m --data df --task multi", ["multiclass", "multilabel"]),
        ("%train m --data df --model hf:", ["hf:weights/"]),
        ("%train m --data df --model hf:wei", ["hf:weights/"]),
        ("%train m --data df --feature c", ["code="]),
        ("%train m --data df --feature code=", [f"code={kind}" for kind in KINDS]),
        ("%train m --data df --feature code=te", ["code=text"]),
        ("%train m --loss hu", ["huber"]),
        ("%export kep", ["kept"]),
        ("%export kept --format ", ["coreml", "executorch", "litert", "onnx", "openvino", "ort", "pt2", "safetensors"]),
        ("%export --f", ["--format"]),
        ("%predict ", ["kept"]),
        ("%predict kept ", ["X", "df", "y"]),
        ("%predict kept --top 3 d", ["df"]),
        ("%evaluate kept --data df --target co", ["code"]),
        ("%maas st", ["status", "stop"]),
        ("%maas models ", ["kept"]),
        ("%maas train --mo", ["--model", "--monitor"]),
        ("%train m --data df --precision b", ["bf16"]),
        ("%train m --data df --schedule CosineAnnealingW", ["CosineAnnealingWarmRestarts"]),
        ("%train m --data df --schedule p", ["plateau"]),
        ("%train m --data df --un", ["--unfreeze"]),
        ("%maas attach JOB --w", ["--wait"]),
        ("%maas rm ke", ["kept"]),
    ],
)
def test_completion(
    text: str, offered: list[str], ip: Any, cell: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell(TRAIN.replace("train m ", "train kept "))
    cell("%maas alias kept best")
    cell("net = nn.Linear(3, 1)\ndef fit_me(outputs, target): pass")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("rows.csv").write_text("x,y z\n1,2\n")
    Path("weights").mkdir()
    assert sorted(completions(ip, text)) == sorted(offered)


def test_every_option_of_every_magic_completes_in_the_order_of_use(ip: Any) -> None:
    from maas_magics.magics import maas as words

    commands = {name: module.COMMAND for name, module in words.MAGICS.items()}
    commands |= {f"maas {name}": command for name, (command, _) in words.SUBCOMMANDS.items()}
    for name, command in commands.items():
        flags = [option for option in command.options if not option.positional]
        wanted = [max(option.flags, key=len) for option in sorted(flags, key=lambda option: not option.needed)]
        found = completions(ip, f"%{name} --")
        assert found == wanted, name
        for option in flags:
            assert option.switch or option.offer or option.choices or name == "train" or option.offers, option
    assert completions(ip, "%train m --")[:2] == ["--data", "--target"]
    assert completions(ip, "%train m ")[:2] == ["--data", "--target"]
    assert completions(ip, "%evaluate m ")[0] == "--data"


def test_the_help_of_a_training_stands_in_groups() -> None:
    from maas_magics.magics.train import COMMAND, GROUPS

    told = COMMAND.help()
    assert [line.rstrip(":") for line in told.splitlines() if line in {f"{head}:" for head in GROUPS}] == list(GROUPS)
    assert list(GROUPS) == ["data", "network", "training", "speed", "service"]
    grouped = [key for keys in GROUPS.values() for key in keys.split()]
    assert sorted(grouped) == sorted(option.key for option in COMMAND.options if not option.positional)
    assert all(
        told.count(f"  {option.usage.split()[0]} ") or option.flags[1:] or option.switch for option in COMMAND.options
    )


def test_what_is_offered_is_what_there_is() -> None:
    from maas_magics.core.training.steps.lr_schedule import PLATEAU, TORCH
    from maas_magics.core.training.steps.precision import PRECISIONS
    from maas_magics.core.training.steps.schedules import SCHEDULES
    from maas_magics.magics.train import COMMAND

    offered = {option.key: option.offer or option.choices for option in COMMAND.options}
    assert set(offered["schedule"]) == {*SCHEDULES, PLATEAU, *TORCH}
    assert set(offered["precision"]) == set(PRECISIONS)


def completions(ip: Any, text: str) -> list[str]:
    from IPython.core.completer import provisionalcompleter

    ip.Completer.use_jedi = False
    with provisionalcompleter():
        found = [completion.text for completion in ip.Completer.completions(text, len(text))]
    return found


def test_completion_of_jobs(ip: Any, cell: Run) -> None:
    cell("job = " + TRAIN + " -b")
    id = ip.user_ns["job"].id
    ip.user_ns["job"].result(30)
    for word in ("stop", "attach", "logs"):
        assert completions(ip, f"%maas {word} {id[:3]}") == [id]


@pytest.mark.parametrize(
    "text", ["import o", "x = 3\nx.", "%timei", "df.he", "%%train m\nnn.Lin", "print('%train --mo"]
)
def test_other_completion_is_left_alone(text: str, ip: Any) -> None:
    assert not {"--model", "df", "X"} & set(completions(ip, text))
