"""`--model trees`: boosted trees of scikit-learn, which answer as a torch module and in every export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

import maas_magics as maas
from maas_magics.api.errors import OptionError
from maas_magics.core.architectures import architectures
from maas_magics.core.features.processor import NetworkInputs
from maas_magics.core.tasks.fit import fit_task

rng = np.random.default_rng(2)
N = 400
X = rng.normal(size=(N, 5)).astype(np.float32)
NUMBER = X[:, 0] * X[:, 1] + X[:, 2]
KIND = np.digitize(NUMBER, [-1.0, 0.5])
MANY = rng.integers(0, 90, N)


def grown(target: Any, turns: int = 3, **params: Any) -> tuple[Any, Any]:
    """A network that has grown, and its task."""
    task = fit_task(target, [f"y{i}" for i in range(target.shape[1])] if target.ndim > 1 else ["y"], None, False)
    net = architectures.get("trees").build(NetworkInputs(numeric=5), task, params)
    rows = torch.from_numpy(X), torch.zeros(N, 0, dtype=torch.int64)
    for _ in range(turns):
        net.learn(rows, torch.from_numpy(task.encode(target)), None, 0.1, 0)
    return net, task


def answers(net: Any, rows: Any = X) -> Any:
    with torch.no_grad():
        return net(torch.from_numpy(rows), torch.zeros(len(rows), 0, dtype=torch.int64)).numpy()


def test_quantities_are_those_of_scikit_learn() -> None:
    net, _ = grown(NUMBER.astype(np.float64))
    known = HistGradientBoostingRegressor(early_stopping=False, max_iter=30, max_depth=8, random_state=0)
    known.fit(X.astype(np.float64), NUMBER)
    other = rng.normal(size=(500, 5)).astype(np.float32)
    np.testing.assert_allclose(answers(net, other)[:, 0], known.predict(other.astype(np.float64)), atol=1e-5)


@pytest.mark.parametrize("target", [KIND, (NUMBER > 0).astype(int), np.where(KIND == 1, 0, 2)])
def test_labels_are_those_of_scikit_learn(target: Any) -> None:
    net, task = grown(target)
    known = HistGradientBoostingClassifier(early_stopping=False, max_iter=30, max_depth=8, random_state=0)
    known.fit(X.astype(np.float64), target)
    shares = task.decoder()(torch.from_numpy(answers(net))).numpy()
    expected = known.predict_proba(X.astype(np.float64))
    np.testing.assert_allclose(shares[:, -1] if shares.ndim == 2 else shares, expected[:, -1], atol=1e-5)


def test_rows_on_a_threshold_are_on_the_side_where_they_were() -> None:
    grid = np.repeat(np.arange(8, dtype=np.float32)[:, None] / 7, 5, axis=1).repeat(50, axis=0)
    target = np.floor(grid[:, 0] * 7)
    task = fit_task(target + 0.25, ["y"], None, False)
    net = architectures.get("trees").build(NetworkInputs(numeric=5), task, {"rows_of_leaf": 1})
    rows = torch.from_numpy(grid), torch.zeros(len(grid), 0, dtype=torch.int64)
    for _ in range(10):
        net.learn(rows, torch.from_numpy(task.encode(target + 0.25)), None, 0.3, 0)
    np.testing.assert_allclose(answers(net, grid)[:, 0], target + 0.25, atol=1e-3)


def test_what_has_grown_is_restored_whatever_has_grown_before() -> None:
    first, task = grown(KIND, turns=1)
    second, _ = grown(KIND, turns=4)
    state = {name: value.clone() for name, value in first.state_dict().items()}
    before = answers(first)
    second.load_state_dict(state)
    np.testing.assert_array_equal(answers(second), before)
    fresh = architectures.get("trees").build(NetworkInputs(numeric=5), task, {})
    fresh.load_state_dict(state)
    np.testing.assert_array_equal(answers(fresh), before)


TABLE = pd.DataFrame(X, columns=list("abcde")).assign(
    kind=rng.choice(["p", "q", None], N), many=[f"k{i}" for i in MANY], w=rng.random(N)
)
TABLE.loc[:20, "a"] = np.nan


@pytest.mark.parametrize(
    "target",
    [
        {"y": NUMBER + MANY / 30},
        {"y": np.where(KIND == 0, "lo", "hi")},
        {"y": KIND},
        {"y": NUMBER, "z": NUMBER * 2 + 1},
        {"y": (NUMBER > 0) * 1, "z": (X[:, 0] > 0) * 1},
    ],
)
@pytest.mark.parametrize("weights", [None, "w"])
def test_every_task_trains_answers_and_is_exported(store: Path, target: dict[str, Any], weights: Any) -> None:
    rows = TABLE.assign(**target)
    rows = rows if weights else rows.drop(columns="w")
    result = maas.train("m", rows, list(target), model="trees", epochs=4, weights=weights)
    assert result.epochs == 4 and np.isfinite(result.metrics["loss"])
    assert result.history["loss"][-1] < result.history["loss"][0]
    plain = maas.predict("m", rows.head(50))
    assert maas.export("m").verification.max_abs_diff < 1e-4
    exported = maas.predict("m", rows.head(50))
    for name in plain.columns:
        if plain[name].dtype.kind == "f":
            np.testing.assert_allclose(plain[name], exported[name], atol=1e-4)
        else:
            assert (plain[name] == exported[name]).all()


def test_the_best_round_is_kept_and_patience_ends_it(store: Path) -> None:
    noise = rng.integers(0, 2, N)
    result = maas.train("m", X, noise, model="trees")
    assert result.epochs < 30 and result.best_epoch < result.epochs
    assert result.metrics["loss"] == min(result.history["val_loss"])


def test_a_training_that_was_stopped_goes_on(store: Path) -> None:
    whole = maas.train("whole", X, KIND, model="trees", epochs=6, patience=0)
    maas.train("part", X, KIND, model="trees", epochs=3, patience=0)
    more = maas.train("part", X, KIND, model="trees", epochs=6, patience=0, resume=True)
    np.testing.assert_allclose(more.history["val_loss"], whole.history["val_loss"], rtol=1e-4)


@pytest.mark.parametrize("model", ["trees", "linear"])
def test_rows_of_no_weight_say_nothing(store: Path, model: str) -> None:
    rows = pd.DataFrame(X, columns=list("abcde")).assign(y=NUMBER, w=1.0)
    odd = rows.head(150).assign(w=0.0, y=1e6, a=1e6)
    whole = pd.concat([odd, rows[150:]], ignore_index=True)
    found = []
    for data in (whole, rows[150:]):
        maas.train("m", data, "y", model=model, weights="w", validation=0, epochs=40)
        found.append(maas.evaluate("m", rows[150:])["rmse"])
    assert found[0] < 1.2 * found[1] + 0.02


def test_whole_numbers_weigh_classes(store: Path) -> None:
    weights = {str(label): label + 1 for label in range(3)}
    whole = maas.train("m", X, KIND, model="linear", epochs=2, class_weights=weights).history
    same = maas.train("m", X, KIND, model="linear", epochs=2, class_weights={k: float(v) for k, v in weights.items()})
    assert whole == same.history


def test_class_weights_count(store: Path) -> None:
    rare = (X[:, 0] + rng.normal(size=N) > 1.6).astype(int)
    plain = maas.train("m", X, rare, model="trees", epochs=3).metrics
    even = maas.train("m", X, rare, model="trees", epochs=3, class_weights="balanced").metrics
    assert even["balanced_accuracy"] > plain["balanced_accuracy"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 32}, "--batch-size"),
        ({"loss": "l1"}, "a loss of its own"),
        ({"workers": 2}, "--workers"),
        ({"balance": True}, "--balance"),
        ({"label_smoothing": 0.1}, "--label-smoothing"),
        ({"fast": "auto"}, "--fast"),
        ({"lr": "auto"}, "--lr auto"),
        ({"schedule": "cosine"}, "--schedule"),
        ({"weight_decay": 0.5}, "--weight-decay"),
        ({"optimizer": "Adam"}, "--optimizer"),
        ({"ema": 0.5}, "--ema"),
        ({"params": {"rounds": 0}}, "rounds is 0"),
        ({"params": {"depth": None}}, "depth is None"),
        ({"params": {"l2": -1}}, "l2 is -1"),
    ],
)
def test_options_of_steps_are_refused(store: Path, options: dict[str, Any], said: str) -> None:
    target = NUMBER if options.get("loss") else KIND
    with pytest.raises(OptionError, match=said):
        maas.train("m", X, target, model="trees", **options)
