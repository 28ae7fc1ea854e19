"""A service imports an ONNX file that its owner offers, and answers with it by the Open Inference Protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from serving import Service  # type: ignore[import-not-found]

from maas_magics.api.errors import MaasError, ModelError
from maas_magics.api.requests import ImportRequest, PredictRequest, PushRequest
from maas_magics.core.networks.hub import OFFERED
from maas_magics.remote.backend import RemoteBackend
from maas_magics.remote.client import Client

ROWS = {"size": [1.5, 2.5], "kind": ["a", "b"]}


def graph(file: Path) -> Path:
    nodes = [
        helper.make_node("LabelEncoder", ["kind"], ["code"], domain="ai.onnx.ml", keys_strings=["a", "b"],
                         values_floats=[10.0, 20.0], default_float=0.0),
        helper.make_node("Add", ["code", "size"], ["total"]),
    ]  # fmt: skip
    kinds = (("size", TensorProto.FLOAT), ("kind", TensorProto.STRING), ("total", TensorProto.FLOAT))
    ends = [helper.make_tensor_value_info(name, kind, ("N", 1)) for name, kind in kinds]
    made = helper.make_graph(nodes, "g", ends[:2], ends[2:])
    file.parent.mkdir()
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(made, opset_imports=opsets), str(file))
    return file


def test_a_file_that_is_offered_is_imported_and_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered, other = graph(tmp_path / "offered" / "m.onnx"), graph(tmp_path / "other" / "m.onnx")
    monkeypatch.setenv(OFFERED, str(offered.parent))
    service = Service(tmp_path / "served")
    try:
        client = Client(service.url, lambda: service.token)
        remote = RemoteBackend(client)
        with pytest.raises(ModelError, match="The service opens no pretrained network"):
            remote.submit(ImportRequest(path=str(other), name="m")).result(600)
        with pytest.raises(ModelError, match="A live dict is not sent"):
            remote.submit(ImportRequest(path={}, name="m", data=ROWS)).result(600)  # type: ignore[arg-type]
        assert remote.submit(ImportRequest(path=str(offered), name="m", data=ROWS)).result(600).ref == "m:1"
        answered = remote.predict(PredictRequest(model="m", data=ROWS)).columns["prediction"]
        np.testing.assert_allclose(answered, [11.5, 22.5])
        with pytest.raises(MaasError, match="copies no models"):
            remote.submit(PushRequest(model="m", url=str(tmp_path / "there"))).result(600)
        assert not (tmp_path / "there").exists()
        body = {
            "inputs": [
                {"name": "size", "datatype": "FP32", "shape": [2, 1], "data": [1.5, 2.5]},
                {"name": "kind", "datatype": "BYTES", "shape": [2, 1], "data": ["a", "unseen"]},
            ]
        }
        import httpx2

        told = httpx2.post(
            f"{service.url}/v2/models/m/infer", json=body, headers={"Authorization": f"Bearer {service.token}"}
        ).json()
        assert told["outputs"][0]["data"] == [11.5, 2.5]
    finally:
        service.stop()
