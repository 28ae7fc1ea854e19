"""A network, a format, a kind of data and a kind of column of another package are used like ours, with no line changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import lantern
import pytest
from serving import Service

USE = """
import maas_magics as maas, numpy as np
from lantern import Ledger
from maas_magics.api.errors import NotFound
from maas_magics.magics.completions import architectures

rng = np.random.default_rng(0)
book = Ledger([(float(a), float(b), "up" if a > b else "down") for a, b in rng.normal(size=(200, 2))])
model = maas.train("m", book, "y", model="lantern", params={"width": 16})
print("accuracy", maas.evaluate("m", book)["accuracy"] > 0.9, model.info.architecture)
artifact = maas.export("m", format="plain")
print("export", artifact.format, artifact.verification.max_abs_diff)
small = maas.export("m", compress="coarse", max_drop="5%")
print("variant", small.variant, len(maas.predict("m@coarse", book)["prediction"]), small.verification.max_abs_diff > 0)
print("answers", sorted(set(maas.predict("m", book)["prediction"].to_pylist())))
try:
    maas.train("n", book, "y", model="candle")
except NotFound as error:
    print("miss", "lantern" in str(error))
from maas_magics.magics.options import Typed
from maas_magics.magics.words import Names
print("offered", architectures(Typed(Names({}), [], "", [], list, list, lambda model: [], lambda file: [])))
"""
AGAIN = """
import maas_magics as maas
print("again", len(maas.predict("m", {"a": [0.5, -0.5], "b": [0.0, 0.0]})["prediction"]))
"""


@pytest.fixture
def package(tmp_path: Path) -> dict[str, str]:
    """Environment of processes that have the package installed."""
    info = tmp_path / "site" / "lantern-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lantern\nVersion: 1.0\n")
    points = [f"[maas_magics.{group}]\n{name} = lantern:{what}\n" for group, (name, what) in lantern.GROUPS.items()]
    (info / "entry_points.txt").write_text("\n".join(points))
    (tmp_path / "site" / "lantern.py").write_text(Path(lantern.__file__).read_text())
    paths = [str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]
    place = {"MAAS_STORE": str(tmp_path / "store"), "MAAS_UI": "static"}
    return os.environ | place | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def run(code: str, env: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_another_package_brings_trains_exports_and_answers(package: dict[str, str]) -> None:
    told = run(USE, package)
    for line in (
        "accuracy True lantern",
        "export plain 0.0",
        "variant coarse 200 True",
        "answers ['down', 'up']",
        "miss True",
    ):
        assert line in told
    offered = next(line for line in told.splitlines() if line.startswith("offered ["))
    assert offered.endswith(", 'lantern']") and "'tabm'" in offered
    assert "again 2" in run(AGAIN, package), "another process builds the network by its name"


GLYPHS = """
import os, sys, json
import maas_magics as maas, numpy as np, pyarrow as pa
from torch import nn

rng = np.random.default_rng(0)
cells = rng.integers(0, 2, (300, 16))
glyphs = ["/".join("".join(".#"[c] for c in row) for row in np.reshape(one, (4, 4))) for one in cells]
table = pa.table({"glyph": glyphs, "size": rng.normal(size=300), "y": np.where(cells[:, :8].sum(1) > cells[:, 8:].sum(1), "top", "low")})
rows = table.drop_columns(["y"])
note = os.environ["LANTERN_NOTE"]
"""

EAGER = (
    GLYPHS
    + """
def trained(name, **options):
    open(note, "w").close()
    model = maas.train(name, table, "y", model="mlp", epochs=8, batch_size=32, **options)
    told = [tuple(map(int, line.split())) for line in open(note)]
    return model, told
one, told = trained("one")
print("batches", max(size for _, size in told) <= 1000, sum(size == 32 for _, size in told) > 30)
two, told = trained("two", loader_workers=2)
print("workers", len({pid for pid, size in told if pid != os.getpid()}))
print("same", one.history == two.history, one.metrics == two.metrics)
print("better", one.metrics["accuracy"] > 0.7)
spec = one.info.signature.inputs[0]
print("types", spec.name, spec.datatype, spec.shape)
print("export", maas.export("one", format="onnx").verification.max_abs_diff < 1e-5)
first = maas.predict("one", rows)["prediction"].to_pylist()
bad = {"glyph": ["#"], "size": [0.0]}
for ask in (lambda: maas.predict("one", bad), lambda: maas.train("m", {"glyph": glyphs[:5] + ["#"] + glyphs[6:], "size": [0.0] * 300}, [0.0, 1.0] * 150, model="mlp", validation=0.0)):
    try:
        ask()
    except Exception as error:
        print("told", str(error).splitlines()[0])
