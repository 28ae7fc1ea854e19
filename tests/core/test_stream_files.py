"""Pictures and sounds of Parquet files, read a few at a time and kept on disk as they enter the network."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

import maas_magics as maas
from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.events import EpochEnd
from maas_magics.core.batches import streaming
from maas_magics.core.data.sources.files import FileSource
from maas_magics.core.features import pictures

N = 90
LABEL = np.arange(N) % 2


def png(row: int) -> bytes:
    noise = np.random.default_rng(row).integers(0, 60, (16, 16, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise + np.uint8(150 * LABEL[row])).save(stream, "PNG")
    return stream.getvalue()


def wav(row: int) -> bytes:
    stream, tone = io.BytesIO(), 300 + 500 * LABEL[row]
    wave = 0.4 * np.sin(2 * np.pi * tone * np.arange(1600) / 8000 + row)
    soundfile.write(stream, wave, 8000, format="WAV")
    return stream.getvalue()


FILES, SOUNDS = [png(row) for row in range(N)], [wav(row) for row in range(N)]


def parquet(folder: Path, form: str = "struct", **more: Any) -> str:
    values: pa.Array = pa.array(FILES, pa.binary())
    if form == "struct":
        values = pa.array([{"bytes": data, "path": None} for data in FILES])
    if form == "paths":
        for row, data in enumerate(FILES):
            (folder / f"{row}.png").write_bytes(data)
        values = pa.array([str(folder / f"{row}.png") for row in range(N)])
    label = [("night", "day")[each] for each in LABEL]
    file = folder / f"{form}.parquet"
    pq.write_table(pa.table({"picture": values, "label": label, **more}), file, row_group_size=20)
    return str(file)


ASKED: dict[str, Any] = {"epochs": 2, "batch_size": 16, "stream": True}


@pytest.mark.parametrize("form", ["struct", "bytes", "paths"])
def test_pictures_of_parquet_stream_in_any_form(store: Path, tmp_path: Path, form: str) -> None:
    file = parquet(tmp_path, form)
    trained = maas.train("scene", file, "label", **{**ASKED, "epochs": 6})
    assert trained.info.architecture == "fusion" and trained.metrics["accuracy"] > 0.9
    assert maas.evaluate("scene", file, "label")["accuracy"] > 0.9
    assert len(maas.predict("scene", file)) == N
    assert maas.export("scene").verification.max_abs_diff < 1e-4


def test_each_file_is_decoded_once_for_all_epochs(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, decode = [0], pictures.decoded

    def counting(*args: Any, **more: Any) -> Any:
        done[0] += 1
        return decode(*args, **more)

    monkeypatch.setattr(pictures, "decoded", counting)
    file, counts = parquet(tmp_path), []
    for epochs in (1, 4):
        done[0] = 0
        maas.train("scene", file, "label", **{**ASKED, "epochs": epochs, "sample": 0})
        counts.append(done[0])
    assert counts[0] == counts[1] <= N + 2 * 64 + 64


def test_few_rows_are_in_memory_at_a_time(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are asked for in chunks by the bytes that they take, and of a large file only a few are looked at first."""
    asked: list[int] = []
    read = FileSource.chunks

    def watched(self: FileSource, rows: int) -> Any:
        asked.append(rows)
        for part in read(self, rows):
            assert part.nbytes < 3 * max(streaming.Sizes().chunk, 64 * part.nbytes / len(part))
            yield part

    monkeypatch.setattr(FileSource, "chunks", watched)
    large = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(large).save(stream, "PNG")
    table = pa.table({"picture": pa.array([stream.getvalue()] * 60, pa.binary()), "label": ["a", "b"] * 30})
    pq.write_table(table, tmp_path / "large.parquet")
    maas.train("large", str(tmp_path / "large.parquet"), "label", **{**ASKED, "epochs": 1})
    assert max(asked) <= 64 and min(asked[2:]) < 20


def test_varied_rows_go_on_exactly_where_they_were(store: Path, tmp_path: Path) -> None:
    file = parquet(tmp_path)
    asked = {**ASKED, "epochs": 3, "augment": "flip,crop", "checkpoint_every": "1"}
    whole = maas.train("whole", file, "label", **asked)
    assert whole.history != maas.train("plain", file, "label", **{**asked, "augment": ()}).history
    assert maas.train("again", file, "label", **asked).history == whole.history
    job = maas.train("paused", file, "label", background=True, **asked)
    for event in job.events():
        if isinstance(event, EpochEnd):
            job.pause()
            break
    while job.info.state not in ("paused", "succeeded"):
        time.sleep(0.02)
    if job.info.state == "paused":
        job.resume()
    assert job.result().history == whole.history


