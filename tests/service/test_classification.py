"""The largest values of an output, as Triton tells them; and words of the protocol that say nothing."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import numpy as np
import pytest
from serving import Service, in_thread, remote

from maas_magics.api.errors import ServiceError
from maas_magics.local.backend import LocalBackend
from maas_magics.service.oip_answer import ranked

X = {"name": "x", "shape": [2, 8], "datatype": "FP32", "data": [0.25] * 8 + [0.5] * 8}


def asked(url: str, **more: Any) -> httpx2.Response:
    return httpx2.post(f"{url}/v2/models/net/infer", content=json.dumps({"inputs": [X], **more}))


def output(name: str = "probabilities", **parameters: Any) -> list[dict[str, Any]]:
    return [{"name": name, "parameters": parameters}]


@pytest.mark.parametrize("most", [1, 2, 3, 20])
def test_the_likeliest_labels_are_told_with_value_place_and_name(most: int, here: LocalBackend) -> None:
    x = np.repeat(np.array([[0.25], [0.5]], np.float32), 8, axis=1)
    values = here.infer("net", {"x": x}).outputs["probabilities"]
    with in_thread(here) as url:
        told = asked(url, outputs=output(classification=most)).json()["outputs"][0]
    assert told["datatype"] == "BYTES" and told["shape"] == [2, min(most, 3)]
    names = here.models.get("net").classes
    wanted = [f"{row[place]:f}:{place}:{names[place]}" for row in values for place in np.argsort(-row)[:most]]
    assert told["data"] == wanted


def test_whole_numbers_and_values_without_labels() -> None:
    assert ranked(np.array([3, 1]), 2).tolist() == [["3:0"], ["1:0"]]
    assert ranked(np.array([[0.5, 2.0, 2.0]]), 2).tolist() == [["2.000000:1", "2.000000:2"]]
    assert ranked(np.array([[[1, 9], [4, 0]]], np.uint8), 3, ("a", "b")).tolist() == [["9:1", "4:2", "1:0"]]
    assert ranked(np.array([[False, True]]), 1, ("no", "yes")).tolist() == [["1:1:yes"]]


def test_tritons_client_is_told_classes(service: Service, here: LocalBackend) -> None:
    triton = pytest.importorskip("tritonclient.http")
    client = triton.InferenceServerClient(service.url.partition("://")[2])
    rows = here.models.get("cells").signature
    assert rows.outputs[-1].name == "probabilities"
    x = triton.InferInput("x", [2, 8], "FP32")
    x.set_data_from_numpy(np.ones((2, 8), np.float32))
    for binary in (False, True):
        wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)]
        found = client.infer("net", [x], outputs=wanted, headers=service.headers).as_numpy("probabilities")
        assert found.shape == (2, 2)
        text = found[0, 0]
        value, place, label = (text.decode() if isinstance(text, bytes) else text).split(":")
        assert float(value) <= 1.0 and label == here.models.get("net").classes[int(place)]


@pytest.mark.parametrize("most", [-1, 2.5, "2", True, [1]])
def test_what_is_no_number_of_labels_is_refused(most: Any, here: LocalBackend) -> None:
    with in_thread(here) as url:
        answer = asked(url, outputs=output(classification=most))
    assert answer.status_code == 400 and "classification is a number" in answer.json()["error"]


def test_text_has_no_largest_values(service: Service) -> None:
    rows = {"size": ("FP64", 0.5), "kind": ("BYTES", "p"), "flag": ("FP64", 1), "when": ("INT64", 0)}
    inputs = [{"name": n, "shape": [1, 1], "datatype": d, "data": [v]} for n, (d, v) in rows.items()]
    url, headers = f"{service.url}/v2/models/cells/infer", service.headers
    body = {"inputs": inputs, "outputs": output("prediction", classification=1)}
    assert httpx2.post(url, json=body, headers=headers).status_code == 400
    body["outputs"] = output(classification=1)
    told = httpx2.post(url, json=body, headers=headers).json()["outputs"][0]["data"][0]
    assert told.split(":")[2] in ("yes", "no")


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize(
    "more",
    [
        {"parameters": None},
        {"id": None},
        {"outputs": None},
        {"outputs": []},
        {"inputs": [{**X, "parameters": None}]},
        {"outputs": [{"name": "prediction", "parameters": None}, {"name": "probabilities", "parameters": {}}]},
        {"outputs": output("prediction", classification=0, binary_data=None) + output(classification=None)},
        {"inputs": [{**X, "parameters": None}], "outputs": None, "parameters": None, "id": None},
    ],
)
def test_a_word_that_says_nothing_changes_nothing(more: dict[str, Any], long: bool, here: LocalBackend) -> None:
    body = json.dumps({"inputs": [X], **more}).encode()
    with in_thread(here) as url:
        plain = asked(url).json()
        answer = httpx2.post(f"{url}/v2/models/net/infer", content=iter([body]) if long else body)
    assert answer.status_code == 200 and answer.json() == plain


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'{"parameters":null}', b'{"ready":null}'])
def test_the_repository_takes_words_that_say_nothing(body: bytes, here: LocalBackend) -> None:
    with in_thread(here) as url:
        index = httpx2.post(f"{url}/v2/repository/index", content=body)
        load = httpx2.post(f"{url}/v2/repository/models/net/load", content=body)
        unload = httpx2.post(f"{url}/v2/repository/models/net/unload", content=body)
        gone = [httpx2.get(f"{url}/v2/models/net{end}").status_code for end in ("", "/config", "/stats", "/versions/2")]
        there = [httpx2.get(f"{url}/v2/models/cells{end}").status_code for end in ("", "/config", "/stats")]
        ready = httpx2.get(f"{url}/v2/models/net/ready").status_code
        back = (
            httpx2.post(f"{url}/v2/repository/models/net/load").status_code,
            httpx2.get(f"{url}/v2/models/net").status_code,
        )
    assert index.status_code == load.status_code == unload.status_code == 200 and len(index.json()) == 4
    assert gone == [404] * 4 and there == [200] * 3 and ready == 503 and back == (200, 200)


@pytest.mark.parametrize("path", ["/loaded", "/jobs", "/status", "/models/net/versions"])
def test_paths_of_ours_answer_where_they_were_for_one_release(path: str, here: LocalBackend) -> None:
    with in_thread(here) as url:
        new, old = (httpx2.get(f"{url}{prefix}/v1{path}") for prefix in ("/maas", ""))
        assert httpx2.get(f"{url}/v1/fine_tuning/jobs").status_code == 404
    assert new.status_code == old.status_code == 200
    assert old.headers["deprecation"] == "true" and "deprecation" not in new.headers
    if path != "/status":
        assert old.content == new.content


def test_a_service_of_an_older_release_is_told(here: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    with in_thread(here) as url, remote(url) as backend:
        backend.check()
        monkeypatch.setattr("maas_magics.remote.backend.OURS", "/maas/v0")
        with pytest.raises(ServiceError, match="older release") as caught:
            backend.check()
    assert "start it again" in caught.value.hint
