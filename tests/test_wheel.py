"""The package as a stranger gets it: built, installed into an empty environment, loaded, used."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SCRIPT = """
from IPython.core.interactiveshell import InteractiveShell
import numpy as np

shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "maas_magics")
rng = np.random.default_rng(0)
X = rng.normal(size=(200, 4)).astype("float32")
shell.push({"X": X, "y": (X[:, 0] > 0).astype("int64")})
for cell in ("model = %train sign --data X y --epochs 15", "artifact = %export sign", "answers = %predict sign X"):
    shell.run_cell(cell).raise_error()
assert shell.user_ns["artifact"].verification.max_abs_diff < 1e-4
print("right:", float((shell.user_ns["answers"] == shell.user_ns["y"]).mean()))
"""


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


BARE = """
import sys
from importlib.machinery import PathFinder

EXTRAS = "diffusers gguf llguidance optuna pandas peft sklearn soundfile soxr timm tokenizers torchmetrics transformers"

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in EXTRAS.split() else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
"""


def test_the_three_cells_need_no_extra(tmp_path):
    environment = os.environ | {"MAAS_STORE": str(tmp_path / "store"), "MAAS_UI": "static", "IPYTHONDIR": str(tmp_path)}
    told = run(sys.executable, "-c", BARE + SCRIPT, env=environment)
    assert float(told.rpartition("right: ")[2]) > 0.9


@pytest.mark.slow
def test_a_wheel_installs_into_an_empty_environment_and_trains_there(tmp_path):
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"MAAS_STORE": str(tmp_path / "store"), "MAAS_UI": "static", "IPYTHONDIR": str(tmp_path / "ipython")}
    told = run(python, "-c", SCRIPT, cwd=tmp_path, env=environment)
    assert float(told.rpartition("right: ")[2]) > 0.9
    installed = run(python, "-m", "pip", "list", "--format", "freeze").lower()
    assert "pandas==" not in installed, "a bare install needs no pandas"
