"""Texts and files go to a service as tables, as JSON, as bytes of the protocol, and as the body alone."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from serving import Service  # type: ignore[import-not-found]

from maas_magics.api.errors import MaasError
from maas_magics.api.requests import PredictRequest, TrainRequest
from maas_magics.endpoint import Endpoint
from maas_magics.local.backend import LocalBackend
from maas_magics.remote.backend import RemoteBackend
from maas_magics.remote.client import Client

N = 60
LABEL = np.arange(N) % 2
TEXTS = [f"i think that this was a {'lovely' if y else 'dreadful'} evening number {i}" for i, y in enumerate(LABEL)]


def png(value: int, seed: int = 0) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 40, (12, 12), dtype=np.uint8) + np.uint8(value)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


FILES = [png(30 + 150 * int(y), i) for i, y in enumerate(LABEL)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(tmp_path_factory.mktemp("served"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def remote(service: Service) -> RemoteBackend:
    """With a model of texts and one of pictures, trained there."""
    made = RemoteBackend(Client(service.url, lambda: service.token))
    for name, column, values in (("mood", "review", TEXTS), ("scene", "picture", FILES)):
        rows = pd.DataFrame({column: values, "label": LABEL})
        made.submit(TrainRequest(name=name, data=rows, target="label", epochs=6, lr=5e-3)).result(600)
    return made


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=service.url, headers={"authorization": f"Bearer {service.token}"}, timeout=120) as made:
        yield made


def asked(answer: httpx2.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    found = {one["name"]: one["data"] for one in answer.json()["outputs"]}
    return np.reshape(found["probabilities"], (-1, 2))[:, 1].tolist()


@pytest.mark.parametrize(("name", "column", "values"), [("mood", "review", TEXTS), ("scene", "picture", FILES)])
def test_a_service_answers_as_the_kernel_does(
    remote: RemoteBackend, tmp_path: Path, name: str, column: str, values: list[object]
) -> None:
    rows = pd.DataFrame({column: values})
    theirs = remote.predict(PredictRequest(model=name, data=rows, probabilities=True)).columns["probabilities"]
    kernel = LocalBackend(str(tmp_path / "store"))
    request = TrainRequest(name=name, data=rows.assign(label=LABEL), target="label", epochs=6, lr=5e-3)
    kernel.submit(request).result(600)
    ours = kernel.predict(PredictRequest(model=name, data=rows, probabilities=True)).columns["probabilities"]
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
    assert ((np.asarray(theirs)[:, 1] > 0.5) == LABEL).mean() > 0.9


def test_texts_come_as_json_as_bytes_and_as_a_body_alone(remote: RemoteBackend, client: httpx2.Client) -> None:
    path = "/v2/models/mood/infer"
    wanted = asked(
        client.post(
            path, json={"inputs": [{"name": "review", "datatype": "BYTES", "shape": [2, 1], "data": TEXTS[:2]}]}
        )
    )
    packed = b"".join(len(text).to_bytes(4, "little") + text for text in (text.encode() for text in TEXTS[:2]))
    head = {
        "inputs": [
            {"name": "review", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": len(packed)}}
        ]
    }
    told = json.dumps(head).encode()
    by_bytes = client.post(
        path,
        content=told + packed,
        headers={"inference-header-content-length": str(len(told)), "content-type": "application/octet-stream"},
    )
    np.testing.assert_allclose(asked(by_bytes), wanted, atol=1e-6)
    bad = packed[:-3] + b"\xff\xff\xff"
    refused = client.post(
        path,
        content=told + bad,
        headers={"inference-header-content-length": str(len(told)), "content-type": "application/octet-stream"},
    )
    assert refused.status_code == 400 and "not UTF-8" in refused.text
    one = client.post(
        path, json={"inputs": [{"name": "review", "datatype": "BYTES", "shape": [1, 1], "data": TEXTS[:1]}]}
    )
    np.testing.assert_allclose(asked(one), wanted[:1], atol=1e-5)


def test_files_come_as_base64_as_bytes_and_as_a_body_alone(remote: RemoteBackend, client: httpx2.Client) -> None:
    path = "/v2/models/scene/infer"
    coded = [base64.b64encode(data).decode() for data in FILES[:2]]
    wanted = asked(
        client.post(path, json={"inputs": [{"name": "picture", "datatype": "BYTES", "shape": [2, 1], "data": coded}]})
    )
    packed = b"".join(len(data).to_bytes(4, "little") + data for data in FILES[:2])
    head = {
        "inputs": [
            {"name": "picture", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": len(packed)}}
        ]
    }
    told = json.dumps(head).encode()
    by_bytes = client.post(
        path,
        content=told + packed,
        headers={"inference-header-content-length": str(len(told)), "content-type": "application/octet-stream"},
    )
    np.testing.assert_allclose(asked(by_bytes), wanted, atol=1e-6)
    alone = client.post(
        path,
        content=FILES[0],
        headers={"inference-header-content-length": "0", "content-type": "application/octet-stream"},
    )
    assert alone.status_code == 200  # it is answered as it was asked, in bytes; the probabilities stand last
    np.testing.assert_allclose(np.frombuffer(alone.content[-8:], "<f4")[1], wanted[0], atol=1e-5)
    for kind in ("image/png", "Image/*"):  # as curl sends a file with its type
        np.testing.assert_allclose(
            asked(client.post(path, content=FILES[0], headers={"content-type": kind})), wanted[:1], atol=1e-5
        )
    odd = client.post(path, content=FILES[0], headers={"content-type": "application/x-www-form-urlencoded"})
    assert odd.status_code == 400 and "Content-Type: image/png" in odd.json()["hint"]
    text = client.post("/v2/models/mood/infer", content=FILES[0], headers={"content-type": "image/png"})
    assert text.status_code == 400 and "UTF-8" in text.text


def test_the_lines_for_other_programs_ask_with_a_file(remote: RemoteBackend, service: Service, tmp_path: Path) -> None:
    file, token = tmp_path / "x.png", tmp_path / "token"
    file.write_bytes(FILES[1])
    token.write_text(service.token)
    made = Endpoint(model="scene", url=service.url, token=str(token), signature=remote.models.get("scene").signature)
    told = subprocess.run(["bash", "-c", made.curl.replace("FILE", str(file))], capture_output=True, text=True)
    outputs = {one["name"]: one["data"] for one in json.loads(told.stdout)["outputs"]}
    asked_for = PredictRequest(model="scene", data=pd.DataFrame({"picture": [FILES[1]]}), probabilities=True)
    known = remote.predict(asked_for).columns
    shares = np.ravel([values for name, values in known.items() if name != "prediction"])
    np.testing.assert_allclose(outputs["probabilities"], shares, atol=1e-5)
    assert "Path('FILE').read_bytes()" in made.python
    compile(made.python, "pasted", "exec")


def test_a_path_of_the_service_is_not_opened(remote: RemoteBackend, client: httpx2.Client, tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    file.write_bytes(FILES[0])
    sent = {"inputs": [{"name": "picture", "datatype": "BYTES", "shape": [1, 1], "data": [str(file)]}]}
    answer = client.post("/v2/models/scene/infer", json=sent)
    assert answer.status_code == 400 and "not a picture" in answer.text
    rows = pd.DataFrame({"picture": [str(file)]})
    found = remote.predict(PredictRequest(model="scene", data=rows, probabilities=True)).columns["probabilities"]
    assert len(found) == 1  # the client reads it, and sends what it holds
    with pytest.raises(MaasError, match="a service opens none"):
        remote.predict(PredictRequest(model="scene", data=pd.DataFrame({"picture": ["/nowhere.png"]})))


def test_files_of_the_client_are_trained_on(remote: RemoteBackend, tmp_path: Path) -> None:
    paths = []
    for i, data in enumerate(FILES):
        (tmp_path / f"{i}.png").write_bytes(data)
        paths.append(str(tmp_path / f"{i}.png"))
    rows = pd.DataFrame({"picture": paths, "label": LABEL})
    found = remote.submit(TrainRequest(name="paths", data=rows, target="label", epochs=6, lr=5e-3)).result(600)
    assert found.metrics["accuracy"] > 0.9


def test_masks_are_learnt_and_answered_by_a_service(remote: RemoteBackend, client: httpx2.Client) -> None:
    dark = [saved_mask(row) for row in range(N)]
    request = TrainRequest(
        name="cells",
        data=pd.DataFrame({"picture": FILES, "mask": dark}),
        target="mask",
        epochs=1,
        params={"channels": [4, 8]},
    )
    trained = remote.submit(request).result(600)
    assert trained.info.architecture == "unet" and "mean_iou" in trained.metrics
    rows = pd.DataFrame({"picture": FILES[:3]})
    found = remote.predict(PredictRequest(model="cells", data=rows)).columns["prediction"]
    assert np.asarray(found).shape == (3, 12, 12) and set(np.unique(found)) <= {0, 1}
    coded = [base64.b64encode(data).decode() for data in FILES[:3]]
    answer = client.post(
        "/v2/models/cells/infer",
        json={"inputs": [{"name": "picture", "datatype": "BYTES", "shape": [3, 1], "data": coded}]},
    )
    assert answer.status_code == 200, answer.text
    told = {one["name"]: one for one in answer.json()["outputs"]}
    assert told["prediction"]["shape"] == [3, 12, 12]
    assert np.array_equal(np.reshape(told["prediction"]["data"], (3, 12, 12)), found)


def saved_mask(row: int) -> bytes:
    mask = np.zeros((12, 12), np.uint8)
    mask[row % 8 : row % 8 + 4] = 1
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return stream.getvalue()
