"""A version keeps the hyperparameters that its network was made with, and loads once defaults are others."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from maas_magics.core.architectures import architectures

WORDS = ("good", "bad", "film", "book", "long", "short", "old", "new")
TEXTS = [f"the {one} {other} was {last}" for one in WORDS for other in WORDS for last in WORDS[:3]]
ROWS = pd.DataFrame({"text": TEXTS, "label": ["good" in text for text in TEXTS]})
NUMBERS = pd.DataFrame({"a": np.arange(40.0) % 7, "kind": ["x", "y"] * 20, "label": np.arange(40) % 3})


def elsewhere(lab: Any) -> Any:
    """A session that has trained nothing, on the same store."""
    return type(lab)(Path(lab.session.backend.place))


def manifest(lab: Any) -> Path:
    return Path(lab.session.backend.models.folder("m", 1)) / "manifest.json"


def asked(lab: Any, rows: pd.DataFrame = ROWS) -> Any:
    return lab.predict(rows.drop(columns="label"), probabilities=True).select_dtypes("number").to_numpy()


@pytest.mark.parametrize(
    ("model", "rows", "changed"),
    [
        ("bow", ROWS, {"pairs": 99, "letters": 0}),
        ("textcnn", ROWS, {"width": 16, "tokens": (2,)}),
        ("transformer", ROWS, {"layers": 1, "heads": 2}),
        ("mlp", NUMBERS, {"hidden": (8,), "bins": 4, "embedding": 5}),
        ("tabm", NUMBERS, {"hidden": (8,), "members": 2}),
    ],
)
def test_a_version_loads_after_a_default_was_changed(
    lab: Any, monkeypatch: pytest.MonkeyPatch, model: str, rows: pd.DataFrame, changed: dict[str, Any]
) -> None:
    kinds = {"feature": {"text": "text"}} if "text" in rows else {}
    lab.train(rows, "label", model=model, epochs=1, **kinds)
    expected = asked(lab, rows)
    made = architectures.get(model)

    def network(features: Any, outputs: int, *, task: Any, **given: Any) -> Any:
        return made.network(features, outputs, task=task, **{**changed, **given})

    network.__signature__ = __import__("inspect").signature(made.network)  # type: ignore[attr-defined]
    monkeypatch.setitem(architectures._entries, model, dataclasses.replace(made, network=network))
    assert np.allclose(asked(elsewhere(lab), rows), expected, atol=1e-6)


@pytest.mark.parametrize("pairs", [2**16, 2**18, 77])
def test_a_bag_of_words_of_before_loads_whatever_its_default_was(lab: Any, pairs: int) -> None:
    lab.train(ROWS, "label", model="bow", feature={"text": "text"}, epochs=1, params={"pairs": pairs, "letters": 0})
    expected = asked(lab)
    written = json.loads(manifest(lab).read_bytes())
    assert "pairs" not in written.pop("settled")
    if pairs == 77:  # it was requested
        del written["params"]["letters"]
    else:
        assert written.pop("params") == {"pairs": pairs, "letters": 0}
    manifest(lab).write_text(json.dumps(written))
    assert np.allclose(asked(elsewhere(lab)), expected, atol=1e-6)


def test_what_is_settled_by_the_task_is_kept(lab: Any) -> None:
    lab.train(ROWS, "label", model="bow", feature={"text": "text"}, epochs=1)
    assert json.loads(manifest(lab).read_bytes())["settled"] == {"pairs": 2**18, "letters": 2**17}


def test_a_tagger_of_before_loads_without_what_it_has_not_learnt(lab: Any) -> None:
    words = [["Anna", "lives", "in", place] for place in ("Rome", "Oslo", "Bonn", "Kyiv")] * 10
    rows = pd.DataFrame({"tokens": words, "tags": [["B-per", "O", "O", "B-loc"]] * 40})
    lab.train(rows, "tags", model="fusion", epochs=1, params={"looks": False})
    expected = lab.predict(rows[["tokens"]])["prediction"].tolist()
    written = json.loads(manifest(lab).read_bytes())
    assert written.pop("settled")["hidden"] == 128 and written.pop("params") == {"looks": False}
    manifest(lab).write_text(json.dumps(written))
    other = elsewhere(lab)
    assert other.predict(rows[["tokens"]])["prediction"].tolist() == expected
    assert other.net().encoder.looks is None
