"""Fitted estimators become versions that answer as they do; what runs code where it is opened is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import maas_magics as maas
from maas_magics.api.errors import DataError, MaasError, MissingDependency, ModelError, OptionError, StoreError

RANDOM = np.random.default_rng(0)
ROWS = pd.DataFrame(
    {
        "age": RANDOM.normal(40, 9, 120), "fare paid": RANDOM.normal(30, 5, 120),
        "class": RANDOM.choice(["first", "second"], 120), "deck": RANDOM.integers(1, 4, 120),
    }
)  # fmt: skip
ROWS.loc[::9, "age"] = np.nan
KIND = np.where(RANDOM.random(120) < 0.3 + 0.5 * (ROWS["class"] == "first"), "stays", "leaves")


def pipe() -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "fare paid"]),
            ("labels", OneHotEncoder(handle_unknown="ignore"), ["class", "deck"]),
        ]
    )
    return make_pipeline(columns, LogisticRegression())


@pytest.fixture
def converts() -> None:
    pytest.importorskip("skl2onnx")


@pytest.mark.usefixtures("converts")
def test_a_pipeline_of_a_mixed_table(store: Path) -> None:
    fitted = pipe().fit(ROWS, KIND)
    made = maas.import_model(fitted, "m", sample=ROWS.assign(kind=KIND), target="kind")
    assert (made.task, made.architecture, made.classes) == ("binary", "Pipeline", ("leaves", "stays"))
    assert made.target == ("kind",) and made.metrics["accuracy"] == (fitted.predict(ROWS) == KIND).mean()
    found = maas.predict("m", ROWS)
    assert list(found["prediction"]) == list(fitted.predict(ROWS))
    given = found[["probability_leaves", "probability_stays"]]
    np.testing.assert_allclose(given, fitted.predict_proba(ROWS), atol=1e-5)
    assert maas.export("m").verification.max_abs_diff == 0


@pytest.mark.usefixtures("converts")
@pytest.mark.parametrize("library", ["sklearn", "xgboost", "lightgbm"])
def test_boosted_trees_answer_as_they_do(library: str, store: Path) -> None:
    module = pytest.importorskip(library)
    X, y = ROWS[["age", "fare paid", "deck"]], RANDOM.normal(size=120)
    if library == "sklearn":
        from sklearn.ensemble import HistGradientBoostingRegressor

        fitted = HistGradientBoostingRegressor(max_iter=20).fit(X, y)
    else:
        kind = {"xgboost": "XGBRegressor", "lightgbm": "LGBMRegressor"}[library]
        silent = {"verbose": -1} if library == "lightgbm" else {}
        fitted = getattr(module, kind)(n_estimators=20, **silent).fit(X, y)
    maas.import_model(fitted, "m", sample=X)
    np.testing.assert_allclose(maas.predict("m", X)["prediction"], fitted.predict(X), atol=1e-4)


@pytest.mark.usefixtures("converts")
@pytest.mark.parametrize("library", ["sklearn", "xgboost", "lightgbm"])
def test_truth_values_come_back_as_they_were_learnt(library: str, store: Path) -> None:
    module = pytest.importorskip(library)
    X, y = ROWS[["fare paid", "deck"]], np.asarray(KIND == "stays")
    if library == "sklearn":
        from sklearn.linear_model import LogisticRegression

        fitted = LogisticRegression().fit(X, y)
    else:
        fitted = getattr(module, {"xgboost": "XGBClassifier", "lightgbm": "LGBMClassifier"}[library])(n_estimators=9)
        fitted = fitted.fit(X, y)
    maas.import_model(fitted, "m", sample=X)
    found, wanted = maas.predict("m", X), np.asarray(fitted.predict(X))
    assert found["prediction"].to_numpy().dtype == wanted.dtype and (found["prediction"] == wanted).all()
    np.testing.assert_allclose(found.iloc[:, 1:], fitted.predict_proba(X), atol=1e-5)


@pytest.mark.usefixtures("converts")
@pytest.mark.parametrize("kind", ["forest", "tree", "boosted", "xgboost"])
def test_trees_behind_steps_see_the_numbers_that_they_were_grown_on(kind: str, store: Path) -> None:
    """Values on a grid lie on thresholds, where the last digit of a scaled number decides."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder, StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    if kind == "xgboost":
        trees: Any = pytest.importorskip("xgboost").XGBClassifier(n_estimators=9)
    else:
        trees = {
            "forest": RandomForestClassifier(20, random_state=0),
            "tree": DecisionTreeClassifier(max_depth=5, random_state=0),
            "boosted": GradientBoostingClassifier(n_estimators=9, random_state=0),
        }[kind]
    random = np.random.default_rng(1)
    rows = pd.DataFrame({"a": random.integers(300, 500, 400) / 10, "b": random.integers(10, 99, 400) / 10})
    rows["c"] = random.choice(["x", "y", "z"], 400)
    rows.loc[::11, "a"] = np.nan
    rows.loc[::13, "c"] = None
    kinds = np.where(rows["a"].fillna(40) * rows["b"] + random.normal(0, 40, 400) > 220, 1, 0)
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["a", "b"]),
            ("texts", make_pipeline(SimpleImputer(strategy="most_frequent"), OrdinalEncoder()), ["c"]),
        ]
    )
    fitted = make_pipeline(columns, trees).fit(rows, kinds)
    maas.import_model(fitted, "m", sample=rows)
    found = maas.predict("m", rows)
    assert (found["prediction"] == fitted.predict(rows)).all()
    np.testing.assert_allclose(found.iloc[:, 1:], fitted.predict_proba(rows), atol=1e-4)
    assert fitted.steps[-1][1] is trees and len(fitted.steps) == 2, "the user's own stays as it is"


