"""NVIDIA's own client, in JSON and in binary, against a service in another process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from conftest import cells
from serving import Service
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from maas_magics.core.inference.predictor import Predictor
from maas_magics.local.backend import LocalBackend

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def client(service: Service) -> Iterator[Any]:
    made = triton.InferenceServerClient(service.url.partition("://")[2])
    yield made
    made.close()


def raw(here: LocalBackend, model: str, rows: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Tensors of some rows, as the model's columns give them."""
    import pyarrow as pa

    predictor: Predictor = here.loader.predictor(model)
    table = pa.Table.from_pandas(rows, preserve_index=False)
    return dict(zip([spec.name for spec in predictor.processor.specs], predictor.processor.encode(table), strict=True))


def tensors(inputs: dict[str, np.ndarray[Any, Any]], binary: bool) -> list[Any]:
    made = []
    for name, values in inputs.items():
        tensor = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
        tensor.set_data_from_numpy(values, binary_data=binary)
        made.append(tensor)
    return made


@pytest.mark.parametrize("back", [True, False], ids=["binary back", "JSON back"])
@pytest.mark.parametrize("there", [True, False], ids=["binary there", "JSON there"])
def test_raw_columns_are_answered_as_in_this_process(
    there: bool, back: bool, client: Any, service: Service, here: LocalBackend
) -> None:
    rows = cells(20, seed=3).drop(columns="label")
    if not there:
        rows["size"] = rows["size"].fillna(0.0)  # JSON has no word for a missing number
    inputs = raw(here, "cells", rows)
    outputs = [triton.InferRequestedOutput(name, binary_data=back) for name in ("prediction", "probabilities")]
    found = client.infer("cells", tensors(inputs, there), outputs=outputs, headers=service.headers, request_id="7")
    expected = here.infer("cells", inputs).outputs
    assert found.get_response()["id"] == "7" and found.get_response()["model_version"] == "1"
    labels = [text.decode() if isinstance(text, bytes) else text for text in found.as_numpy("prediction").tolist()]
    assert labels == expected["prediction"].tolist()
    np.testing.assert_allclose(found.as_numpy("probabilities"), expected["probabilities"], rtol=1e-6)


def test_a_subset_of_outputs_and_compressed_bodies(client: Any, service: Service, here: LocalBackend) -> None:
    inputs = {"x": np.ones((3, 8), np.float32)}
    expected = here.infer("net", inputs).outputs
    for algorithm in ("gzip", "deflate"):
        found = client.infer(
            "net",
            tensors(inputs, True),
            outputs=[triton.InferRequestedOutput("probabilities")],
            headers=service.headers,
            request_compression_algorithm=algorithm,
        )
        assert found.as_numpy("prediction") is None
        np.testing.assert_allclose(found.as_numpy("probabilities"), expected["probabilities"], rtol=1e-6)


def test_a_model_without_an_export_is_answered_by_torch(client: Any, service: Service, here: LocalBackend) -> None:
    inputs = raw(here, "plain", cells(5).drop(columns="size"))
    found = client.infer("plain", tensors(inputs, True), headers=service.headers)
    np.testing.assert_allclose(
        found.as_numpy("prediction"), here.infer("plain", inputs).outputs["prediction"], rtol=1e-5
    )


def test_everything_the_client_asks_of_a_server(client: Any, service: Service) -> None:
    to = {"headers": service.headers}
    assert client.is_server_live(**to) and client.is_server_ready(**to)
    assert client.get_server_metadata(**to)["name"] == "maas_magics"
    assert client.is_model_ready("cells", **to) and client.is_model_ready("net", "2", **to)
    metadata = client.get_model_metadata("net", **to)
    assert metadata["versions"] == ["1", "2"] and metadata["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 8]}
    ]
    assert client.get_model_config("net", **to)["input"][0]["data_type"] == "TYPE_FP32"
    assert {entry["name"] for entry in client.get_model_repository_index(**to)} == {"cells", "net", "plain"}
    client.infer("net", tensors({"x": np.ones((2, 8), np.float32)}, True), headers=service.headers)
    stats = client.get_inference_statistics("net", **to)["model_stats"]
    assert next(entry for entry in stats if entry["version"] == "2")["inference_count"] >= 2


def test_versions_and_aliases(client: Any, service: Service, here: LocalBackend) -> None:
    inputs = {"x": np.ones((1, 8), np.float32)}
    for ref, name, version in (
        ("net:1", "net", "1"),
        ("net:2", "net", "2"),
        ("net", "net", ""),
        ("net:1", "net@steady", ""),
    ):
        found = client.infer(name, tensors(inputs, True), model_version=version, headers=service.headers)
        expected = here.infer(ref, inputs)
        assert found.get_response()["model_version"] == expected.model.partition(":")[2]
        np.testing.assert_allclose(found.as_numpy("probabilities"), expected.outputs["probabilities"], rtol=1e-6)


def test_a_model_is_unloaded_and_loaded(client: Any, service: Service) -> None:
    asked = tensors({"x": np.ones((1, 8), np.float32)}, True)
    client.unload_model("net", headers=service.headers)
    try:
        assert not client.is_model_ready("net", headers=service.headers)
        states = {entry["name"]: entry["state"] for entry in client.get_model_repository_index(headers=service.headers)}
        assert states == {"cells": "READY", "net": "UNAVAILABLE", "plain": "READY"}
        client.load_model("net:1", headers=service.headers)
        index = client.get_model_repository_index(headers=service.headers)
        versions = {entry["version"]: entry["state"] for entry in index if entry["name"] == "net"}
        assert versions == {"1": "READY", "2": "UNAVAILABLE"}
        with pytest.raises(InferenceServerException, match="net:2 is not loaded") as caught:
            client.infer("net", asked, headers=service.headers)
        assert caught.value.status() == "503"
    finally:
        client.load_model("net", headers=service.headers)
        client.load_model("net:1", headers=service.headers)
    assert client.infer("net", asked, headers=service.headers).as_numpy("prediction").shape == (1,)


@pytest.mark.parametrize(
    ("model", "inputs", "status", "told"),
    [
        ("nobody", {"x": np.ones((1, 8), np.float32)}, "404", "There is no model 'nobody'"),
        ("net", {"x": np.ones((1, 9), np.float32)}, "400", "has shape"),
        ("net", {"y": np.ones((1, 8), np.float32)}, "400", "has no input 'y'"),
        ("net", {"x": np.array([["a"] * 8], dtype=object)}, "400", "is BYTES; FP32 was expected"),
        ("net", {"x": np.ones((1, 8), np.float32), "z": np.ones(1)}, "400", "has no input 'z'"),
        ("cells", {"size": np.ones((1, 1))}, "400", "is missing"),
    ],
)
def test_what_does_not_fit_is_told(
    model: str, inputs: dict[str, Any], status: str, told: str, client: Any, service: Service
) -> None:
    with pytest.raises(InferenceServerException, match=told) as caught:
        client.infer(model, tensors(inputs, True), headers=service.headers)
    assert caught.value.status() == status
