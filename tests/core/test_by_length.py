"""Rows that differ in length are answered some of about one length at a time, in the order that they came in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import maas_magics as maas
from maas_magics.core.features.modalities.text import TextFeature
from maas_magics.core.inference import predictor
from maas_magics.core.inference.by_length import in_groups
from maas_magics.core.runtimes.engine import Engine


def asked(sizes: list[int], most: int, waste: int | None = None) -> list[list[int]]:
    """Lengths of each group that is run; answers are checked to come back in order."""
    lengths = np.array(sizes)
    groups: list[list[int]] = []

    def run(rows: list[Any]) -> dict[str, Any]:
        groups.append(rows[0].tolist())
        return {"length": rows[0] * 10}

    found = in_groups(run, [lengths], lengths, most, waste)
    assert found["length"].tolist() == [10 * size for size in sizes]
    return groups


def test_a_group_ends_where_it_would_hold_too_much() -> None:
    assert asked([5, 1, 5, 1], most=10) == [[1, 1], [5, 5]]
    assert asked([3, 300, 2], most=10) == [[2, 3], [300]]
    assert asked([1, 9, 4], most=1) == [[1], [4], [9]]


def test_a_group_ends_where_its_padding_would_cost_more_than_a_call() -> None:
    assert asked([20, 2, 19, 3, 18], most=1_000, waste=3) == [[2, 3], [18, 19, 20]]
    assert asked([7, 7, 7], most=1_000, waste=0) == [[7, 7, 7]]
    assert asked([10, 8, 12], most=1_000, waste=6) == [[10, 8, 12]]  # one group stays in its order


def test_padding_behind_the_last_token_is_told_from_one_in_between() -> None:
    feature = TextFeature("t", tokenizer="", size=9, padding=1)
    rows = np.array([[5, 1, 6, 1], [1, 1, 1, 1], [2, 3, 4, 5], [7, 1, 1, 1]])
    assert feature.entered_sizes(rows).tolist() == [3, 1, 4, 1]
    assert TextFeature("t", tokenizer="", size=9, windows=2).entered_sizes(rows[None]) is None


@pytest.mark.parametrize("columns", [("text",), ("text", "more")])
def test_texts_of_all_lengths_answer_as_each_alone(
    store: Path, monkeypatch: pytest.MonkeyPatch, columns: tuple[str, ...]
) -> None:
    words = np.random.default_rng(0).choice(["sun", "rain", "cold", "warm", "wind", "snow"], (40, 80))
    table = pd.DataFrame(
        {name: [" ".join(row[: 3 + (7 * i + k) % 77]) for i, row in enumerate(words)] for k, name in enumerate(columns)}
    )
    label = np.array(["sun" in text for text in table.text])
    declared = dict.fromkeys(columns, "text")
    maas.train("m", table, label, model="fusion", feature=declared, epochs=1, validation=0.0)
    maas.export("m")
    shapes: list[tuple[int, ...]] = []
    run = Engine.run

    def seen(self: Engine, raw: Any) -> Any:
        shapes.append(raw[0].shape)
        return run(self, raw)

    monkeypatch.setattr(Engine, "run", seen)
    together = maas.predict("m", table, probabilities=True)
    assert sum(rows for rows, _ in shapes) == len(table) and len(shapes) > 3
    assert len({tokens for _, tokens in shapes}) > 3  # groups are cut to their own longest
    alone = pd.concat([maas.predict("m", table[i : i + 1], probabilities=True) for i in range(len(table))])
    for name in together.columns.drop("prediction"):
        assert np.allclose(np.asarray(together[name]), np.asarray(alone[name]), atol=1e-5)
    assert predictor.PADDING < predictor.GROUP < predictor.TOKENS


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2, reason="takes two processors")
def test_a_process_with_fewer_processors_gets_no_more_threads(store: Path) -> None:
    maas.train("m", np.eye(8, dtype="float32").repeat(4, 0), np.arange(32) % 2, epochs=1, validation=0.0)
    file = Path(maas.export("m").path) / "model.onnx"
    able = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(able)})
    try:
        assert Engine(file).session.get_session_options().intra_op_num_threads == 1
    finally:
        os.sched_setaffinity(0, able)
    if len(able) == os.cpu_count():
        assert Engine(file).session.get_session_options().intra_op_num_threads == 0  # ONNX Runtime's own choice
