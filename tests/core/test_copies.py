"""Versions copied to buckets and folders and back: whole or not at all, sent once, checked by their digests."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest

import maas_magics as maas
from maas_magics.api.errors import MissingDependency, ModelNotFound, OptionError, StoreError
from maas_magics.api.requests import ExportRequest, TrainRequest
from maas_magics.core.store import copies, places
from maas_magics.core.store.models import Store
from maas_magics.core.store.places import Place
from maas_magics.local.backend import LocalBackend

RANDOM = np.random.default_rng(0)
ROWS = pd.DataFrame(RANDOM.normal(size=(60, 3)), columns=["a", "b", "c"]).assign(kind=["x", "y", "x"] * 20)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PAUSE", 0.0)


@pytest.fixture(params=["folder", "file", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "s3":
        yield from bucket(monkeypatch)
        return
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    there = tmp_path / "elsewhere"
    yield {"folder": str(there), "file": there.as_uri(), "memory": "memory://elsewhere"}[request.param]
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket behind HTTP on this machine."""
    s3fs = pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        place = "http://{}:{}".format(*server.get_host_and_port())
        for name, value in {
            "AWS_ENDPOINT_URL": place, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        name = f"bucket-{uuid.uuid4().hex[:8]}"  # servers of one process have the same buckets
        fsspec.filesystem("s3").mkdir(name)
        yield f"s3://{name}/models-of-us"
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one version and its export, made once for all tests."""
    place = tmp_path_factory.mktemp("made") / "store"
    backend = LocalBackend(str(place))
    backend.submit(TrainRequest(name="m", data=ROWS, target="kind", model="linear", epochs=1)).result(600)
    backend.submit(ExportRequest(model="m")).result(600)
    return place


@pytest.fixture
def trained(made: Path, store: Path, lab: Any) -> Store:
    shutil.copytree(made / "models", store / "models")
    return lab.session.backend.models


def names(place: Place, path: str) -> list[str]:
    return place.names(path)


def test_a_version_goes_there_and_comes_back(trained: Store, url: str, tmp_path: Path, lab: Any) -> None:
    sent = maas.push("m", url)
    assert sent.there == (f"{url}/models/m/1",) and sent.files >= 5
    again = maas.push("m", url)
    assert again.files == 0 and again.there == sent.there
    wanted = list(maas.predict("m", ROWS)["prediction"])
    assert maas.pull(f"{url}/models/m").here == ("m:1",)  # it is here
    fetched = maas.pull(f"{url}/models/m/1", "birds")
    assert fetched.here == ("birds:1",) and fetched.files
    assert list(maas.predict("birds", ROWS)["prediction"]) == wanted
    assert maas.pull(url, "birds").files == 0
    maas.remove("m")
    assert maas.sync(url).pulled == ("m:2",)  # a number is never given again
    assert list(maas.predict("m", ROWS)["prediction"]) == wanted
    assert not list((trained.work / "parts").iterdir())
    assert [one.ref for one in Store(url).list()] == ["birds:1", "m:1"]  # a place is a store itself


def test_both_lack_something(trained: Store, url: str, lab: Any, tmp_path: Path) -> None:
    maas.push("m", url)
    lab.session.run(ExportRequest(model="m", format="safetensors"))  # an export that came later
    lab.train(ROWS, "kind", name="own")
    done = maas.sync(url)
    assert sorted(one.rpartition("/models/")[2] for one in done.pushed) == ["m/1", "own/1"]
    assert "safetensors" in names(Place(url), "models/m/1/exports")
    assert maas.sync(url).files == 0


def test_aliases_go_with_their_version(trained: Store, url: str, lab: Any, tmp_path: Path) -> None:
    trained.alias("m", "live")
    maas.push("m", url)
    other = LocalBackend(str(tmp_path / "other"))
    assert copies.pull(other.models, f"{url}/models/m", None, lambda: None)[0] == "m:1"  # type: ignore[arg-type]
    assert other.models.get("m@live").ref == "m:1"
    lab.train(ROWS, "kind", name="m")
    trained.alias("m:2", "live")  # here it names another version now; there it stays what it was
    trained.alias("m:1", "first")
    assert maas.sync(url).files
    assert Store(url).storage.aliases("m") == {"first": 1, "live": 1}
    assert trained.storage.aliases("m") == {"first": 1, "live": 2}
    Store(url).alias("m:2", "best")
    Store(url).alias("m:2", "onnx2")
    Place(url).write("models/m/aliases/onnx", b"1")  # here an export has that name
    assert maas.sync(url).pulled == ("m:2",) and maas.sync(url).files == 0
    assert trained.storage.aliases("m") == {"first": 1, "live": 2, "best": 2, "onnx2": 2}


@pytest.fixture
def in_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    yield from bucket(monkeypatch)


def test_a_large_file_goes_in_parts_of_which_a_lost_one_is_sent_again(
    in_s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(places, "PART", 5 * 2**20)  # S3 takes no smaller ones
    file = tmp_path / "weights"
    file.write_bytes(np.random.default_rng(0).bytes(23 * 2**20))
    place = Place(in_s3)
    s3 = type(place._fs)
    plain, lost = s3._call_s3, ["once"]

    async def cut(self: Any, method: str, *given: Any, **named: Any) -> Any:
        if method == "upload_part" and named.get("PartNumber") == 2 and lost:
            if lost == ["once"]:
                lost.clear()
            raise OSError(5, "Connection reset by peer")
        return await plain(self, method, *given, **named)

    monkeypatch.setattr(s3, "_call_s3", cut)
    place.put(file, "m/1/weights")
    assert not lost and place.size("m/1/weights") == 23 * 2**20
    assert re.search(r"-[345]\W*$", place._fs.info(place._at("m/1/weights"))["ETag"])  # so many parts
    place.get("m/1/weights", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    lost.append("for good")
    with pytest.raises(StoreError, match="was lost after 4 tries"):
        place.put(file, "m/2/weights")
    assert place.size("m/2/weights") == -1  # nothing half


class Cut(Exception):
    """The network, cut."""


def cut_after(monkeypatch: pytest.MonkeyPatch, files: int, method: str) -> list[str]:
    """Have the network end after so many files, for good."""
    told: list[str] = []
    plain = getattr(Place, method)

    def broken(self: Place, *given: Any) -> Any:
        if len(told) >= files:
            return self._tried(lambda: (_ for _ in ()).throw(Cut("Connection reset by peer")), "")
        told.append(str(given))
        return plain(self, *given)

    monkeypatch.setattr(Place, method, broken)
    return told


def test_a_network_that_is_cut_leaves_nothing_half(trained: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        cut_after(patched, 2, "put")
        with pytest.raises(StoreError, match="was lost after 4 tries: Connection reset") as raised:
            maas.push("m", url)
        assert "not sent twice" in raised.value.hint
    with pytest.raises(StoreError, match="There is no"):
        maas.pull(f"{url}/models/m")
    whole = len(copies._digests(trained.folder("m", 1))) + 1
    sent = maas.push("m", url)
    assert sent.files == whole - 2 and sent.there == (f"{url}/models/m/1",)  # what arrived is not sent twice
    with monkeypatch.context() as patched:
        cut_after(patched, 1, "get")
        with pytest.raises(StoreError, match="was lost"):
            maas.pull(f"{url}/models/m", "birds")
    with pytest.raises(ModelNotFound):
        trained.find("birds")
    assert maas.pull(f"{url}/models/m", "birds").files == whole - 3  # without manifest and report, and what is here
    assert len(maas.predict("birds", ROWS)) == 60


def test_what_arrives_otherwise_is_refused(trained: Store, tmp_path: Path) -> None:
    there = tmp_path / "elsewhere"
    maas.push("m", str(there))
    file = there / "models" / "m" / "1" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(StoreError, match=r"weights\.safetensors arrived otherwise"):
        maas.pull(str(there), "birds")
    with pytest.raises(ModelNotFound):
        trained.find("birds")
    manifest = there / "models" / "m" / "1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"weights.safetensors"', '"../../../escaped"'))
    with pytest.raises(StoreError, match="outside of the version"):
        maas.pull(str(there), "birds")
    report = there / "models" / "m" / "1" / "exports" / "onnx" / "artifact.json"
    report.write_text("[]")
    with pytest.raises(StoreError, match="manifest cannot be read"):
        maas.pull(str(there), "birds")
    manifest.write_text("{")
    with pytest.raises(StoreError, match="manifest cannot be read"):
        maas.pull(str(there), "birds")


def test_two_versions_of_one_number_get_two(trained: Store, lab: Any, tmp_path: Path) -> None:
    there = str(tmp_path / "elsewhere")
    other = Store(str(tmp_path / "other"))
    maas.push("m", there)
    shutil.rmtree(trained.folder("m", 1).parent)
    lab.train(ROWS, "kind", model="mlp")
    assert maas.push("m:1", there).there == (f"{there}/models/m/2",)
    assert [copies.pull(other, f"{there}/models/m/{n}", None, lambda: None)[0] for n in (1, 2)] == ["m:1", "m:2"]


def test_a_place_that_takes_nothing_is_said(trained: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        maas.push("m", "nowhere://x/y")
    full = tmp_path / "full"

    def no_room(*given: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("fsspec.implementations.local.LocalFileSystem.put_file", no_room)
        with pytest.raises(StoreError, match="No space left"):
            maas.push("m", str(full))

    def closed(*given: Any, **named: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("fsspec.implementations.local.LocalFileSystem.put_file", closed)
        with pytest.raises(StoreError, match="gives no permission"):
            maas.push("m", str(full))
    assert not (full / "models" / "m" / "1" / "manifest.json").exists()
    with pytest.raises(StoreError, match="There is no model at"):
        maas.pull(str(tmp_path / "empty"))
    (tmp_path / "bare").mkdir()
    with pytest.raises(StoreError, match="There is no model at") as told:
        maas.pull(str(tmp_path / "bare"))
    assert told.value.hint == "%maas push NAME URL sends one there."


def test_a_bucket_that_is_missing_is_said(trained: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in bucket(monkeypatch):
        with pytest.raises(StoreError, match="There is no bucket 'other'"):
            maas.push("m", "s3://other/models")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()
        with pytest.raises(StoreError, match="was lost after"):
            maas.push("m", "s3://bucket/models")


def test_without_s3fs_its_install_line_is_said(trained: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*given: Any, **named: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", absent)
    with pytest.raises(MissingDependency, match="not installed") as raised:
        maas.push("m", "s3://bucket/models")
    assert "maas-magics[s3]" in raised.value.hint


def test_a_training_sends_what_it_made(url: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"data": ROWS, "target": "kind", "model": "linear", "epochs": 1}
    made = maas.train("sent", **asked, to=f"{url}/models")
    assert made.info.version == 1
    maas.pull(f"{url}/models", "back")
    pd.testing.assert_frame_equal(maas.predict("back", ROWS), maas.predict("sent", ROWS))
    with pytest.raises(OptionError, match="--background does not"):
        maas.train("sent", **asked, to=url, background=True)
    with pytest.raises(StoreError):  # before it is trained
        maas.train("other", **asked, to="nowhere://bucket")
    assert not (store / "models/other").exists()

    def broken(*_: object) -> None:
        raise StoreError("The network is gone.", "Try again.")

    monkeypatch.setattr(Place, "put", broken)
    with pytest.raises(StoreError, match="sent:2 is trained, and in the store; it was not sent: The network") as told:
        maas.train("sent", **asked, to=url)
    assert told.value.hint.startswith("%maas push sent:2 ")
