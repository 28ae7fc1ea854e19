"""Texts by the generate extension of the Open Inference Protocol, by plain HTTP and by our own client of other servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pandas as pd
import pytest
from serving import in_thread, wait_for
from writers import writer

from maas_magics.api.requests import GenerateRequest, ImportRequest, TrainRequest
from maas_magics.local.backend import LocalBackend
from maas_magics.remote.client import Client
from maas_magics.remote.inference import InferenceBackend


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> LocalBackend:
    place = tmp_path_factory.mktemp("oip")
    made = LocalBackend(str(place / "store"))
    made.submit(ImportRequest(path=str(writer(place / "writer")), name="writer")).result(600)
    table = pd.DataFrame({"x": np.arange(40.0), "y": ["p", "q"] * 20})
    made.submit(TrainRequest(name="labels", data=table, target="y", model="linear", epochs=1)).result(600)
    return made


@pytest.fixture(scope="module")
def url(backend: LocalBackend) -> Iterator[str]:
    with in_thread(backend) as found:
        yield found


def said(backend: Any, tokens: int = 9, **params: Any) -> str:
    request = GenerateRequest(model="writer", data="Jack and", params=params, max_steps=tokens)
    return "".join(chunk.delta for chunk in backend.generate(request) if chunk.delta)


def test_a_text_is_written_whole_and_as_it_comes(url: str, backend: LocalBackend) -> None:
    wanted = said(backend)
    for path in ("/v2/models/writer", "/v2/models/writer/versions/1"):
        for asked in ({"text_input": "Jack and"}, {"text": "Jack and", "id": "7"}):
            body = {**asked, "parameters": {"max_tokens": 9}}
            told = httpx2.post(f"{url}{path}/generate", json=body, timeout=600).json()
            assert told == {
                "model_name": "writer", "model_version": "1", "text_output": wanted, "finish_reason": "length",
            }  # fmt: skip
            answer = httpx2.post(f"{url}{path}/generate_stream", json=body, timeout=600)
            assert answer.headers["content-type"].startswith("text/event-stream")
            events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
            assert "".join(event["text_output"] for event in events) == wanted and len(events) > 2
            assert events[-1]["finish_reason"] == "length" and events[0]["model_version"] == "1"


def test_a_client_of_other_servers_reads_it_as_it_comes(url: str, backend: LocalBackend) -> None:
    other = InferenceBackend(Client(url, lambda: ""))
    chunks = list(other.generate(GenerateRequest(model="writer", data="Jack and", params={"max_tokens": 9})))
    assert "".join(chunk.delta or "" for chunk in chunks) == said(backend) and chunks[-1].finish == "length"
    params = {"max_tokens": 40, "choice": ["yes", "no"], "temperature": 1.0, "seed": 1}
    found = list(other.generate(GenerateRequest(model="writer", data="Jack and", params=params)))
    assert "".join(chunk.delta or "" for chunk in found) in ("yes", "no") and found[-1].finish == "stop"
    other.close()


@pytest.mark.parametrize(
    ("model", "body", "status", "why"),
    [
        ("nobody", {"text_input": "a"}, 404, "no model 'nobody'"),
        ("labels", {"text_input": "a"}, 400, "writes no text"),
        ("writer", {}, 400, "text_input is not a text"),
        ("writer", {"text_input": 3}, 400, "text_input is not a text"),
        ("writer", {"text_input": "a", "parameters": [1]}, 400, "parameters is not an object"),
        ("writer", {"text_input": "a", "parameters": {"max_tokens": 0}}, 400, "max_tokens is 0"),
        ("writer", {"text_input": "a", "parameters": {"max_tokens": "x"}}, 400, "max_tokens is x"),
        ("writer", {"text_input": "a", "parameters": {"max_tokens": 10**9}}, 403, "more than this service takes"),
        ("writer", {"text_input": "a", "parameters": {"temperature": -1}}, 400, "temperature is -1"),
        ("writer", {"text_input": "a", "parameters": {"heat": 1}}, 400, "no parameter 'heat'"),
        ("writer", {"text_input": "a" * 50_000}, 400, "reads 1,999 at most"),
    ],
)
def test_what_cannot_be_written_has_a_status(model: str, body: Any, status: int, why: str, url: str) -> None:
    for end in ("generate", "generate_stream"):
        found = httpx2.post(f"{url}/v2/models/{model}/{end}", json=body, timeout=600)
        assert found.status_code == status and why in found.json()["error"]
    broken = httpx2.post(f"{url}/v2/models/{model}/generate", content=b"{", timeout=600)
    assert broken.status_code == 400 and "cannot be read" in broken.json()["error"]


def test_a_client_that_goes_frees_its_slot(url: str, backend: LocalBackend) -> None:
    body = {"text_input": "Jack", "parameters": {"max_tokens": 1_900, "logit_bias": {"0": -100}}}
    with httpx2.stream("POST", f"{url}/v2/models/writer/generate_stream", json=body, timeout=600) as answer:
        next(answer.iter_raw(1))
    wait_for(lambda: not backend.generating()["states"])