net = nn.Linear(17, 2)
class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(16, 2)
    def forward(self, glyph, size):
        return self.inner(glyph) + size[:, None]
module = maas.train("own", table, "y", model=Both(), epochs=12, lr=0.1)
print("module", module.metrics["accuracy"] > 0.7, [spec.name for spec in module.info.signature.inputs])
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "maas_magics")
shell.run_line_magic("connect", os.environ["LANTERN_SERVICE"])
again = maas.train("one", table, "y", model="mlp", epochs=8, batch_size=32)
print("there", again.history["loss"] == one.history["loss"])
print("served", maas.predict("one", rows)["prediction"].to_pylist() == first)
"""
)


def test_a_column_that_is_dear_to_encode_is_encoded_by_workers_as_an_epoch_asks(
    package: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", package["PYTHONPATH"])
    service = Service(tmp_path / "service")
    try:
        place = {"LANTERN_SERVICE": service.url, "MAAS_TOKEN": service.token, "LANTERN_NOTE": str(tmp_path / "note")}
        found = run(EAGER, package | place | {"OMP_NUM_THREADS": "1"})
    finally:
        service.stop()
    told = [line for line in found.splitlines() if line.partition(" ")[0] in WORDS]
    assert told == [
        "batches True True",
        "workers 2",
        "same True True",
        "better True",
        "types glyph FP32 (-1, 16)",
        "export True",
        "told Column 'glyph' holds pictures of other sizes.",
        "told Column 'glyph' holds pictures of other sizes.",
        "module True ['glyph', 'size']",
        "there True",
        "served True",
    ]


RANKS = """
import os, sys
from pathlib import Path
import maas_magics as maas, numpy as np, pyarrow as pa, msgspec
from torch import nn
from IPython.core.interactiveshell import InteractiveShell

rng = np.random.default_rng(0)
X = rng.normal(size=(600, 3)).astype("float32")
y = np.digitize(X @ [1.0, 2.0, -1.0], [-2.0, 0.0, 2.0])
table = pa.table({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "grade": y})
rows = table.drop_columns(["grade"])
note = Path(os.environ["LANTERN_NOTE"])
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "maas_magics")
shell.user_ns.update(table=table, rows=rows)

def everything(where):
    model = shell.run_line_magic("train", "m --data table --target grade --task ranks --epochs 20 --model mlp")
    print(where, "trained", model.info.task, sorted(model.metrics), model.metrics["accuracy"] > 0.8, model.metrics["rank_error"] < 0.25)
    answers = shell.run_line_magic("predict", "m rows")
    print(where, "answers", answers.column_names, answers["prediction"].type, np.mean(answers["prediction"].to_numpy() == y) > 0.8)
    found = shell.run_line_magic("evaluate", "m --data table")
    print(where, "scored", sorted(found.values), found.values["rank_error"] < 0.25, found.classes)
    note.unlink(missing_ok=True)
    artifact = shell.run_line_magic("export", "m")
    print(where, "exported", artifact.format, note.read_text())
    return answers

one = everything("kernel")
file = os.path.join(os.environ["MAAS_STORE"], "rows.parquet")
import pyarrow.parquet
pyarrow.parquet.write_table(table, file)
streamed = maas.train("s", file, "grade", task="ranks", stream=True, model="mlp", epochs=20)
print("kernel streamed", streamed.metrics["accuracy"] > 0.8)
module = maas.train("own", (X, y), model=nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 3)), task="ranks", epochs=20, lr=0.01)
print("kernel module", module.info.task, module.metrics["accuracy"] > 0.8)
try:
    maas.train("n", table, "grade", task="rank")
except Exception as error:
    print("kernel told", type(error).__name__, *str(error).splitlines())
print("kernel offered", shell.complete("%train m --task ra")[1])
import io, contextlib
with contextlib.redirect_stdout(io.StringIO()) as out:
    shell.run_line_magic("train", "--help")
