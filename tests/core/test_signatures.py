"""`%maas sign`, and what opens signed models alone: tampered, unsigned, foreign and ended ones are refused."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

import maas_magics as maas
from maas_magics import session
from maas_magics.api.errors import MaasError, OptionError, SealError, StoreError
from maas_magics.core.seal import signatures

RANDOM = np.random.default_rng(0)
ROWS = pd.DataFrame(RANDOM.normal(size=(60, 3)), columns=list("abc")).assign(y=["no", "yes", "no"] * 20)
ASKED = ROWS.drop(columns="y")


def pair(place: Path, name: str, key: Any = None) -> Path:
    """A private key in a file, and its public half beside it."""
    key = key or Ed25519PrivateKey.generate()
    file = place / name
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    file.with_name(f"{name}.pub").write_bytes(public)
    return file


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one version and its export, made once for all tests."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAAS_STORE", str(place))
        patch.setattr(session, "_session", None)
        maas.train("m", data=ROWS, target="y", model="linear", epochs=1)
        maas.export("m")
    return place


@pytest.fixture
def trained(made: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made / "models", store / "models")
    monkeypatch.delenv("MAAS_REQUIRE_SIGNED", raising=False)
    return store


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return pair(tmp_path, "key")


@pytest.fixture
def wary(trained: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A signed version, where signed ones alone are opened."""
    maas.sign("m", str(key))
    monkeypatch.setenv("MAAS_REQUIRE_SIGNED", f"{key}.pub")
    monkeypatch.setattr(session, "_session", None)
    return trained / "models/m/1"


def refused(match: str) -> str:
    with pytest.raises((SealError, StoreError), match=match) as told:
        maas.predict("m", ASKED)
    assert len(str(told.value).splitlines()) == 2
    return str(told.value)


def test_a_signed_version_is_opened_under_any_name(wary: Path, tmp_path: Path) -> None:
    assert len(maas.predict("m", ASKED)) == len(maas.predict("m@onnx", ASKED)) == 60
    maas.push("m", str(tmp_path / "there"))
    maas.pull(f"{tmp_path}/there/models/m", name="other")
    assert len(maas.predict("other", ASKED)) == 60
    assert maas.evaluate("m", data=ROWS).values


def test_what_is_not_signed_is_refused(trained: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAAS_REQUIRE_SIGNED", f"{key}.pub")
    assert "%maas sign m:1" in refused("m:1 is not signed, and only signed models are opened here")


def test_the_signature_of_another_key_is_refused(wary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAAS_REQUIRE_SIGNED", f"{pair(tmp_path, 'theirs')}.pub")
    refused("which is none of the keys that count here")
    keys = tmp_path / "keys"
    keys.mkdir()
    for name in ("key", "theirs"):
        shutil.copy(tmp_path / f"{name}.pub", keys)
    monkeypatch.setenv("MAAS_REQUIRE_SIGNED", str(keys))
    assert len(maas.predict("m", ASKED)) == 60


def test_a_signature_ends(trained: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maas.sign("m", str(key), days=2)
    monkeypatch.setenv("MAAS_REQUIRE_SIGNED", f"{key}.pub")
    assert len(maas.predict("m", ASKED)) == 60
    now = time.time()
    monkeypatch.setattr(signatures.time, "time", lambda: now + 3 * 86_400)
    monkeypatch.setattr(session, "_session", None)
    refused("The signature of m:1 has ended, on ")
    with pytest.raises(OptionError, match="a number above 0 was expected"):
        maas.sign("m", str(key), days=-1)


def edited(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    def edit(data: bytes) -> bytes:
        known = json.loads(data)
        change(known)
        return json.dumps(known).encode()

    return edit


def test_a_changed_or_cut_signature_is_refused(wary: Path) -> None:
    file = wary / "signature.json"
    data = file.read_bytes()
    other = base64.b64encode(base64.b64decode(json.loads(data)["payload"]).replace(b"m", b"n", 1)).decode()
    for edit, match in (
        (edited(lambda known: known.update(payload=other)), "was changed: it does not hold"),
        (edited(lambda known: known.update(payloadType="text/plain")), "was changed: it does not hold"),
        (edited(lambda known: known["signatures"][0].update(sig="AAAA")), "was changed: it does not hold"),
        (edited(lambda known: known["signatures"].clear()), "is none of the keys"),
        (lambda data: data[: len(data) // 2], "cannot be read"),
        (lambda data: b"", "cannot be read"),
    ):
        file.write_bytes(edit(data))
        refused(match)
    file.write_bytes(data)
    assert len(maas.predict("m", ASKED)) == 60


def test_a_changed_file_is_refused_whatever_the_manifest_says(wary: Path) -> None:
    """Who changes a file writes its digest anew, but cannot sign it."""
    file = wary / "exports/onnx/model.onnx"
    before = signatures.hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_bytes(file.read_bytes() + b"\x00")
    refused("was changed after it was published")
    report = wary / "exports/onnx/artifact.json"
    after = signatures.hashlib.sha256(file.read_bytes()).hexdigest()
    report.write_text(report.read_text().replace(before, after))
    refused("its file exports/onnx/model.onnx is not one that was signed")


@pytest.mark.parametrize("path", ["manifest.json", "exports/onnx/artifact.json"])
def test_a_changed_manifest_or_report_is_refused(path: str, wary: Path) -> None:
    file = wary / path
    file.write_text(file.read_text().replace('"accuracy"', '"accuracy_"'))
    refused(f"its file {path} is not one that was signed")


def test_a_file_that_was_put_there_later_is_refused(wary: Path) -> None:
    (wary / "exports/onnx/model.ort").write_bytes(b"mine")
    refused("its file exports/onnx/model.ort is not one that was signed")


def test_an_export_after_the_signature_is_signed_anew(wary: Path, key: Path) -> None:
    shutil.copytree(wary / "exports/onnx", wary / "exports/later")
    with pytest.raises(SealError, match="is not one that was signed"):
        maas.predict("m@later", ASKED)
    maas.sign("m", str(key))
    assert len(maas.predict("m@later", ASKED)) == 60


def test_keys_that_are_none_are_told(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no").write_text("secret")
    for file, match in (
        (tmp_path / "no", "holds no private key in PEM"),
        (tmp_path / "missing", "cannot be read"),
        (pair(tmp_path, "curve", generate_private_key(SECP256R1())), "is not one of Ed25519"),
    ):
        with pytest.raises(SealError, match=match) as told:
            maas.sign("m", str(file))
        assert "openssl genpkey" in told.value.hint
    for file, match in ((tmp_path / "no", "holds no public key"), (tmp_path / "curve.pub", "not one of Ed25519")):
        with pytest.raises(SealError, match=match):
            maas.connect("kernel", require_signed=str(file))
        with pytest.raises(SealError, match=match):  # before a service is started
            maas.connect("local", require_signed=str(file))
    assert not (trained / "models/m/1/signature.json").exists()


def test_a_kernel_opens_signed_models_alone(trained: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAAS_REQUIRE_SIGNED", "")
    maas.connect("kernel", require_signed=f"{key}.pub")
    refused("is not signed")
    maas.connect("kernel", require_signed="")
    assert len(maas.predict("m", ASKED)) == 60
    with pytest.raises(MaasError, match="its owner's to say"):
        maas.connect("https://example.org", require_signed=f"{key}.pub")
