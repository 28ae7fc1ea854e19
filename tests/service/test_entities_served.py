"""Tags of words go over the wire: lists a row from tables, rectangles of texts by the protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pandas as pd
import pytest
from serving import Service  # type: ignore[import-not-found]

from maas_magics.api.requests import EvaluateRequest, ExportRequest, PredictRequest, TrainRequest
from maas_magics.local.backend import LocalBackend
from maas_magics.remote.backend import RemoteBackend
from maas_magics.remote.client import Client

N = 60
WORDS = [["so"] * (i % 4) + ["anna" if i % 2 else "bob", "went"] for i in range(N)]
TAGS = [["O"] * (i % 4) + ["B-x" if i % 2 else "B-y", "O"] for i in range(N)]
ROWS = pd.DataFrame({"tokens": WORDS, "tags": TAGS})
ASKED: dict[str, Any] = {"name": "ner", "data": ROWS, "target": "tags", "epochs": 12, "lr": 1e-2}
INFER = "/v2/models/ner/infer"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(tmp_path_factory.mktemp("served"))
    yield made
    made.stop()


@pytest.fixture(scope="module", params=["torch", "onnx"])
def remote(service: Service, request: pytest.FixtureRequest) -> RemoteBackend:
    """With a model that was trained there, and answers by one engine or the other."""
    made = RemoteBackend(Client(service.url, lambda: service.token))
    made.submit(TrainRequest(**ASKED)).result(600)
    if request.param == "onnx":
        made.submit(ExportRequest(model="ner")).result(600)
    return made


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=service.url, headers={"authorization": f"Bearer {service.token}"}, timeout=120) as made:
        yield made


def rectangle(rows: list[list[str]], width: int = 0) -> dict[str, Any]:
    width = max(width, *map(len, rows))
    data = [word for row in rows for word in (*row, *[""] * (width - len(row)))]
    return {"name": "tokens", "datatype": "BYTES", "shape": [len(rows), width], "data": data}


def answered(answer: httpx2.Response) -> list[list[str]]:
    assert answer.status_code == 200, answer.text
    found = {one["name"]: one for one in answer.json()["outputs"]}
    return np.reshape(found["prediction"]["data"], found["prediction"]["shape"]).tolist()


def test_a_service_tags_as_the_kernel_does(remote: RemoteBackend, tmp_path: Path) -> None:
    rows = pd.DataFrame({"tokens": [*WORDS, []]})
    kernel = LocalBackend(str(tmp_path / "store"))
    kernel.submit(TrainRequest(**ASKED)).result(600)
    found = [
        backend.predict(PredictRequest(model="ner", data=rows, probabilities=True)).columns
        for backend in (kernel, remote)
    ]
    ours, theirs = (one["prediction"].tolist() for one in found)
    assert ours == theirs == [*TAGS, []]
    for mine, their in zip(*(one["probabilities"] for one in found), strict=True):
        np.testing.assert_allclose(mine, their, atol=1e-4)
    assert remote.submit(EvaluateRequest(model="ner", data=ROWS)).result(600).values["span_f1"] == 1.0


def test_the_protocol_has_rectangles_padded_with_empty_texts(remote: RemoteBackend, client: httpx2.Client) -> None:
    rows = WORDS[:4]
    wanted = [tags + [""] * (5 - len(tags)) for tags in TAGS[:4]]
    assert answered(client.post(INFER, json={"inputs": [rectangle(rows)]})) == wanted
    wide = answered(client.post(INFER, json={"inputs": [rectangle(rows, 9)]}))
    assert wide == [tags + [""] * 4 for tags in wanted]
    alone = [answered(client.post(INFER, json={"inputs": [rectangle([row])]}))[0] for row in rows]
    assert alone == TAGS[:4]
    assert answered(client.post(INFER, json={"inputs": [rectangle([[""]])]})) == [[""]]
    empty = {"name": "tokens", "datatype": "BYTES", "shape": [1, 0], "data": []}
    assert client.post(INFER, json={"inputs": [empty]}).status_code in (200, 400)


def test_bytes_of_the_protocol_are_tagged_alike(remote: RemoteBackend, client: httpx2.Client) -> None:
    asked = rectangle(WORDS[:4])
    data = b"".join(len(text).to_bytes(4, "little") + text for text in (word.encode() for word in asked.pop("data")))
    head = {"inputs": [asked | {"parameters": {"binary_data_size": len(data)}}]}
    told = json.dumps(head).encode()
    headers = {"inference-header-content-length": str(len(told)), "content-type": "application/octet-stream"}
    assert answered(client.post(INFER, content=told + data, headers=headers)) == [
        tags + [""] * (5 - len(tags)) for tags in TAGS[:4]
    ]
    inferred = remote.infer("ner", {"tokens": np.array([["so", "bob"], ["anna", ""]], dtype=object)})
    assert inferred.outputs["prediction"].tolist() == [["O", "B-y"], ["B-x", ""]]
    assert inferred.outputs["probabilities"].shape == (2, 2, 4)


def test_requests_of_several_lengths_at_once_get_each_its_own(remote: RemoteBackend, service: Service) -> None:
    async def all_at_once() -> list[httpx2.Response]:
        headers = {"authorization": f"Bearer {service.token}"}
        async with httpx2.AsyncClient(base_url=service.url, headers=headers, timeout=120) as made:
            return await asyncio.gather(*(made.post(INFER, json={"inputs": [rectangle([row])]}) for row in WORDS))

    assert [answered(one)[0] for one in asyncio.run(all_at_once())] == TAGS


TEXTS = pd.DataFrame(
    {
        "text": [" ".join(words) for words in WORDS],
        "spans": [
            [{"start": 3 * (i % 4), "end": 3 * (i % 4) + len(words[-2]), "label": "x" if i % 2 else "y"}]
            for i, words in enumerate(WORDS)
        ],
    }
)


def test_a_service_answers_spans_of_texts(remote: RemoteBackend, client: httpx2.Client) -> None:
    remote.submit(TrainRequest(name="spans", data=TEXTS, target="spans", epochs=12, lr=1e-2)).result(600)
    remote.submit(ExportRequest(model="spans")).result(600)
    asked = PredictRequest(model="spans", data=TEXTS[["text"]].head(5))
    rows = remote.predict(asked).columns["prediction"].tolist()
    assert [[{**one, "score": 0} for one in row] for row in rows] == [
        [{**one, "score": 0} for one in row] for row in TEXTS.spans.head(5)
    ]
    entry = {"name": "text", "datatype": "BYTES", "shape": [5, 1], "data": TEXTS.text.head(5).tolist()}
    answer = client.post("/v2/models/spans/infer", json={"inputs": [entry]})
    assert [json.loads(row) for row in answer.json()["outputs"][0]["data"]] == rows
    empty = remote.predict(PredictRequest(model="spans", data=pd.DataFrame({"text": ["", " "]})))
    assert [list(row) for row in empty.columns["prediction"]] == [[], []]
    assert remote.submit(EvaluateRequest(model="spans", data=TEXTS)).result(600).values["span_f1"] == 1.0
