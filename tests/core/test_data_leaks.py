"""A column that tells the target by itself is no feature without a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from maas_magics.core.data.leaks import leaks

N = 400
RNG = np.random.default_rng(0)
LABELS = RNG.choice(["p", "q", "r"], N, p=[0.6, 0.3, 0.1])
PRICES = np.round(RNG.gamma(2.0, 90.0, N), 2)
STOCK = pd.DataFrame({"a": RNG.normal(size=N), "b": RNG.normal(size=N)})

COPIES: dict[str, tuple[Any, Any]] = {
    "labels": (LABELS, LABELS),
    "labels of another name": (pd.Series(LABELS).map({"p": "one", "q": "two", "r": "three"}), LABELS),
    "labels as a category": (pd.Categorical(LABELS), LABELS),
    "labels as numbers": (pd.Series(LABELS).map({"p": 3.0, "q": 1.0, "r": 7.0}), LABELS),
    "labels with gaps": (pd.Series(LABELS).where(RNG.random(N) < 0.9), LABELS),
    "booleans": (LABELS == "p", np.where(LABELS == "p", "yes", "no")),
    "categories that each have one answer": (
        [f"{label}{number}" for label, number in zip(LABELS, RNG.integers(0, 4, N), strict=True)],
        LABELS,
    ),
    "quantities": (PRICES, PRICES),
    "quantities in another unit": (32 + 1.8 * PRICES, PRICES),
    "quantities as texts": ([f"{price}" for price in PRICES], PRICES),
    "quantities, rounded": (np.round(PRICES, 1), PRICES),
    "quantities with gaps": (np.where(RNG.random(N) < 0.1, np.nan, PRICES), PRICES),
    "counts": (RNG.integers(0, 4, N), None),
}

NO_COPIES: dict[str, tuple[Any, Any]] = {
    "a key": (np.arange(N), LABELS),
    "a key as text": ([f"K{place}" for place in range(N)], LABELS),
    "a key of groups of two": ([f"K{place // 2}" for place in range(N)], np.sort(LABELS)),
    "a key of quantities": (np.arange(N), PRICES),
    "a constant target": (LABELS, np.full(N, "p")),
    "one label that is wrong": (np.r_[["r"] if LABELS[0] == "p" else ["p"], LABELS[1:]], LABELS),
    "a quantity that parts labels": (PRICES, np.where(PRICES > 150, "dear", "cheap")),
    "few grades that part labels": (np.round(PRICES / 40), np.where(np.round(PRICES / 40) > 3, "dear", "cheap")),
    "noise": (PRICES + RNG.normal(size=N) * 5, PRICES),
    "a rare flag": (np.arange(N) == 7, np.where(np.arange(N) == 7, "yes", "no")),
    "times": (pd.date_range("2026-01-01", periods=N), np.arange(N) * 1.5),
    "texts": ([f"This is review {place} of a film." for place in range(N)], LABELS),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_of_the_target_is_found(kind):
    values, target = COPIES[kind]
    target = np.asarray(values if target is None else target)
    assert leaks(pa.Table.from_pandas(STOCK.assign(copy=values)), target) == ["copy"]


@pytest.mark.parametrize("kind", NO_COPIES)
def test_what_is_no_copy_gets_no_alarm(kind):
    values, target = NO_COPIES[kind]
    assert leaks(pa.Table.from_pandas(STOCK.assign(other=values)), np.asarray(target)) == []


def test_a_relation_is_what_is_to_be_learnt_where_there_is_but_one_column():
    for values, target in ((3 * PRICES + 1, PRICES), ([f"{a}{i % 3}" for i, a in enumerate(LABELS)], LABELS)):
        assert leaks(pa.table({"x": values}), target) == []
    assert leaks(pa.table({"x": PRICES}), PRICES) == ["x"]


def test_what_a_few_rows_have_alike_is_looked_at_in_all():
    size = 30_000
    target = RNG.normal(size=size)
    late = target.copy()
    late[-1] += 1.0
    table = pa.table({"same": target, "late": late, "b": RNG.normal(size=size)})
    assert leaks(table, target) == ["same"]


@pytest.mark.parametrize("stream", [None, True])
def test_it_is_a_warning_of_the_training(lab, tmp_path: Path, stream):
    rows: Any = STOCK.assign(price=PRICES, cents=PRICES * 100, key=[f"K{place}" for place in range(N)])
    if stream:
        rows.to_csv(tmp_path / "rows.csv", index=False)
        rows = str(tmp_path / "rows.csv")
    found = lab.train(rows, target="price", epochs=1, stream=stream)
    told = [note for note in found.notes if "alone tells" in note]
    assert told == [
        "Column 'cents' alone tells 'price' of every row: is it the target itself, or made from it? "
        "If it is not known of new rows, leave it out: --drop cents"
    ]


def test_of_several_targets_each_is_looked_at(lab):
    rows = STOCK.assign(label=LABELS, price=PRICES, code=LABELS, cents=PRICES * 100)
    found = lab.train(rows, target=["label", "price"], epochs=1)
    assert [note.split(" of every")[0] for note in found.notes if "alone tells" in note] == [
        "Column 'code' alone tells 'label'",
        "Column 'cents' alone tells 'price'",
    ]
