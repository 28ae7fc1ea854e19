"""Keys and values are bounded before they are taken: by a service, one request to load, and this kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from serving import Service, in_thread, remote
from writers import writer

from maas_magics.api.errors import ModelError, OptionError
from maas_magics.api.requests import GenerateRequest, ImportRequest
from maas_magics.core.runtimes.text.room import MOST_SLOTS, SLOTS, Room, room_for
from maas_magics.local.backend import LocalBackend
from maas_magics.service.__main__ import main

TOKEN = 2 * 4 * 2 * 2 * 16
"""Bytes of the keys and values of a token."""

LENGTH = 2_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store holds ``writer``."""
    place = tmp_path_factory.mktemp("kv")
    backend = LocalBackend(str(place / "store"))
    backend.submit(ImportRequest(path=str(writer(place / "writer", length=LENGTH)), name="writer")).result(600)
    return place


def slots(backend: LocalBackend) -> int:
    found = backend.loader.generator("writer")
    assert found is not None
    session: Any = found.loop.session
    engine = session._engine
    kept = sum(layer.numel() * layer.element_size() for layer in (*engine._keys, *engine._values))
    assert kept == session.slots * session.length * TOKEN and session.length == LENGTH
    return session.slots


def test_as_many_slots_are_taken_as_the_memory_holds(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slots(LocalBackend(str(store / "store"))) == SLOTS
    assert slots(LocalBackend(str(store / "store"), kv_memory=3 * LENGTH * TOKEN + 5)) == 3
    assert slots(LocalBackend(str(store / "store"), kv_memory=2**30)) == MOST_SLOTS
    monkeypatch.setenv("MAAS_KV_MEMORY", "1.5MB")
    backend = LocalBackend(str(store / "store"))
    assert slots(backend) == 1_500_000 // (LENGTH * TOKEN) == 1
    backend.load("writer", 2 * LENGTH * TOKEN)
    assert slots(backend) == 2
    monkeypatch.setenv("MAAS_KV_MEMORY", "much")
    with pytest.raises(OptionError, match="kv-memory is 'much'"):
        slots(LocalBackend(str(store / "store")))


def test_where_not_one_text_fits_it_is_told_when_the_model_is_loaded(store: Path) -> None:
    backend = LocalBackend(str(store / "store"), kv_memory=LENGTH * TOKEN - 1)
    told = r"keeps 1\.0 MB of keys and values for one text of 2,000 tokens; kv-memory is 1\.0 MB"
    with pytest.raises(ModelError, match=told) as caught:
        backend.load("writer")
    assert caught.value.hint == "--kv-memory 2MB, or more"
    assert room_for("m:1", 10**9, 100, None) == Room(1, 100)


def test_a_service_is_told_at_its_start_and_at_each_load(store: Path) -> None:
    service = Service(store, "--kv-memory", "1.5MB")
    try:
        with remote(service.url, service.token) as there:
            chunks = list(there.generate(GenerateRequest(model="writer", data="Jack and", max_steps=3)))
            assert chunks[-1].finish
            with pytest.raises(ModelError, match="kv-memory is 5 B"):
                there.load("writer", 5)
            there.load("writer", 10**7)
        asked: dict[str, Any] = {"headers": service.headers, "timeout": 600}
        path = f"{service.url}/v2/repository/models/writer/load"
        for given, status in (({"kv_memory": "1MB"}, 400), ({"kv_memory": 0}, 400), ({"config": "{}"}, 501)):
            assert httpx2.post(path, json={"parameters": given}, **asked).status_code == status
    finally:
        service.stop()


@pytest.mark.parametrize("size", ["much", "0", "512", "-1GB"])
def test_what_is_no_size_ends_the_command(size: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--store", str(tmp_path), "--no-auth", "--port", "0", f"--kv-memory={size}"])
    assert caught.value.code == 2 and f"kv-memory is '{size}'" in capsys.readouterr().err


def test_a_model_is_loaded_in_a_service_with_a_memory_of_its_own(store: Path) -> None:
    backend = LocalBackend(str(store / "store"))
    with in_thread(backend) as url, remote(url) as there:
        there.load("writer", 4 * LENGTH * TOKEN)
        assert slots(backend) == 4
        seen: Callable[[], Any] = there.loaded
        assert seen()["writer:1"]
