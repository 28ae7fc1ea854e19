"""All defaults of ``maas.train`` on real tables, beside three families of scikit-learn."""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measure import beside, checkouts, cpu, missing, table
from benchmarks.sets import SETS, Set
from benchmarks.tables_beside import compare as compare_checkouts

FAMILIES = ("linear", "boosted trees", "MLP")
CLOSE = 0.02


def families(frame: pd.DataFrame, labels: bool) -> dict[str, Any]:
    """Logistic or ridge regression, gradient-boosted trees and MLP, each behind the preprocessing it is usually given."""
    from sklearn.compose import TransformedTargetRegressor, make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    text = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    numbers = [name for name in frame if name not in text]

    def scaled(model: Any) -> Any:
        columns = make_column_transformer(
            (make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), numbers),
            (OneHotEncoder(handle_unknown="ignore", min_frequency=3, sparse_output=False), text),
        )
        return make_pipeline(columns, model)

    def coded(model: Any) -> Any:
        codes = OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan, max_categories=250
        )
        return make_pipeline(make_column_transformer((codes, text), ("passthrough", numbers)), model)

    kinds = {"categorical_features": list(range(len(text)))} if text else {}
    if labels:
        return {
            "linear": scaled(LogisticRegression(max_iter=1000)),
            "boosted trees": coded(HistGradientBoostingClassifier(random_state=0, **kinds)),
            "MLP": scaled(MLPClassifier(random_state=0)),
        }
    return {
        "linear": scaled(Ridge()),
        "boosted trees": coded(HistGradientBoostingRegressor(random_state=0, **kinds)),
        "MLP": TransformedTargetRegressor(scaled(MLPRegressor(random_state=0)), transformer=StandardScaler()),
    }


def compare(one: Set) -> dict[str, tuple[float, float]]:
    """Score on the held-out quarter (accuracy, or R²) and CPU seconds of each family and of ours."""
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.model_selection import train_test_split

    from maas_magics.api.requests import PredictRequest, TrainRequest
    from maas_magics.session import current

    score = accuracy_score if one.labels else r2_score
    frame = one.load()
    known, held = train_test_split(
        frame, test_size=0.25, random_state=0, stratify=frame[one.target] if one.labels else None
    )
    features, answers = known.drop(columns=one.target), known[one.target]
    asked, wanted = held.drop(columns=one.target), held[one.target]

    def as_text(part: pd.DataFrame) -> pd.DataFrame:
        text = [name for name in part if not pd.api.types.is_numeric_dtype(features[name])]
        return part.assign(**{name: part[name].where(part[name].notna(), "missing").astype(str) for name in text})

    found = {}
    for name, model in families(features, one.labels).items():
        seconds = cpu(lambda model=model: model.fit(as_text(features), answers))  # type: ignore[misc]
        found[name] = float(score(wanted, model.predict(as_text(asked)))), seconds
    seconds = cpu(lambda: current().run(TrainRequest(name="table", data=known, target=one.target)))
    found["ours"] = (
        float(score(wanted, current().predict(PredictRequest(model="table", data=asked))["prediction"])),
        seconds,
    )
    return found


def main(arguments: Sequence[str] = ()) -> None:
    """Print every table's scores, their means, and how often ours is close to the best."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks tables", description=__doc__)
    beside(parser)
    parser.add_argument("--seeds", type=int, nargs="+", help="of splits and trainings, for ours alone: 0 1 2")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    able = {name: one for name, one in SETS.items() if not missing(one.package, "scikit-learn")}
    absent = sorted({one.package for name, one in SETS.items() if name not in able})
    if options.beside is not None or options.seeds:
        compare_checkouts(able, checkouts(options), options.seeds or [0])
        return
    rows, scores = [], []
    with tempfile.TemporaryDirectory() as store:
        os.environ |= {"MAAS_STORE": store, "MAAS_UI": "static"}
        for name, one in able.items():
            found = compare(one)
            shown = [found[kind][0] for kind in (*FAMILIES, "ours")]
            scores.append(shown)
            cost = " / ".join(f"{found[kind][1]:.1f}" for kind in (*FAMILIES, "ours"))
            rows.append([name, "accuracy" if one.labels else "R²", *(f"{value:.3f}" for value in shown), cost])
    whole = np.array(scores)
    close = int((whole[:, 3] >= whole[:, :3].max(axis=1) - CLOSE).sum())
    rows.append(["**mean**", "", *(f"**{value:.4f}**" for value in whole.mean(axis=0)), ""])
    table(
        "Tables: all defaults, on the quarter of the rows that was held out",
        ("table", "score", *FAMILIES, "ours", "CPU s"),
        rows,
        f"Ours is within {CLOSE} of the best of the three on {close} of {len(rows) - 1} tables; the best of the three "
        f"on each, picked afterwards, has a mean of {whole[:, :3].max(axis=1).mean():.4f}. One split, one thread."
        + (f" Not installed, so left out: {', '.join(absent)}." if absent else ""),
    )
