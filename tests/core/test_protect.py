"""`%export --encrypt`, `%maas encrypt` and `rotate-key`: nothing of a model lies readable on a disk at any time."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

import maas_magics as maas
from maas_magics import session
from maas_magics.api.errors import ExportError, MaasError, ModelNotFound, OptionError, SealError, StoreError
from maas_magics.api.events import EpochEnd
from maas_magics.core.seal import chunks, files
from maas_magics.core.seal.keys import write_key
from maas_magics.core.store.storage import Folder

RANDOM = np.random.default_rng(0)
WORD = "a-word-that-only-the-rows-have"
ROWS = pd.DataFrame(RANDOM.normal(size=(200, 6)), columns=list("abcdef")).assign(
    kind=RANDOM.choice([WORD, "other"], 200)
)
ROWS["y"] = np.where(ROWS["a"] + ROWS["b"] > 0, "yes", "no")
ASKED = ROWS.drop(columns="y")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one readable version, made once for all tests."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAAS_STORE", str(place))
        patch.setattr(session, "_session", None)
        maas.train("m", data=ROWS, target="y", model="mlp", epochs=1)
    return place


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_key(tmp_path / "key")
    monkeypatch.setenv("MAAS_KEY", f"file:{tmp_path / 'key'}")
    return tmp_path / "key"


@pytest.fixture
def trained(made: Path, store: Path, key: Path) -> Path:
    shutil.copytree(made / "models", store / "models")
    return store


def again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another process finds the store: nothing is open."""
    monkeypatch.setattr(session, "_session", None)


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with all that is removed from here on, by this process and by those that it starts."""
    grave, temporary = tmp_path / "grave", tmp_path / "temporary"
    grave.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("MAAS_TEST_GRAVE", str(grave))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(HERE / "nothing_removed"), os.environ.get("PYTHONPATH", ""))))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    spec = importlib.util.spec_from_file_location("buries", HERE / "nothing_removed/sitecustomize.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = os.unlink, os.remove
    spec.loader.exec_module(module)
    yield grave
    os.unlink, os.remove = before


def known_bytes() -> list[bytes]:
    """Bytes of weights, as they lie in a file whichever way they are turned, and what only rows hold."""
    net = maas.load("m")
    found = [WORD.encode()]
    for value in net.state_dict().values():
        if value.dtype.is_floating_point and value.numel() >= 64:
            array = value.detach().numpy()
            found += [np.ascontiguousarray(turned).tobytes()[:32] for turned in (array, array.T)]
    assert len(found) > 2
    return found


def readable(folder: Path, known: list[bytes]) -> list[str]:
    """Files that hold any of some bytes."""
    hits = []
    for file in (path for path in folder.rglob("*") if path.is_file()):
        data = file.read_bytes()
        if any(each in data for each in known):
            hits.append(file.relative_to(folder).as_posix())
    return sorted(hits)


def probabilities(model: str) -> Any:
    return maas.predict(model, ASKED, probabilities=True).drop(columns="prediction").to_numpy(float)


def test_an_encrypted_export_is_asked_scored_and_delivered(trained: Path, tmp_path: Path) -> None:
    artifact = maas.export("m", encrypt=True, out=str(tmp_path / "out"))
    assert artifact.variant == "onnx+encrypted" and artifact.verification.rows > 10
    assert np.allclose(probabilities("m@onnx+encrypted"), probabilities("m"), atol=1e-5)
    assert maas.evaluate("m@onnx+encrypted", data=ROWS).values == pytest.approx(maas.evaluate("m", data=ROWS).values)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "README.md", "artifact.json", "model.onnx", "seal.json",
    }  # fmt: skip
    assert "import onnxruntime" not in (tmp_path / "out/README.md").read_text()
    with pytest.raises(ExportError, match="the key of model.onnx stands in seal.json"):
        maas.export("m", encrypt=True, out=str(tmp_path / "one.onnx"))


@pytest.mark.parametrize("how", ["int8", "int4"])
def test_a_compressed_export_is_encrypted(how: str, trained: Path) -> None:
    plain = maas.export("m", compress=how, max_drop=0.9)
    artifact = maas.export("m", compress=how, encrypt=True, max_drop=0.9)
    assert artifact.variant == f"{how}+encrypted"
    assert np.allclose(probabilities(f"m@{how}+encrypted"), probabilities(f"m@{how}"), atol=1e-5)
    assert abs(artifact.verification.bytes_after - plain.verification.bytes_after) < 2_000


@pytest.mark.parametrize("own", [False, True])
def test_a_training_leaves_nothing_readable_on_its_way(
    own: bool, store: Path, key: Path, watched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data: Any = ROWS if not own else (ROWS[list("abcdef")].to_numpy(np.float32), (ROWS["y"] == "yes").to_numpy())
    target = None if own else "y"
    asked: dict[str, Any] = {"data": data, "target": target, "epochs": 2, "encrypt": True, "checkpoint_every": "2"}
    model: Any = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1)) if own else "mlp"
    first = maas.train(
        "m", model=model, callbacks=[lambda event: "stop" if isinstance(event, EpochEnd) else None], **asked
    )
    assert first.stopped and first.info.version == 1
    states = [*store.rglob("checkpoint-*"), *watched.rglob("*checkpoint-*")]
    assert len(states) > 1 and all(path.read_bytes().startswith(chunks.MAGIC) for path in states)
    if not own:
        whole = maas.train("whole", model=model, **asked)
        again(monkeypatch)
        resumed = maas.train("m", **{**asked, "encrypt": False}, model=model, resume=True)  # and stays encrypted
        assert resumed.epochs == 2 and resumed.info.metrics == whole.info.metrics
    answers = maas.predict("m", data[0] if own else ASKED)
    assert readable(store, known_bytes()) == [] and readable(watched, known_bytes()) == []
    weights = list(store.glob("models/m/*/weights.safetensors"))
    assert weights and all(path.read_bytes().startswith(chunks.MAGIC) for path in weights)
    again(monkeypatch)
    assert np.array_equal(maas.predict("m", data[0] if own else ASKED), answers)


def test_a_training_that_could_not_be_encrypted_does_not_begin(
    store: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OptionError, match="one process"):
        maas.train("m", data=ROWS, target="y", encrypt=True, workers=2)
    stop = [lambda event: "stop" if isinstance(event, EpochEnd) else None]
    maas.train("m", data=ROWS, target="y", model="mlp", epochs=9, encrypt=True, checkpoint_every="2", callbacks=stop)
    monkeypatch.delenv("MAAS_KEY")
    again(monkeypatch)
    for asked in ({"encrypt": True}, {"model": "mlp", "epochs": 9, "resume": True}):
        with pytest.raises(SealError, match="MAAS_KEY") as told:
            maas.train("m", data=ROWS, target="y", **asked)
        assert len(str(told.value).splitlines()) == 2
    assert len(list(store.glob("models/m/*"))) == 1


@pytest.mark.parametrize("options", [{"format": "ort"}, {"compress": "int8-static"}, {"auto": True}])
def test_what_lies_readable_for_a_while_is_refused(options: dict[str, Any], trained: Path) -> None:
    with pytest.raises(MaasError, match="readable for a while") as told:
        maas.export("m", encrypt=True, **options)
    assert len(str(told.value).splitlines()) == 2
    assert not (trained / "models/m/1/exports").exists()


def test_an_encrypted_version_takes_the_place_of_the_readable_one(
    trained: Path, watched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, before = known_bytes(), probabilities("m")
    maas.alias("m", "best")
    assert "m/1/weights.safetensors" in readable(trained / "models", known)  # the control
    assert maas.encrypt("m@best").ref == "m:2"
    watched.rename(watched.with_name("before"))  # the readable version itself was removed
    watched.mkdir()
    again(monkeypatch)
    assert np.array_equal(probabilities("m@best"), before)
    with pytest.raises(ModelNotFound):
        maas.predict("m:1", ASKED)
    for options in ({}, {"format": "pt2"}, {"format": "safetensors"}, {"compress": "int8"}, {"compress": "int4+fp16"}):
        artifact = maas.export("m", max_drop=0.9, **options)
        assert "encrypted" not in artifact.variant and (Path(artifact.path) / "seal.json").is_file()
    again(monkeypatch)
    assert np.allclose(probabilities("m@onnx"), before, atol=1e-5)
    maas.evaluate("m@int8", data=ROWS)
    assert readable(trained, known) == []
    assert readable(watched, known) == []
    assert readable(Path(tempfile.gettempdir()), known) == []
    with pytest.raises(OptionError, match="encrypted already"):
        maas.encrypt("m")


def test_a_module_of_a_notebook_is_encrypted(store: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch import nn

    maas.train("m", data=ROWS[[*"abcdef", "y"]], target="y", model=nn.Sequential(nn.Linear(6, 32), nn.Linear(32, 2)))
    known, before = known_bytes()[1:], maas.predict("m", ASKED[list("abcdef")])
    maas.encrypt("m")
    assert readable(store, known) == []
    again(monkeypatch)
    assert maas.predict("m", ASKED[list("abcdef")]).equals(before)


def test_the_watch_itself_sees_what_is_removed(watched: Path, tmp_path: Path) -> None:
    code = (
        "import tempfile, pathlib\nwith tempfile.TemporaryDirectory() as d: pathlib.Path(d, 'f').write_text('weights')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "f").write_text("rows")
    assert readable(watched, [b"weights"]) and readable(watched, [b"rows"])


def test_another_key_opens_a_version_after_it_was_wrapped_anew(
    trained: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maas.encrypt("m")
    maas.export("m")
    before, old = probabilities("m"), key.read_text()
    weights = (trained / "models/m/2/weights.safetensors").read_bytes()
    new = key.with_name("new")
    named = maas.make_key(str(new)).key
    key.write_text(new.read_text() + old)
    done = maas.rotate_key("m")
    assert (done.key, done.names) == (named, ("m:2", "m:2@onnx"))
    assert (trained / "models/m/2/weights.safetensors").read_bytes() == weights
    again(monkeypatch)
    assert np.array_equal(probabilities("m"), before)
    key.write_text(old)
    again(monkeypatch)
    with pytest.raises(SealError, match=f"is encrypted with the key {named}"):
        maas.predict("m", ASKED)
    key.write_text(new.read_text())
    assert np.array_equal(probabilities("m"), before)


def test_nothing_is_rotated_that_is_not_encrypted(trained: Path) -> None:
    with pytest.raises(SealError, match="Nothing of m is encrypted"):
        maas.rotate_key("m")


@pytest.mark.parametrize("what", ["changed", "cut", "swapped"])
def test_a_file_that_was_tampered_with_is_refused(what: str, trained: Path) -> None:
    """Past the digests of the manifest, which whoever changes a file may change as well."""
    maas.encrypt("m")
    maas.export("m")
    file = trained / "models/m/2/exports/onnx/model.onnx"
    data = file.read_bytes()
    other = trained / "models/m/2/sample.arrow"
    file.write_bytes({"changed": data[:-1] + b"x", "cut": data[:-20], "swapped": other.read_bytes()}[what])
    with pytest.raises(SealError, match="m:2@onnx cannot be used: its file model.onnx"):
        files.contents(file)
    with pytest.raises(SealError, match="m:2@onnx cannot be used: its file model.onnx"):
        maas.predict("m", ASKED)
    file.write_bytes(b"readable")
    with pytest.raises(StoreError, match="was changed after it was published"):
        maas.predict("m", ASKED)


def test_a_missing_key_publishes_nothing(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAAS_KEY")
    for act in (lambda: maas.export("m", encrypt=True), lambda: maas.encrypt("m")):
        with pytest.raises(SealError, match="no key to encrypt with"):
            act()
    assert sorted(os.listdir(trained / "models/m")) == ["1"] and not (trained / "models/m/1/exports").exists()
    assert os.listdir(trained / "tmp") == []


def test_a_full_disk_publishes_nothing(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(chunks, "write", full)
    for act in (lambda: maas.export("m", encrypt=True), lambda: maas.encrypt("m")):
        with pytest.raises(StoreError, match="No space left on device. Nothing was published"):
            act()
    assert sorted(os.listdir(trained / "models/m")) == ["1"] and not (trained / "models/m/1/exports").exists()
    assert os.listdir(trained / "tmp") == []
    monkeypatch.undo()
    assert Folder(trained).versions("m") == [1]


def test_a_version_is_pushed_and_pulled_encrypted(
    trained: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maas.encrypt("m")
    maas.export("m")
    before, there = probabilities("m"), tmp_path / "there"
    maas.push("m", str(there))
    assert maas.pull(f"{there}/models/m", name="back").here == ("back:1",)
    again(monkeypatch)
    assert np.array_equal(probabilities("back"), before)
    new = key.with_name("new")
    maas.make_key(str(new))
    key.write_text(new.read_text() + key.read_text())
    maas.rotate_key("m")
    assert maas.push("m", str(there)).files == 2  # the two envelopes
    key.write_text(new.read_text())
    assert maas.pull(f"{there}/models/m", name="later").here == ("later:1",)
    assert np.array_equal(probabilities("later"), before)


@pytest.mark.parametrize("how", [{}, {"compress": "int4"}])
def test_a_model_that_writes_is_encrypted_with_the_weights_beside_its_graph(
    how: dict[str, Any], store: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from text_networks import PROMPTS, folder_of, texts_of

    maas.import_model(str(folder_of("Llama", tmp_path / "folder")), "writer")
    plain = maas.export("writer", max_drop=0.99, **how)
    before = texts_of(maas.predict(f"writer@{plain.variant}", PROMPTS, max_tokens=8))
    artifact = maas.export("writer", encrypt=True, max_drop=0.99, **how)
    place = Path(artifact.path)
    assert files.is_sealed(place / "model.onnx") and files.is_sealed(place / "model.onnx.data")
    assert files.is_sealed(place / "tokenizer.json")
    again(monkeypatch)
    assert texts_of(maas.predict(f"writer@{artifact.variant}", PROMPTS, max_tokens=8)) == before
    maas.encrypt("writer")
    again(monkeypatch)
    assert texts_of(maas.predict(f"writer@{plain.variant}", PROMPTS, max_tokens=8)) == before
