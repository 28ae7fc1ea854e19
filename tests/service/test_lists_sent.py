"""Columns of lists, and rows without a target, mean the same to a service as to a kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from serving import in_thread, remote

from maas_magics.api.requests import EvaluateRequest, PredictRequest, TrainRequest
from maas_magics.local.backend import LocalBackend

E = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
A = np.linspace(-1, 1, 60)
Y = np.where(np.arange(60) % 3 == 0, np.nan, A + E[:, 0])
TOLD = "20 of 60 rows have no target and are left out."


def _tables(folder: Any) -> dict[str, Any]:
    pd.DataFrame({"e": list(E), "a": A, "y": Y}).to_parquet(folder / "rows.parquet")
    return {
        "pandas": pd.DataFrame({"e": list(E), "a": A, "y": Y}),
        "polars": pl.DataFrame({"e": E.tolist(), "a": A, "y": [None if np.isnan(y) else y for y in Y]}),
        "parquet": str(folder / "rows.parquet"),
    }


@pytest.mark.parametrize("kind", ["pandas", "polars", "parquet", "pair"])
def test_lists_and_missing_targets_travel(store, tmp_path, kind):
    data, target = ((E, Y), None) if kind == "pair" else (_tables(tmp_path)[kind], "y")
    kernel = LocalBackend(str(store.parent / "kernel"))
    with in_thread(LocalBackend(str(store))) as url, remote(url) as service:
        found = []
        for backend in (kernel, service):
            request = TrainRequest(name="m", data=data, target=target, model="linear", epochs=2, metrics=("mae",))
            trained = backend.submit(request).result()
            assert TOLD in trained.notes
            scored = backend.submit(EvaluateRequest(model="m", data=data, target=target)).result()
            assert scored.rows == 40 and set(scored.values) == {"mae"}
            asked = E if kind == "pair" else data
            answers = backend.predict(PredictRequest(model="m", data=asked)).columns["prediction"]
            found.append((str(trained.info.signature), np.asarray(answers)))
    assert found[0][0] == found[1][0] and found[0][1] == pytest.approx(found[1][1], rel=1e-4, abs=1e-5)
