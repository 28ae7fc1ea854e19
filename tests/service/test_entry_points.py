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
    for line in ("accuracy True lantern", "export plain 0.0", "answers ['down', 'up']", "miss True"):
        assert line in told
    assert "offered ['cnn', 'linear', 'mlp', 'tabm', 'lantern']" in told
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


WORDS = {"batches", "workers", "same", "better", "types", "export", "told", "module", "there", "served"}
