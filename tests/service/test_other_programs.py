"""KServe's client asks our service, and we ask an MLServer that serves a model of ours."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pandas as pd
import pytest
from conftest import cells
from peers import python_of
from serving import Service

from maas_magics.api.errors import MaasError, Refused
from maas_magics.api.requests import PredictRequest, TrainRequest
from maas_magics.local.backend import LocalBackend
from maas_magics.session import Session

pytestmark = pytest.mark.slow

KSERVE = """
import asyncio, json, sys
import numpy as np
from kserve import InferInput, InferRequest, InferenceRESTClient, RESTConfig

url, token = sys.argv[1], sys.stdin.readline().strip()

def to():  # the client writes into the headers it is given: each request gets its own
    return {"Authorization": f"Bearer {token}"}

async def main():
    found = {}
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    found["live"] = await client.is_server_live(url, headers=to())
    found["ready"] = await client.is_server_ready(url, headers=to())
    found["model"] = await client.is_model_ready(url, "net", headers=to())
    x = np.ones((2, 8), dtype=np.float32)
    for binary in (False, True):
        tensor = InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x, binary_data=binary)
        answer = await client.infer(url, InferRequest("net", [tensor]), model_name="net", headers=to())
        outputs = {output.name: output.as_numpy().tolist() for output in answer.outputs}
        found[f"binary {binary}"] = outputs
    text = InferInput("kind", [1, 1], "BYTES")
    text.set_data_from_numpy(np.array([["p"]], dtype=object), binary_data=False)
    others = []
    for name, kind, dtype in (("size", "FP64", "float64"), ("flag", "FP64", "float64"), ("when", "INT64", "int64")):
        others.append(InferInput(name, [1, 1], kind))
        others[-1].set_data_from_numpy(np.zeros((1, 1), dtype), binary_data=False)
    answer = await client.infer(url, InferRequest("cells", [text, *others]), model_name="cells", headers=to())
    found["cells"] = [output.name for output in answer.outputs]
    try:
        await client.infer(url, InferRequest("nobody", [tensor]), model_name="nobody", headers=to())
    except Exception as error:
        found["nobody"] = str(error)
    print(json.dumps(found))

asyncio.run(main())
"""


def test_kserves_client(service: Service, here: LocalBackend) -> None:
    told = subprocess.run(
        [python_of("kserve"), "-c", KSERVE, service.url], input=service.token + "\n", capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr[-2000:]
    found = json.loads(told.stdout.splitlines()[-1])
    assert found["live"] and found["ready"] and found["model"]
    expected = here.infer("net", {"x": np.ones((2, 8), np.float32)}).outputs["probabilities"]
    for binary in (False, True):
        np.testing.assert_allclose(found[f"binary {binary}"]["probabilities"], expected, rtol=1e-6)
    assert found["cells"] == ["prediction", "probabilities"] and "There is no model 'nobody'" in found["nobody"]


RUNTIME = """
import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceResponse


class Exported(MLModel):
    async def load(self):
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri)
        return True

    async def predict(self, payload):
        given = {}
        for one in payload.inputs:
            if one.datatype == "BYTES":
                values = np.array(StringCodec.decode_input(one), dtype=object).reshape(one.shape)
            else:
                values = NumpyCodec.decode_input(one)
            given[one.name] = values
        names = [output.name for output in self.session.get_outputs()]
        outputs = []
        for name, values in zip(names, self.session.run(None, given)):
            if values.dtype == object:
                outputs.append(StringCodec.encode_output(name, values.tolist()))
            else:
                outputs.append(NumpyCodec.encode_output(name, values))
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
"""


@pytest.fixture(scope="module")
def mlserver(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an MLServer that serves two models that were exported here."""
    python = python_of("mlserver")
    folder = tmp_path_factory.mktemp("mlserver")
    ports = []
    for _ in range(3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    (folder / "runtime.py").write_text(RUNTIME)
    (folder / "settings.json").write_text(
        json.dumps(
            {
                "parallel_workers": 0,
                "host": "127.0.0.1",
                "http_port": ports[0],
                "grpc_port": ports[1],
                "metrics_port": ports[2],
            }
        )
    )
    backend = LocalBackend(str(filled / "store"))
    for name in ("cells", "net"):
        info = backend.models.get(name)
        file = backend.models.folder(name, info.version) / "exports" / "onnx" / "model.onnx"
        (folder / name).mkdir()
        told = {
            "name": name,
            "implementation": "runtime.Exported",
            "parameters": {"uri": str(file), "version": str(info.version)},
            "inputs": [{"name": s.name, "datatype": s.datatype, "shape": s.shape} for s in info.signature.inputs],
            "outputs": [{"name": s.name, "datatype": s.datatype, "shape": s.shape} for s in info.signature.outputs],
        }
        (folder / name / "model-settings.json").write_text(json.dumps(told))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [str(Path(python).parent / "mlserver"), "start", str(folder)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{ports[0]}"
    try:
        for _ in range(300):
            try:
                if httpx2.get(f"{url}/v2/models/cells/ready").status_code == 200:
                    break
            except httpx2.TransportError:
                pass
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(600)


@pytest.fixture
def asking(mlserver: str, tmp_path: Path) -> Session:
    session = Session(str(tmp_path / "store"))
    session.connect(f"oip+{mlserver}")
    return session


def test_a_table_is_asked_of_another_server(asking: Session, filled: Path) -> None:
    rows = cells(30, seed=5).drop(columns="label")
    rows["size"] = rows["size"].fillna(0.0)
    rows.index = rows.index + 100
    found: Any = asking.predict(PredictRequest(model="cells", data=rows))
    here: Any = Session(str(filled / "store")).predict(PredictRequest(model="cells", data=rows))
    assert isinstance(found, pd.DataFrame) and found.index.equals(rows.index)
    assert found["prediction"].tolist() == here["prediction"].tolist()
    np.testing.assert_allclose(found.iloc[:, 1:].to_numpy(), here.iloc[:, 1:].to_numpy(), rtol=1e-6)


def test_an_array_is_asked_of_another_server(asking: Session, here: LocalBackend) -> None:
    x = np.random.default_rng(0).normal(size=(10_000, 8)).astype(np.float32)
    found = asking.predict(PredictRequest(model="net", data=x))
    np.testing.assert_array_equal(found, here.infer("net", {"x": x}).outputs["prediction"])
    frame = pd.DataFrame(x[:5], columns=list("abcdefgh"))
    assert asking.predict(PredictRequest(model="net", data=frame))["prediction"].tolist() == found[:5].tolist()


def test_what_such_a_server_cannot_do_is_told(asking: Session) -> None:
    assert {info.name for info in asking.backend.models.list()} >= {"cells", "net"}
    assert asking.backend.models.get("net").signature.inputs[0].shape == (-1, 8)
    with pytest.raises(Refused, match="does not train"):
        asking.run(TrainRequest(name="m", data=cells(), target="label"))
    with pytest.raises(Refused, match="keeps no jobs"):
        asking.backend.job("x")
    with pytest.raises(MaasError, match="Model nobody not found"):
        asking.predict(PredictRequest(model="nobody", data=cells()))
    with pytest.raises(MaasError, match="takes JSON only"):
        asking.predict(PredictRequest(model="cells", data=cells(30).drop(columns="label")))