print("kernel help", "ranks" in out.getvalue().replace(",", " ").split())
shell.run_line_magic("connect", os.environ["LANTERN_SERVICE"])
print("service same", everything("service").equals(one))
module = maas.train("own", (X, y), model=nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 3)), task="ranks", epochs=20, lr=0.01)
print("service module", module.info.task, module.metrics["accuracy"] > 0.8)
"""

ASK = """
import httpx2, json, os
body = {"inputs": [{"name": name, "datatype": "FP32", "shape": [1], "data": [1.0]} for name in "abc"]}
answer = httpx2.post(os.environ["LANTERN_SERVICE"] + "/v2/models/m/infer", json=body, headers={"authorization": "Bearer " + os.environ["MAAS_TOKEN"]}).json()
print("protocol", [(o["name"], o["shape"], sum(o["data"]) > 0.99) for o in answer["outputs"]])
"""


def test_a_task_of_another_package_is_learnt_answered_scored_exported_and_served(
    package: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", package["PYTHONPATH"])
    note = str(tmp_path / "note")
    monkeypatch.setenv("LANTERN_NOTE", note)
    service = Service(tmp_path / "service")
    try:
        place = {"LANTERN_SERVICE": service.url, "MAAS_TOKEN": service.token, "LANTERN_NOTE": note}
        found = run(RANKS + ASK, package | place | {"OMP_NUM_THREADS": "1"})
    finally:
        service.stop()
    told = [line for line in found.splitlines() if line.partition(" ")[0] in ("kernel", "service", "protocol")]
    everything = [
        "trained ranks ['accuracy', 'loss', 'rank_error'] True True",
        "answers ['prediction', 'probability_0', 'probability_1', 'probability_2', 'probability_3'] int64 True",
        "scored ['accuracy', 'rank_error'] True ('0', '1', '2', '3')",
        "exported onnx compared True",
    ]
    assert told == [
        *(f"kernel {line}" for line in everything),
        "kernel streamed True",
        "kernel module ranks True",
        "kernel told NotFound There is no task 'rank'. Did you mean 'ranks'?",
        "kernel offered ['ranks']",
        "kernel help True",
        *(f"service {line}" for line in everything),
        "service same True",
        "service module ranks True",
        "protocol [('prediction', [1], True), ('probabilities', [1, 4], True)]",
    ]


CENSUS = """
import contextlib, io, os
import maas_magics as maas, pyarrow as pa
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
def cell(code):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        done = shell.run_cell(code)
    done.raise_error()
    return done.result, out.getvalue()
cell("%load_ext maas_magics")
table = pa.table({"a": [0.0, 1.0, 2.0, 3.0] * 20, "y": ["no", "no", "yes", "yes"] * 20})
shell.user_ns.update(table=table, rows=table.drop_columns(["y"]))

def everything(where):
    maas.train("m", table, "y", model="linear", epochs=60, lr=0.1)
    print(where, "magic", cell("%census m --data rows")[0])
    print(where, "subcommand", cell("%maas census m --data rows --least 41")[0])
    print(where, "in a function", cell("def f(data):\\n    return %census m --data data\\nf(rows)")[0])
    print(where, "function", maas.run("census", model="m", data=table, least=2).counts)
    for wrong in ({"model": "m", "data": table, "most": 3}, {"model": "m", "data": table, "least": "two"}):
        try:
            maas.run("census", **wrong)
        except Exception as error:
            print(where, "told", *str(error).splitlines())
    job = maas.jobs()[0]
    print(where, "job", job.title, job.state, maas.attach(job.id).result().counts)
    print(where, "heard", [event.text for event in maas.logs(job.id) if hasattr(event, "text")])

everything("kernel")
try:
    maas.run("censuss")
except Exception as error:
    print("kernel told", *str(error).splitlines())
print("kernel help", "--least N" in cell("%census --help")[1], "Count the answers of a model." in cell("%maas help")[1])
print("kernel offered", shell.complete("%census m --le")[1], shell.complete("%maas cen")[1])
cell("%connect " + os.environ["LANTERN_SERVICE"])
everything("service")
cell("%unload_ext maas_magics")
print("kernel gone", shell.find_line_magic("census"), shell.find_line_magic("train"))
"""


def test_a_verb_of_another_package_is_a_magic_a_function_and_a_job_of_a_service(
    package: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", package["PYTHONPATH"])
    service = Service(tmp_path / "service")
    try:
        place = {"LANTERN_SERVICE": service.url, "MAAS_TOKEN": service.token}
        found = run(CENSUS, package | place | {"OMP_NUM_THREADS": "1"})
    finally:
        service.stop()
    told = [line for line in found.splitlines() if line.partition(" ")[0] in ("kernel", "service")]
    everything = [
        "magic Census(model='m:1', counts={'no': 40, 'yes': 40})",
        "subcommand Census(model='m:1', counts={})",
        "in a function Census(model='m:1', counts={'no': 40, 'yes': 40})",
        "function {'no': 40, 'yes': 40}",
        "told census has no argument 'most'. There is: data, least, model.",
        "told least is 'two'; a number was expected. least=… takes a whole number.",
        "job census m succeeded {'no': 40, 'yes': 40}",
        "heard ['m:1 was asked.']",
    ]
    assert told == [
        *(f"kernel {line}" for line in everything),
        "kernel told There is no verb 'censuss'. Did you mean 'census'?",
        "kernel help True True",
        "kernel offered ['--least'] ['census']",
        *(f"service {line}" for line in everything),
        "kernel gone None None",
    ]


WORDS = {"batches", "workers", "same", "better", "types", "export", "told", "module", "there", "served"}
