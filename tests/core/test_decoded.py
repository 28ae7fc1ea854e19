"""What pictures and sounds hold, decoded once: in memory, then on disk, with the same values either way."""

from __future__ import annotations

import errno
import io
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import maas_magics as maas
from maas_magics.api.errors import OptionError
from maas_magics.api.events import EpochEnd
from maas_magics.core.batches import decoded
from maas_magics.core.batches.decoded import DecodedRows, parsed_size
from maas_magics.core.batches.lazy import Lazy
from maas_magics.core.features import pictures

WIDTH = 16 * 16 * 3


@pytest.fixture
def folder(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    for number in range(80):
        place = tmp_path / "scenes" / ("day", "night")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 60, (16, 16, 3), dtype=np.uint8) + np.uint8(150 * (number % 2))
        Image.fromarray(noise).save(place / f"{number}.png")
    return str(tmp_path / "scenes")


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures this process has decoded."""
    done, decode = [0], pictures.decoded

    def counting(*args: Any, **more: Any) -> Any:
        done[0] += 1
        return decode(*args, **more)

    monkeypatch.setattr(pictures, "decoded", counting)
    return done


def test_a_size_is_read_or_refused() -> None:
    assert (parsed_size("2GB"), parsed_size("1.5 mb"), parsed_size("0")) == (2 * 10**9, 1_500_000, 0)
    assert parsed_size(None) == decoded.ON_DISK
    for wrong in ("much", "-1GB", "2", "nanGB"):
        with pytest.raises(OptionError, match=f"cache is '{wrong}'") as caught:
            parsed_size(wrong)
        assert "--cache 2GB" in caught.value.hint


def test_rows_are_decoded_once_in_memory_and_on_disk(tmp_path: Path) -> None:
    like, asked = np.zeros((2, 3), np.float32), []
    keep = DecodedRows(
        10, like, disk=4 * 24, folder=tmp_path, memory=3 * 24
    )  # three, then four, and three have no place

    def decode(rows: list[int]) -> Any:
        def made(at: list[int]) -> Any:
            asked.extend(rows[place] for place in at)
            return np.stack([np.full((2, 3), rows[place], np.float32) for place in at])

        return made

    for rows in ([0, 9, 4], [4, 5, 6, 7, 0], list(range(10))):
        found = keep(rows, decode(rows))
        assert found[:, 1, 2].tolist() == rows
    assert sorted(asked) == [0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 9]
    assert keep.disk == 4 * 24 and not keep.full and not list(tmp_path.iterdir())
    keep.close()


def test_a_full_disk_is_survived_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    keep = DecodedRows(4, np.zeros(3, np.uint8), disk=10**6, folder=tmp_path, memory=0)
    monkeypatch.setattr(os, "pwrite", full)
    for _ in range(2):
        assert keep([1, 2], lambda at: np.full((len(at), 3), 7, np.uint8)).tolist() == [[7] * 3] * 2
    assert keep.full
    file = tmp_path / "file"
    file.write_bytes(b"")
    crowded = DecodedRows(4, np.zeros(3, np.uint8), disk=10**6, folder=file / "inside", memory=0)
    assert crowded([0], lambda at: np.full((1, 3), 5, np.uint8)).tolist() == [[5] * 3]


def test_a_second_epoch_decodes_nothing_and_the_cache_changes_nothing(
    store: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = counted(monkeypatch)
    asked: dict[str, Any] = {"epochs": 3, "augment": "flip,crop", "batch_size": 16, "sample": 0}
    whole = maas.train("memory", folder, "label", **asked)
    once = done[0]
    monkeypatch.setattr(decoded, "IN_MEMORY", 0)
    monkeypatch.setattr(DecodedRows.__init__, "__defaults__", (0,))
    done[0] = 0
    assert maas.train("disk", folder, "label", **asked).history == whole.history
    assert done[0] == once
    done[0] = 0
    assert maas.train("some", folder, "label", cache=f"{20 * WIDTH}B", **asked).history == whole.history
    assert once < done[0]
    several = done[0]
    done[0] = 0
    assert maas.train("none", folder, "label", cache="0", **asked).history == whole.history
    assert several < done[0]
    for workers in (1, 2):
        assert maas.train("shared", folder, "label", loader_workers=workers, **asked).history == whole.history


def test_a_training_goes_on_from_the_disk_as_it_was(store: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DecodedRows.__init__, "__defaults__", (0,))
    asked: dict[str, Any] = {"epochs": 3, "augment": "flip,crop", "checkpoint_every": "1", "batch_size": 16}
    whole = maas.train("whole", folder, "label", **asked)
    for workers in (0, 2):
        name = f"paused{workers}"
        job = maas.train(name, folder, "label", background=True, loader_workers=workers, **asked)
        for event in job.events():
            if isinstance(event, EpochEnd):
                job.pause()
                break
        while job.info.state not in ("paused", "succeeded"):
            time.sleep(0.02)
        if job.info.state == "paused":
            job.resume()
        assert job.result().history == whole.history


def test_a_note_says_that_the_disk_was_too_full(
    store: Path,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(DecodedRows.__init__, "__defaults__", (0,))
    monkeypatch.setattr(decoded, "SPARE", 2**62)
    job = maas.train("full", folder, "label", epochs=2, background=True)
    job.result()
    said = [str(getattr(event, "text", "")) for event in job.events()]
    assert any("has no room for all that the files hold" in text for text in said)


def test_a_cache_is_for_files(store: Path) -> None:
    rows = pd.DataFrame({"x": np.arange(40.0), "y": np.arange(40) % 2})
    with pytest.raises(OptionError, match="--cache keeps what pictures and sounds hold"):
        maas.train("plain", rows, "y", epochs=1, cache="1GB")
    with pytest.raises(OptionError, match="cache is 'big'"):
        maas.train("plain", rows, "y", epochs=1, cache="big")


def test_a_table_of_paths_is_decoded_by_the_batch(store: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first step no more than a few rows are decoded, however many there are."""
    done, seen = counted(monkeypatch), []
    written = Lazy.written

    def watched(self: Lazy, *args: Any) -> Any:
        seen.append(done[0])
        return written(self, *args)

    monkeypatch.setattr(Lazy, "written", watched)
    found = [str(path) for path in sorted(Path(folder).rglob("*.png"))]
    rows = pd.DataFrame({"picture": found * 5, "label": [Path(path).parent.name for path in found] * 5})
    maas.train("paths", rows, "label", epochs=1)
    assert seen[0] <= 2 * 64 + 64 < 0.8 * len(rows)


def test_speech_and_pictures_of_a_struct_are_kept_alike(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def png(value: int) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(stream, "PNG")
        return stream.getvalue()

    rows = pd.DataFrame(
        {"picture": [{"bytes": png(40 + 3 * i), "path": None} for i in range(40)], "label": np.arange(40) % 2}
    )
    whole = maas.train("whole", rows, "label", epochs=2)
    monkeypatch.setattr(DecodedRows.__init__, "__defaults__", (0,))
    assert maas.train("disk", rows, "label", epochs=2, loader_workers=2).history == whole.history