@pytest.mark.usefixtures("converts")
def test_a_vote_of_estimators(store: Path) -> None:
    from sklearn.ensemble import VotingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB

    X = ROWS[["fare paid", "deck"]]
    fitted = VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft").fit(X, KIND)
    maas.import_model(fitted, "m", sample=X)
    np.testing.assert_allclose(maas.predict("m", X).iloc[:, 1:], fitted.predict_proba(X), atol=1e-5)
    assert fitted.flatten_transform


@pytest.mark.usefixtures("converts")
def test_what_cannot_be_taken_is_said(store: Path) -> None:
    from sklearn.preprocessing import StandardScaler

    fitted = pipe().fit(ROWS, KIND)
    for given, sample, error, said in (
        (pipe(), ROWS, ModelError, "is not fitted"),
        (fitted, None, OptionError, "verified on sample rows"),
        (fitted, ROWS[["age"]], DataError, "lacks 'fare paid'"),
        (StandardScaler(), ROWS, ModelError, "not an estimator"),
        (object(), ROWS, ModelError, "not an estimator"),
    ):
        with pytest.raises(error, match=said) as raised:
            maas.import_model(given, "m", sample=sample)
        assert raised.value.hint
    assert not list(maas.models())


@pytest.mark.usefixtures("converts")
def test_several_quantities_keep_their_names(store: Path) -> None:
    from sklearn.linear_model import LinearRegression

    rows = ROWS[["deck"]].assign(size=ROWS["deck"] * 2.0, price=5.0 - ROWS["deck"])
    fitted = LinearRegression().fit(rows[["deck"]], rows[["size", "price"]])
    made = maas.import_model(fitted, "m", sample=rows, target=("size", "price"))
    assert made.target == ("size", "price") and made.metrics["rmse"] < 1e-4
    assert maas.evaluate("m", rows)["rmse"] < 1e-4
    np.testing.assert_allclose(maas.predict("m", rows)["prediction_price"], rows["price"], atol=1e-4)


@pytest.mark.usefixtures("converts")
def test_clusters_are_the_answers_of_no_task(store: Path) -> None:
    from sklearn.cluster import KMeans

    with pytest.raises(ModelError, match="KMeans is neither a classifier nor a regressor"):
        maas.import_model(KMeans(2, n_init=1).fit(ROWS[["deck"]]), "m", sample=ROWS[["deck"]])


def test_a_graph_that_answers_otherwise_is_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skl2onnx")
    from sklearn.linear_model import LogisticRegression

    X = ROWS[["fare paid", "deck"]]
    fitted = LogisticRegression().fit(X, KIND)
    monkeypatch.setattr(fitted, "predict", lambda rows: np.array(["stays"] * len(rows)))
    with pytest.raises(ModelError, match=r"answers \d+ of 120 rows otherwise"):
        maas.import_model(fitted, "m", sample=X)
    assert not list(maas.models())


class Runs:
    """What runs where it is opened."""

    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('it ran')",))


@pytest.mark.parametrize("ending", ["pkl", "joblib", "pt", "pth", "bin", "PKL"])
def test_pickles_are_refused_unopened(ending: str, tmp_path: Path, store: Path) -> None:
    file = tmp_path / f"model.{ending}"
    file.write_bytes(pickle.dumps(Runs()))
    with pytest.raises(ModelError, match="none is opened here") as raised:
        maas.import_model(str(file), "m")
    assert "import" in raised.value.hint or "export" in raised.value.hint


def test_without_the_converters_their_install_line_is_said(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from sklearn.linear_model import LogisticRegression

    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    fitted = LogisticRegression().fit(ROWS[["deck"]], KIND)
    with pytest.raises(MissingDependency, match="skl2onnx") as raised:
        maas.import_model(fitted, "m", sample=ROWS[["deck"]])
    assert "maas-magics[sklearn]" in raised.value.hint


def test_a_version_of_another_store(lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.train(ROWS.assign(kind=KIND), "kind", name="theirs", model="mlp")
    place = lab.session.backend.models.folder("theirs", 1)
    made = maas.import_model(str(place), "ours")
    assert (made.ref, made.task) == ("ours:1", "binary")
    assert list(maas.predict("ours", ROWS)["prediction"]) == list(maas.predict("theirs", ROWS)["prediction"])
    lab.export("theirs")
    maas.import_model(str(place), "with_export")
    smaller = maas.export("with_export", compress="int8", max_drop=0.5)
    back = maas.import_model(smaller.path, "smaller", data=ROWS.head(40))
    assert (back.task, back.version) == ("binary", 1)
    fast = maas.export("with_export", format="pt2")
    with pytest.raises(ModelError, match="is an export of a model") as told:
        maas.import_model(fast.path, "again")
    assert "--format onnx" in told.value.hint
    assert (
        smaller.model == "with_export:1" and "# with_export:1, int8" in (Path(smaller.path) / "README.md").read_text()
    )
    weights = place / "weights.safetensors"
    weights.chmod(0o600)
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match="was changed"):
        maas.import_model(str(place), "again")
    with pytest.raises(MaasError):
        maas.predict("again", ROWS)
