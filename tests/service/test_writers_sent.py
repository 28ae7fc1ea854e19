"""What writes is trained, scored, exported and imported on a service as in a kernel: texts go there, files come back."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving import Service  # type: ignore[import-not-found]

from maas_magics.api.errors import ModelError
from maas_magics.api.requests import EvaluateRequest, ExportRequest, ImportRequest, PredictRequest, TrainRequest
from maas_magics.core.networks.hub import OFFERED
from maas_magics.remote.backend import RemoteBackend
from maas_magics.remote.client import Client

LINES = [f"{one} and {two} went up the hill, {pails} pails" for one in ("Jack", "Ann") for two in ("Sue", "Bob")
         for pails in range(20)]  # fmt: skip


def test_a_service_scores_texts_writes_every_format_and_reads_gguf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, offered = tmp_path / "texts", tmp_path / "offered"
    offered.mkdir()
    texts.mkdir()
    for number in range(4):
        (texts / f"{number}.txt").write_text("\n".join(LINES[20 * number : 20 * number + 20]))
    monkeypatch.setenv(OFFERED, str(offered))
    service = Service(tmp_path / "served")
    try:
        remote = RemoteBackend(Client(service.url, lambda: service.token))
        remote.submit(
            TrainRequest(
                name="w", data=str(texts), task="language", epochs=2, params={"layers": 1, "width": 48, "block": 32}
            )
        ).result(600)
        for format in ("onnx", "gguf", "safetensors"):
            made = remote.submit(ExportRequest(model="w", format=format)).result(600)
            assert made.verification.metrics_after["greedy_agreement"] == 1.0
        remote.submit(ExportRequest(model="w", compress="int8", max_drop=0.5)).result(600)
        files = remote.exported("w:1", "int8")
        assert {"model.onnx", "model.onnx.data", "tokenizer.json"} <= set(files)

        of_files = remote.submit(EvaluateRequest(model="w", data=str(texts))).result(600)
        of_texts = remote.submit(
            EvaluateRequest(model="w", data=[file.read_text() for file in sorted(texts.iterdir())])
        ).result(600)
        assert of_files.rows == 4 and of_files.values == of_texts.values
        small = remote.submit(EvaluateRequest(model="w@int8", data=str(texts))).result(600)
        assert small.model == "w:1@int8"
        assert small.values["perplexity"] != of_files.values["perplexity"]
        assert small.values["perplexity"] == pytest.approx(of_files.values["perplexity"], rel=0.1)

        (file := offered / "w.gguf").write_bytes(remote.exported("w:1", "gguf")["model.gguf"])
        remote.submit(ImportRequest(path=str(file), name="again")).result(600)
        asked = [PredictRequest(model=name, data=["Jack and"], max_tokens=8) for name in ("w", "again")]
        ours, theirs = (list(remote.predict(one).columns["prediction"]) for one in asked)
        assert ours == theirs
        for other in (tmp_path / "other.gguf", tmp_path / "none.gguf"):
            if "other" in other.name:
                other.write_bytes(b"no such thing")
            with pytest.raises(ModelError, match="The service opens no pretrained network"):
                remote.submit(ImportRequest(path=str(other), name="other")).result(600)
    finally:
        service.stop()
