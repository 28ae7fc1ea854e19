"""`%connect` and `%serve` in a real shell, with a real service that outlives it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from maas_magics.api.signature import Signature, TensorSpec
from maas_magics.endpoint import Endpoint
from maas_magics.remote.connect import READY, TOKEN, find_local, stop_local

Cell = Callable[[str], Any]
Failing = Callable[[str], str]


@pytest.fixture
def frame(ip: InteractiveShell) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    made = pd.DataFrame({"size": rng.normal(size=120), "kind": rng.choice(["u", "v"], 120)})
    made["label"] = np.where(made["size"] > 0, "yes", "no")
    ip.user_ns["df"] = made
    return made


@pytest.fixture
def local(ip: InteractiveShell, store: Path) -> Iterator[None]:
    """Whatever service a test starts ends with it."""
    yield
    ip.run_cell("%connect kernel")
    stop_local(store)


@pytest.mark.usefixtures("frame", "local")
def test_the_same_cells_run_on_a_service(cell: Cell, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell("%connect local")
    assert "Cells run on http://127.0.0.1:" in capsys.readouterr().out
    trained = cell("%train m --data df --target label --model linear --epochs 3")
    assert trained.ref == "m:1" and trained.epochs == 3
    assert cell("%export m").format == "onnx"
    there = cell("%predict m df")
    assert list(there) == ["prediction", "probability_no", "probability_yes"] and len(there) == 120
    assert cell("%evaluate m --data df").rows == 120
    cell("%maas status")
    told = capsys.readouterr().out
    assert "runs on" in told and "m:1" in told and "http://127.0.0.1:" in told
    cell("%connect kernel")
    pd.testing.assert_frame_equal(cell("%predict m df"), there)
    secret = (store / TOKEN).read_text().strip()
    assert secret not in told and secret not in repr(find_local(store))


@pytest.mark.usefixtures("frame", "local")
def test_what_serve_prints_works_when_it_is_pasted(
    cell: Cell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell("%train m --data df --target label --model linear --epochs 3")
    cell("%export m")
    endpoint = cell("%serve m")
    assert isinstance(endpoint, Endpoint) and endpoint.infer.endswith("/v2/models/m/infer")
    shown = capsys.readouterr().out
    assert endpoint.curl in shown and endpoint.python in shown
    cell("%maas status")
    shown = capsys.readouterr().out
    assert "this kernel" in shown and f"{endpoint.url}; %serve --stop ends it" in shown
    assert [line.split() for line in shown.splitlines() if "served" in line] == [["model", "m:1", "served", "open"]]
    told = subprocess.run(["bash", "-c", endpoint.curl], capture_output=True, text=True)
    assert ('"model_name":"m"' in told.stdout and '"data":["no"]' in told.stdout) or '"data":["yes"]' in told.stdout
    script = tmp_path / "ask.py"
    script.write_text(endpoint.python)
    told = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert told.returncode == 0 and ("b'no'" in told.stdout or "b'yes'" in told.stdout), told.stderr
    assert cell("%serve m:1").infer.endswith("/v2/models/m/versions/1/infer")
    variant = cell("%serve m@onnx")
    told = subprocess.run(["bash", "-c", variant.curl], capture_output=True, text=True)
    assert variant.model == "m:1@onnx" and '"model_version":"1@onnx"' in told.stdout
    cell("%serve m --stop")
    told = subprocess.run(["bash", "-c", endpoint.curl], capture_output=True, text=True)
    assert "is not loaded" in told.stdout
    cell("%serve --stop")
    assert "The service has stopped." in capsys.readouterr().out
    cell("%maas status")
    assert "%serve --stop" not in capsys.readouterr().out
    cell("%serve --stop")
    assert "No service" in capsys.readouterr().out


@pytest.mark.usefixtures("frame", "local")
def test_functions_connect_and_serve_as_the_magics_do(cell: Cell, failing: Failing, store: Path) -> None:
    cell("import maas_magics as maas")
    cell("model = maas.train('m', df, 'label', model='linear', epochs=1)")
    assert "no model 'nobody'" in failing("maas.serve('nobody')")
    assert find_local(store) is None  # and no service was started for it
    endpoint = cell("maas.serve('m')")
    assert isinstance(endpoint, Endpoint) and endpoint.url == cell("%serve m").url
    assert cell("maas.status()")["backend"] == "this kernel"
    assert endpoint.url in cell("maas.connect()") and cell("maas.status()")["backend"] == endpoint.url
    assert "in this kernel" in cell("maas.connect('kernel')")


@pytest.mark.usefixtures("frame", "local")
def test_after_the_service_that_is_connected_was_stopped_cells_run_in_the_kernel(
    cell: Cell, capsys: pytest.CaptureFixture[str]
) -> None:
    cell("%connect local")
    cell("%serve --stop")
    told = capsys.readouterr().out
    assert "Cells run in this kernel again" in told and "%connect local" in told
    assert cell("%train m --data df --target label --model linear --epochs 1").ref == "m:1"


@pytest.mark.usefixtures("frame", "local")
def test_a_service_that_somebody_else_stopped_is_not_waited_for(
    cell: Cell, failing: Failing, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell("%connect local")
    job = cell("%train m --data df --target label --model linear --epochs 1")
    assert job.ref == "m:1"
    stop_local(store)

    def sleep(seconds: float) -> None:
        raise AssertionError("it waited for a service that was stopped")

    monkeypatch.setattr("maas_magics.remote.client.time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    for line in ("%maas models", "%predict m df", "%train m --data df --target label", "%serve m"):
        told = failing(line)
        assert "does not answer" in told and "%connect local" in told, line


OTHER = """
import sys
import numpy as np, pandas as pd
from maas_magics.session import Session
from maas_magics.api.requests import TrainRequest
session = Session()
session.connect("local")
x = np.random.default_rng(0).normal(size=(200, 3))
job = session.run(TrainRequest(name="m", data=x, target=x[:, 0], model="linear", epochs=1_000_000, patience=0), background=True)
next(iter(job.events()))
print(job.info.id, flush=True)
sys.stdin.readline()
"""


@pytest.mark.usefixtures("local")
def test_a_training_of_a_killed_kernel_is_attached_and_stopped(
    cell: Cell, ip: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    other = subprocess.Popen([sys.executable, "-c", OTHER], stdin=-1, stdout=-1, text=True, env={**os.environ})
    assert other.stdout is not None
    id = other.stdout.readline().strip()
    other.kill()
    other.communicate()
    cell("%connect local")
    cell("%maas jobs")
    assert id in capsys.readouterr().out
    cell(f"job = get_ipython().run_line_magic('maas', 'attach {id[:6]}')")
    ip.user_ns["job"] = ip.user_ns["job"] or __import__("maas_magics").attach(id)
    events = ip.user_ns["job"].events()
    assert next(events).seq == 1
    cell("%maas stop job")
    assert ip.user_ns["job"].result(60).stopped
    cell(f"%maas logs {id}")
    assert "started" in capsys.readouterr().out.lower()


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("nowhere", "'nowhere' is not the address of a service"),
        ("ftp://127.0.0.1", "is not the address of a service"),
        ("https://", "is not the address of a service"),
        ("http://127.0.0.1:x", "is not the address of a service"),
        ("https://secret@127.0.0.1:8", "holds no token"),
        ("https://127.0.0.1:8?token=secret", "holds no token"),
        ("http://198.51.100.1:8000", "would send the token and the data unencrypted"),
        ("http://127.0.0.1:9", "does not answer"),
        ("oip+http://127.0.0.1:9", "does not answer"),
        ("openai+http://127.0.0.1:9/v1", "does not answer"),
        ("openai+http://198.51.100.1:8000", "would send the token and the data unencrypted"),
        ("http://127.0.0.1:9 --token-file nowhere", "The token cannot be read"),
    ],
)
def test_an_address_that_makes_no_sense_is_told_and_nothing_changes(
    where: str,
    told: str,
    failing: Failing,
    cell: Cell,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("maas_magics.remote.client.PATIENCE", 0.2)
    shown = failing(f"%connect {where}")
    assert told in shown and "secret" not in shown
    cell("%connect")
    assert "in this kernel" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("%serve", "%serve needs a model"),
        ("%serve nobody", "There is no model 'nobody'"),
        ("%connect kernel extra", "extra"),
        ("%connect local --tokenfile x", "--token-file"),
    ],
)
@pytest.mark.usefixtures("local")
def test_mistakes_are_told(line: str, told: str, failing: Failing) -> None:
    assert told in failing(line)


@pytest.mark.usefixtures("local")
def test_two_kernels_that_connect_at_once_find_one_service(store: Path) -> None:
    code = "from maas_magics.session import Session; s = Session(); s.connect('local'); print(s.backend.place)"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=-1, text=True) for _ in range(3)]
    told = {process.communicate()[0].strip() for process in both}
    assert len(told) == 1 and find_local(store) is not None
    assert (store / READY).stat().st_mode & 0o777 == 0o600 and (store / TOKEN).stat().st_mode & 0o777 == 0o600


def test_lines_to_paste_never_hold_the_token() -> None:
    signature = Signature(
        (TensorSpec("it's", "BYTES", (-1, 1)), TensorSpec("x", "FP32", (-1, 2))), (TensorSpec("y", "FP32", (-1,)),)
    )
    made = Endpoint(model="m:2", url="https://host:1/base", token="$MAAS_TOKEN", signature=signature)
    assert made.infer == "https://host:1/base/v2/models/m/versions/2/infer"
    assert "Bearer $MAAS_TOKEN" in made.curl and "os.environ['MAAS_TOKEN']" in made.python and "ssl=True" in made.python
    compile(made.python, "pasted", "exec")
    shell = subprocess.run(["bash", "-n", "-c", made.curl])
    assert shell.returncode == 0 and "model_version='2'" in made.python
    spaced = Endpoint(model="m", url="http://h:1", token="/a b/it's", signature=signature)
    assert subprocess.run(["bash", "-n", "-c", spaced.curl]).returncode == 0
