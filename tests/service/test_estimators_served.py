"""Estimators that were brought to a version in a notebook go to a service by a shelf, and answer there as they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from serving import Service

from maas_magics.api.requests import EvaluateRequest, ExportRequest, ImportRequest, PredictRequest, PushRequest
from maas_magics.local.backend import LocalBackend
from maas_magics.remote.backend import RemoteBackend

RANDOM = np.random.default_rng(0)
ROWS = pd.DataFrame({"age": RANDOM.normal(40, 9, 150), "seat": RANDOM.choice(["a", "b", "c"], 150)})
ROWS.loc[::9, "age"] = np.nan
KIND = np.where(ROWS["age"].fillna(30) + 9 * (ROWS["seat"] == "a") > 42, "stays", "leaves")
PRICE = ROWS["age"].fillna(30) * 2 + RANDOM.normal(size=150)


def pipe(last: Any) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    columns = ColumnTransformer([("n", SimpleImputer(), ["age"]), ("t", OneHotEncoder(), ["seat"])])
    return make_pipeline(columns, last)


def test_they_answer_as_they_do(tmp_path: Path) -> None:
    pytest.importorskip("skl2onnx")
    boosted = pytest.importorskip("xgboost").XGBRegressor(n_estimators=8, max_depth=3)
    from sklearn.linear_model import LogisticRegression

    kinds, prices = pipe(LogisticRegression()).fit(ROWS, KIND), pipe(boosted).fit(ROWS, PRICE)
    own = LocalBackend(str(tmp_path / "own"))
    for name, fitted, target in (("kinds", kinds, KIND), ("prices", prices, PRICE)):
        own.submit(
            ImportRequest(path=fitted, name=name, data=ROWS.assign(answer=target), target="answer")  # type: ignore[arg-type]
        ).result(600)
        own.submit(PushRequest(model=name, url=str(tmp_path / "store"))).result(600)
    service = Service(tmp_path)  # a shelf is a store
    try:
        remote = RemoteBackend(service.client())
        found = remote.predict(PredictRequest(model="kinds", data=ROWS, probabilities=True)).columns
        np.testing.assert_allclose(found["probabilities"], kinds.predict_proba(ROWS), atol=1e-5)
        assert np.asarray(found["prediction"]).astype(str).tolist() == list(kinds.predict(ROWS))
        found = remote.predict(PredictRequest(model="prices", data=ROWS)).columns
        np.testing.assert_allclose(np.ravel(found["prediction"]), prices.predict(ROWS), rtol=1e-4)
        scored = remote.submit(EvaluateRequest(model="kinds", data=ROWS.assign(answer=KIND))).result(600)
        assert scored.values["accuracy"] == pytest.approx((kinds.predict(ROWS) == KIND).mean())
        assert remote.submit(ExportRequest(model="kinds")).result(600).verification.max_abs_diff == 0
    finally:
        service.stop()
