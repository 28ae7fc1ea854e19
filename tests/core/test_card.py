"""Every export has a card, whose lines ask the file with nothing of this package and get the same answers."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from PIL import Image

import maas_magics as maas
from maas_magics.core.features.tokens import words_of

N = 60
LABEL = np.where(np.arange(N) % 2, "up", "down")
rng = np.random.default_rng(0)


def png(bright: bool, seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 60, (14, 18, 3), dtype=np.uint8) + np.uint8(150 * bright)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


def wav(high: bool, seed: int) -> bytes:
    rate = 8000 if seed % 3 else 11025
    length = rate // 4 + 100 * seed
    wave = 0.3 * np.sin(np.arange(length) * (0.9 if high else 0.1)) + 0.01 * np.random.default_rng(seed).normal(
        size=length
    )
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, format="WAV")
    return stream.getvalue()


UP = LABEL == "up"
COLUMNS: dict[str, Any] = {
    "review": [f"this was a {'lovely' if up else 'dreadful'} evening, the number {i}" for i, up in enumerate(UP)],
    "picture": [png(bool(up), i) for i, up in enumerate(UP)],
    "sound": [wav(bool(up), i) for i, up in enumerate(UP)],
    "size": np.where(UP, 1.0, -1.0) + rng.normal(size=N),
    "kind of it": rng.choice(["a", "b", None], N),
}


def asked_by_card(artifact: Any, rows: dict[str, list[Any]], place: Path) -> dict[str, Any]:
    """Outputs that the lines of a card get for some rows, by name."""
    text = (Path(artifact.path) / "README.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    given = re.sub(r"rows = \{.*?\n\}", lambda _: f"rows = {rows!r}", code, count=1, flags=re.S)
    assert given != code and "maas" not in code
    last = "\nimport sys\nassert not any(name.startswith('maas_magics') or name == 'torch' for name in sys.modules)\n"
    script = place / "ask.py"
    script.write_text(given + last)
    done = subprocess.run([sys.executable, str(script)], cwd=artifact.path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = (line.partition(" ") for line in done.stdout.splitlines())
    return {name: eval(values, {"nan": float("nan")}) for name, _, values in lines}


@pytest.mark.parametrize(
    "columns", [["size", "kind of it"], ["review"], ["picture"], ["sound"], ["review", "picture", "size", "kind of it"]]
)
def test_the_lines_of_a_card_answer_as_the_model_does(store: Path, tmp_path: Path, columns: list[str]) -> None:
    rows = pd.DataFrame({name: COLUMNS[name] for name in columns}).assign(label=LABEL)
    maas.train("m", rows, "label", epochs=3)
    artifact = maas.export("m")
    few = rows.head(5)
    given = {name: few[name].astype(object).where(few[name].notna(), "").tolist() for name in columns}
    found = asked_by_card(artifact, given, tmp_path)
    known = maas.predict("m", few.drop(columns="label"))
    assert found["prediction"] == known["prediction"].tolist()
    expected = known[["probability_down", "probability_up"]].to_numpy()
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)


def test_a_card_says_what_the_model_is_and_how_good(store: Path) -> None:
    rows = pd.DataFrame({"size": COLUMNS["size"], "label": LABEL})
    maas.train("m", rows, "label", model="linear", epochs=3)
    for format in ("onnx", "pt2", "safetensors"):
        artifact = maas.export("m", format)
        text = (Path(artifact.path) / "README.md").read_text()
        assert text.startswith(f"# m:1, {format}") and "`down`, `up`" in text and "| accuracy |" in text
        assert ("```python" in text) == (format == "onnx") and "README.md" in artifact.files


def test_a_card_repeats_what_the_report_measured(store: Path) -> None:
    rows = pd.DataFrame({"size": np.tile(COLUMNS["size"], 8), "label": np.tile(LABEL, 8)})
    net = torch.nn.Sequential(torch.nn.Linear(1, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.Linear(64, 2))
    maas.train("m", rows, "label", model=net, epochs=3, validation=0.3)
    for way in (None, "int8", "fp16"):
        artifact = maas.export("m", compress=way, max_drop="50%")
        check, text = artifact.verification, (Path(artifact.path) / "README.md").read_text()
        lines = dict(
            re.findall(r"^\| (.*?) \| (?:.*?) \| (.*) \|$", text.partition("## What was measured")[2], flags=re.M)
        )
        assert f"{check.max_abs_diff:.1e}, mean {check.mean_abs_diff:.1e} on {check.rows:,} rows" in lines[r"max \|Δ\|"]
        for batch in ("1", "256"):
            after, slowest = check.latency_after[batch], check.slowest_after[batch]
            assert lines[f"ms at batch {batch}"] == f"{after:.3f} (p99 {slowest:.3f})"
        assert lines["opset"].startswith("ai.onnx ") and "onnxruntime" in lines["made with"]
        assert lines["size"] and lines["operators"] and ("memory" in lines) == bool(check.memory)
        if way:
            assert lines["loss of accuracy"] == str(check.lost["accuracy"])
        if way == "int8":
            assert all(f"| {note} |" in text for note in artifact.stayed)
        assert ("second runtime" in lines) == (way == "fp16")


def test_column_names_that_are_no_names_of_python(store: Path, tmp_path: Path) -> None:
    rows = pd.DataFrame({"class": COLUMNS["review"], "np": COLUMNS["picture"], "2nd": COLUMNS["size"], "label": LABEL})
    maas.train("m", rows, "label", epochs=1)
    few = rows.head(3)
    given = {name: few[name].tolist() for name in ("class", "np", "2nd")}
    found = asked_by_card(maas.export("m"), given, tmp_path)
    assert found["prediction"] == maas.predict("m", few.drop(columns="label"))["prediction"].tolist()


def test_the_lines_for_words_and_for_spans_tag_as_the_model_does(store: Path, tmp_path: Path) -> None:
    words = [["Anna", "lives", "in", "Rome"], ["Bob", "works"], ["In", "Oslo", ",", "Ida", "unforgettable"]] * 8
    tags = [["B-person", "O", "O", "B-place"], ["B-person", "O"], ["O", "B-place", "O", "B-person", "O"]] * 8
    maas.train("tags", pd.DataFrame({"tokens": words, "tags": tags}), "tags", epochs=2)
    found = asked_by_card(maas.export("tags"), {"tokens": words[:3]}, tmp_path)
    known = maas.predict("tags", {"tokens": words[:3]})["prediction"]
    assert [row[: len(each)] for row, each in zip(found["prediction"], words, strict=False)] == [list(r) for r in known]

    texts = ["Anna lives in Rome.", "Bob works", "In Oslo, Ida 東京 unforgettable"] * 8
    spans = [[("Anna", "person"), ("Rome", "place")], [("Bob", "person")], [("Oslo", "place"), ("東京", "place")]] * 8
    given = [
        [{"start": text.index(part), "end": text.index(part) + len(part), "label": label} for part, label in row]
        for text, row in zip(texts, spans, strict=True)
    ]
    maas.train("spans", pd.DataFrame({"text": texts, "spans": given}), "spans", epochs=20)
    found = asked_by_card(maas.export("spans"), {"text": texts[:3]}, tmp_path)
    answers = maas.predict("spans", {"text": texts[:3]})["prediction"]
    assert sum(map(len, answers))
    for text, row, answer in zip(texts, found["prediction"], answers, strict=False):
        starts = [start for (_, start, _), tag in zip(words_of(text), row, strict=False) if tag.startswith("B-")]
        assert starts == [span["start"] for span in answer]


def test_the_lines_for_texts_in_windows(store: Path, tmp_path: Path) -> None:
    texts = [f"{text} and more of it " * (1 + 40 * (i % 2)) for i, text in enumerate(COLUMNS["review"])]
    rows = pd.DataFrame({"review": texts, "label": LABEL})
    maas.train("m", rows, "label", epochs=1, feature={"review": "text(windows=3)"})
    found = asked_by_card(maas.export("m"), {"review": texts[:4]}, tmp_path)
    known = maas.predict("m", {"review": texts[:4]}, probabilities=True)
    np.testing.assert_allclose(
        found["probabilities"], np.stack([known["probability_down"], known["probability_up"]], 1), atol=1e-5
    )