def test_pictures_sounds_and_numbers_stream_together(store: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(size=N)
    sounds = pa.array([{"bytes": data, "path": None} for data in SOUNDS])
    file = parquet(tmp_path, sound=sounds, size=noise, kind=["x", "y", "z"] * (N // 3))
    trained = maas.train("all", file, "label", **{**ASKED, "epochs": 6})
    assert {spec.name for spec in trained.info.signature.inputs} == {"picture", "sound", "size", "kind"}
    assert trained.metrics["accuracy"] > 0.9
    number = maas.train("size", file, "size", **ASKED)
    assert number.info.task == "regression"


def held_out(folder: Path, name: str, **columns: Any) -> str:
    file = folder / f"{name}.parquet"
    pq.write_table(pa.table(columns), file)
    return str(file)


@pytest.mark.parametrize("augment", [(), "flip,crop"])
def test_streamed_rows_are_learnt_as_those_in_memory(store: Path, tmp_path: Path, augment: Any) -> None:
    """To the bit, for any number of loader workers, and wherever what the files hold is kept."""
    file = parquet(tmp_path, size=np.random.default_rng(1).normal(size=N))
    held = held_out(
        tmp_path, "held", picture=FILES[30:50], label=["night", "day"] * 10,
        size=np.arange(20) / 10,
    )  # fmt: skip
    asked = {**ASKED, "epochs": 3, "augment": augment, "validation": held}
    whole = maas.train("memory", file, "label", **{**asked, "stream": False})
    for name, more in {
        "disk": {},
        "none": {"cache": "0"},
        "some": {"cache": "20KB"},
        "one": {"loader_workers": 1},
        "two": {"loader_workers": 2, "cache": "0"},
    }.items():
        assert maas.train(name, file, "label", **{**asked, **more}).history == whole.history, name


def test_a_cache_within_a_bound_keeps_what_fits(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, decode = [0], pictures.decoded

    def counting(*args: Any, **more: Any) -> Any:
        done[0] += 1
        return decode(*args, **more)

    monkeypatch.setattr(pictures, "decoded", counting)
    monkeypatch.setattr(streaming, "IN_MEMORY", 0)
    file, counts = parquet(tmp_path), []
    for cache in ("1MB", f"{40 * 16 * 16 * 3}B", "0"):
        done[0] = 0
        maas.train("scene", file, "label", cache=cache, **{**ASKED, "epochs": 3, "sample": 0})
        counts.append(done[0])
    assert counts[0] < counts[1] < counts[2]
    job = maas.train("scene", file, "label", background=True, **{**ASKED, "batch_size": "auto"})
    assert job.result().metrics


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_rows_go_on_exactly_with_any_workers(store: Path, tmp_path: Path, workers: int) -> None:
    file = parquet(tmp_path)
    asked = {**ASKED, "epochs": 3, "augment": "flip,crop", "checkpoint_every": "1"}
    whole = maas.train("whole", file, "label", **asked)
    job = maas.train("paused", file, "label", background=True, loader_workers=workers, **asked)
    for event in job.events():
        if isinstance(event, EpochEnd):
            job.pause()
            break
    while job.info.state not in ("paused", "succeeded"):
        time.sleep(0.02)
    if job.info.state == "paused":
        job.resume()
    assert job.result().history == whole.history


def test_bad_files_of_streamed_rows_are_left_out_up_to_a_share(store: Path, tmp_path: Path) -> None:
    broken = [*FILES[:7], FILES[7][:60], *FILES[8:50], b"nothing", *FILES[51:]]
    label = [("night", "day")[each] for each in LABEL]
    bad = held_out(tmp_path, "bad", picture=broken, label=label)
    good_rows = [row for row in range(N) if row not in (7, 50)]
    good = held_out(
        tmp_path, "good", picture=[FILES[row] for row in good_rows], label=[label[row] for row in good_rows]
    )
    with pytest.raises(DataError, match="one of its files") as caught:
        maas.train("scene", bad, "label", **ASKED)
    assert "--max-bad 1%" in caught.value.hint
    with pytest.raises(
        DataError, match="2 of 90 rows have files that cannot be read, more than 0.01: row 7: "
    ) as caught:
        maas.train("scene", bad, "label", max_bad="1%", **ASKED)
    assert "--max-bad 2.3%" in caught.value.hint
    assert not maas.models()
    whole = maas.train("good", good, "label", **ASKED)
    trained = maas.train("scene", bad, "label", max_bad="3%", **ASKED)
    assert trained.history == whole.history
    assert any("2 of 90 rows are left out, for files that cannot be read: row 7: " in note for note in trained.notes)
    job = maas.train("held", good, "label", validation=bad, max_bad="3%", background=True, **ASKED)
    job.result()
    said = [str(getattr(event, "text", "")) for event in job.events()]
    assert sum("Of the validation data, 2 of 90 rows are left out" in text for text in said) == 1


def test_what_does_not_stream_is_told(store: Path, tmp_path: Path) -> None:
    text = [f"this was a rather long evening in the theatre, number {row}" for row in range(N)]
    with pytest.raises(DataError, match="Texts and tags are trained on from memory"):
        maas.train("text", parquet(tmp_path, review=text), "label", **ASKED)
    rows = pd.DataFrame({"x": np.arange(N * 1.0), "label": LABEL})
    rows.to_parquet(tmp_path / "plain.parquet")
    with pytest.raises(OptionError, match="only pictures and sounds are augmented"):
        maas.train("plain", str(tmp_path / "plain.parquet"), "label", augment="flip", **ASKED)
    with pytest.raises(OptionError, match="these rows have none"):
        maas.train("plain", str(tmp_path / "plain.parquet"), "label", cache="1GB", **ASKED)
    broken = [*FILES[:50], FILES[50][:60], *FILES[51:]]
    pq.write_table(pa.table({"picture": broken, "label": LABEL}), tmp_path / "broken.parquet")
    with pytest.raises(DataError, match="Column 'picture', one of its files"):
        maas.train("broken", str(tmp_path / "broken.parquet"), "label", **ASKED)
    assert not maas.models()
