"""What is said to be pasted, of models that write, answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from serving import Service  # type: ignore[import-not-found]

from maas_magics.api.requests import PredictRequest, TrainRequest
from maas_magics.endpoint import Endpoint
from maas_magics.remote.backend import RemoteBackend
from maas_magics.remote.client import Client


def test_lines_to_paste_ask_what_writes(tmp_path: Path) -> None:
    service = Service(tmp_path / "served")
    try:
        remote = RemoteBackend(Client(service.url, lambda: service.token))
        rows = {"text": [f"a hill and {number} pails" for number in range(40)]}
        sizes = {"layers": 1, "width": 32, "block": 64}
        remote.submit(TrainRequest(name="w", data=rows, task="language", epochs=2, params=sizes)).result(600)
        (tmp_path / "token").write_text(service.token)
        info = remote.models.get("w")
        place = Endpoint(model="w", url=service.url, token=str(tmp_path / "token"), signature=info.signature)
        place = msgspec.structs.replace(place, iterative=info.iterative)
        assert f"{service.url}/v1/completions" in place.report()
        shell = subprocess.run(["bash", "-c", place.curl], capture_output=True, text=True, timeout=120)
        code = place.python.replace("max_tokens=40", "max_tokens=6, temperature=0")
        python = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert python.returncode == 0, python.stderr
        (wanted,) = remote.predict(PredictRequest(model="w", data=["a"], max_tokens=6)).columns["prediction"]
        assert python.stdout.removesuffix("\n") == wanted
        assert "choices" in msgspec.json.decode(shell.stdout)
    finally:
        service.stop()


@pytest.mark.parametrize("token", ["", "$MAAS_TOKEN", "token.txt"])
def test_lines_of_what_draws_name_pictures(token: str) -> None:
    from maas_magics.api.signature import Signature, TensorSpec

    made = Signature(
        (TensorSpec("caption", "BYTES", (-1, 1), ""),), (TensorSpec("picture", "FP32", (-1, 3, 8, 8), ""),)
    )
    place = Endpoint(model="d", url="http://127.0.0.1:1", token=token, signature=made, iterative=True)
    assert place.infer == "http://127.0.0.1:1/v1/images/generations" and "images.generate(model='d'" in place.python
    compile(place.python, "lines", "exec")
