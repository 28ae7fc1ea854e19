"""A network, a format and a kind of data of another package are used like ours, with no line changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import lantern
import pytest

USE = """
import maas_magics as maas, numpy as np
from lantern import Ledger
from maas_magics.api.errors import NotFound
from maas_magics.magics.offers import architectures

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
    assert "offered ['cnn', 'linear', 'mlp', 'lantern']" in told
    assert "again 2" in run(AGAIN, package), "another process builds the network by its name"
