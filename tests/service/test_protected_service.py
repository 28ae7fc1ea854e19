"""A service of its own process: it serves what is encrypted, opens what is signed alone, and answers fewer digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from serving import Service

from maas_magics.api.errors import MaasError
from maas_magics.api.protect import EncryptRequest, KeyRequest, RotateKeyRequest, SignRequest
from maas_magics.api.requests import EvaluateRequest, ExportRequest, PredictRequest, TrainRequest
from maas_magics.core.seal.keys import write_key
from maas_magics.local.backend import LocalBackend
from maas_magics.remote.backend import RemoteBackend

RANDOM = np.random.default_rng(0)
ROWS = pd.DataFrame(RANDOM.normal(size=(90, 3)), columns=list("abc"))
ROWS["y"] = np.where(ROWS["a"] > 0, "yes", "no")
ASKED = ROWS.drop(columns="y")


def test_a_service_of_protected_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_key(tmp_path / "key")
    monkeypatch.setenv("MAAS_KEY", f"file:{tmp_path / 'key'}")
    signer = Ed25519PrivateKey.generate()
    pem = signer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "signer").write_bytes(pem)
    public = signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "signer.pub").write_bytes(public)
    own = LocalBackend(str(tmp_path / "store"))
    for name in ("sealed", "unsigned"):
        own.submit(TrainRequest(name=name, data=ROWS, target="y", model="linear", epochs=1)).result(600)
    own.submit(ExportRequest(model="sealed")).result(600)
    before = own.predict(PredictRequest(model="sealed", data=ASKED, probabilities=True)).columns["probabilities"]
    own.submit(EncryptRequest(model="sealed")).result(600)
    own.submit(SignRequest(model="sealed", key=str(tmp_path / "signer"))).result(600)
    service = Service(tmp_path, "--require-signed", str(tmp_path / "signer.pub"), "--harden", "round=2", "--rate", "90")
    try:
        remote = RemoteBackend(service.client())
        assert remote.kept_back() == {"harden": "round=2", "rate": 90}
        found = remote.predict(PredictRequest(model="sealed", data=ASKED, probabilities=True))
        assert np.allclose(found.columns["probabilities"], np.round(before, 2), atol=1e-6)
        assert remote.submit(EvaluateRequest(model="sealed", data=ROWS)).result(600).values["accuracy"] > 0.2
        with pytest.raises(MaasError, match="unsigned:1 is not signed, and only signed models are opened here"):
            remote.predict(PredictRequest(model="unsigned", data=ASKED))
        for request in (KeyRequest(file="k"), SignRequest(model="sealed", key="k")):
            with pytest.raises(MaasError, match="A service"):
                remote.submit(request).result(600)
        assert remote.submit(RotateKeyRequest(model="sealed")).result(600).names == ("sealed:2", "sealed:2@onnx")
    finally:
        service.stop()
