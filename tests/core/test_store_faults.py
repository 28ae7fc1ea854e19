"""Two processes at once, a process killed in between, a disk that is full or read-only."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from publishing import marks, output, program, put

from maas_magics.api.errors import StoreError
from maas_magics.core.store.models import Store
from maas_magics.core.store.storage import LEFTOVER

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="uses limits that only Linux keeps")
EACH = 25


def test_two_processes_publish_one_name_at_once(tmp_path: Path) -> None:
    code = f"""
store, mark = Store(sys.argv[1]), sys.argv[2]
sys.stdin.readline()
print(*(put(store, "m", mark) for _ in range({EACH})))
"""
    writers = [program(code, str(tmp_path), mark, stdin=subprocess.PIPE) for mark in ("first", "second")]
    store = Store(str(tmp_path))
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    seen = 0
    # A reader beside them never sees half a version, nor a version go back.
    while any(writer.poll() is None for writer in writers):
        versions = store.storage.versions("m")
        if versions:
            assert len(marks(store, "m", versions[-1])) == 1
            assert store.get("m").version >= versions[-1] >= seen
            seen = versions[-1]
    numbers = [list(map(int, output(writer).split())) for writer in writers]
    assert sorted(numbers[0] + numbers[1]) == list(range(1, 2 * EACH + 1))
    for mark, own in zip(("first", "second"), numbers, strict=True):
        assert own == sorted(own)
        assert all(marks(store, "m", version) == {mark} for version in own)
    assert store.resolve("m") == ("m", 2 * EACH)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_a_bucket_is_claimed_version_by_version(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from threading import Thread

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = f"file://{tmp_path}/bucket" if scheme == "file" else f"memory://{uuid4().hex}"
    found: dict[str, list[int]] = {}

    def write(mark: str) -> None:
        store = Store(place)
        found[mark] = [put(store, "m", mark) for _ in range(8)]

    threads = [Thread(target=write, args=(mark,)) for mark in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found["first"] + found["second"]) == list(range(1, 17))
    store = Store(place)
    assert all(marks(store, "m", version) == {mark} for mark, own in found.items() for version in own)


def test_aliases_set_at_once_are_all_kept(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    put(store, "m")
    code = "store = Store(sys.argv[1])\nfor i in range(20): store.alias('m', f'{sys.argv[2]}{i}')"
    for writer in [program(code, str(tmp_path), mark) for mark in "ab"]:
        output(writer)
    assert len(store.get("m").aliases) == 40


def test_a_killed_publisher_leaves_nothing_half_done(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    code = "store = Store(sys.argv[1])\nprint('ready', flush=True)\nwhile True: put(store, 'm', 'x', 20_000)"
    chance = random.Random(0)
    before = 0
    for _ in range(6):
        writer = program(code, str(tmp_path))
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.1))
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
        versions = store.storage.versions("m")
        assert versions == list(range(1, len(versions) + 1)) and len(versions) >= before
        assert all(marks(store, "m", version, 20_000) == {"x"} for version in versions[before:])
        before = len(versions)
    assert put(store, "m") == before + 1
    assert store.get("m").version == before + 1


def test_leftovers_of_killed_processes_go_after_a_day(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for name, age in (("old", LEFTOVER + 60), ("new", 60)):
        place = tmp_path / "tmp" / name
        place.mkdir(parents=True)
        (place / "weights").write_text("x")
        os.utime(place, (time.time() - age,) * 2)
    put(store, "m")
    assert [entry.name for entry in (tmp_path / "tmp").iterdir()] == ["new"]


# --- disks ---


def small_disk(place: Path) -> Callable[[], None]:
    """A disk of one megabyte, mounted where this process may; returns how to take it away."""
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("this user may mount no disk")
    return lambda: subprocess.run(["umount", "-l", str(place)], check=True) and None


LIMITED = """
import resource
from maas_magics.api.errors import StoreError
store = Store(sys.argv[1])
put(store, "m", "x")
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    put(store, "m", "x", 100_000)
except StoreError as error:
    print(error.message)
    print(store.storage.versions("m"), put(store, "m", "x"))
"""


@linux
def test_a_file_that_may_not_grow_publishes_nothing(tmp_path: Path) -> None:
    told, after = output(program(LIMITED, str(tmp_path))).splitlines()
    assert told.endswith("cannot be written: File too large. Nothing was published.")
    assert after == "[1] 2"
    assert list((tmp_path / "tmp").iterdir()) == []


@linux
def test_a_full_disk_publishes_nothing(tmp_path: Path) -> None:
    away = small_disk(tmp_path / "disk")
    try:
        store = Store(str(tmp_path / "disk"))
        put(store, "m", "a")
        with pytest.raises(StoreError, match=r"No space left on device\. Nothing was published\.") as caught:
            put(store, "m", "b", 400_000)
        assert "MAAS_STORE" in caught.value.hint
        assert store.storage.versions("m") == [1] and marks(store, "m", 1) == {"a"}
        assert put(store, "m", "c") == 2
    finally:
        away()


@linux
def test_a_training_on_a_full_disk_fails_and_the_store_is_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way, libraries that write files by themselves included."""
    code = """
import resource, numpy as np, torch, maas_magics as maas
torch.set_num_threads(1)
X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32"); y = (X[:, 0] > 0).astype(int)
wide = torch.nn.Sequential(torch.nn.Linear(3, 60_000), torch.nn.Linear(60_000, 1))
maas.train("m", X, y, model="linear", epochs=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
try:
    maas.train("m", X, y, model=wide, epochs=1)
except Exception as error:
    print("»", type(error).__name__, error.message)
maas.train("n", X, y, model="linear", epochs=1)
print("»", [info.ref for info in maas.models()], [job.state for job in maas.jobs()])
"""
    monkeypatch.setenv("MAAS_STORE", str(tmp_path))
    told, after = (line for line in output(program(code)).splitlines() if line.startswith("»"))
    assert told.startswith("» StoreError") and told.endswith("File too large. Nothing was published.")
    assert after == "» ['m:1', 'n:1'] ['succeeded', 'failed', 'succeeded']"


@linux
def test_a_read_only_store_can_be_read(tmp_path: Path) -> None:
    away = small_disk(tmp_path / "disk")
    try:
        put(Store(str(tmp_path / "disk")), "m", "a")
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        store = Store(str(tmp_path / "disk"))
        assert store.get("m").version == 1 and marks(store, "m", 1) == {"a"}
        for act in (lambda: put(store, "m"), lambda: store.delete("m"), lambda: store.alias("m", "a")):
            with pytest.raises(StoreError, match="cannot be written: Read-only file system"):
                act()
        assert store.storage.versions("m") == [1]
        from maas_magics.local.backend import LocalBackend

        assert LocalBackend(store.place).jobs() == []
    finally:
        away()
