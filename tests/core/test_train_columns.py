"""Columns that are no features: weights of rows, what is dropped, and what decides which rows are held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import maas_magics as maas
from maas_magics.api.errors import DataError, MaasError, OptionError
from maas_magics.api.events import Message
from maas_magics.api.requests import EvaluateRequest, TrainRequest
from maas_magics.api.specs import DataSpec
from maas_magics.core.batches.rows import read
from maas_magics.core.batches.streaming import Stream, streamed_source
from maas_magics.session import current

rng = np.random.default_rng(3)
N = 120
FRAME = pd.DataFrame({"a": rng.normal(size=N), "b": rng.normal(size=N), "w": rng.integers(0, 4, N)})
FRAME["two"] = np.where(FRAME.a + FRAME.b + rng.normal(size=N) > 0, "yes", "no")
FRAME["three"] = np.digitize(FRAME.a + rng.normal(size=N) / 2, [-0.5, 0.5])
FRAME["number"] = FRAME.a - 2 * FRAME.b + rng.normal(size=N)
FRAME["p"], FRAME["q"] = (FRAME.a > 0).astype(int), (FRAME.b + rng.normal(size=N) > 0).astype(int)
FRAME["when"] = pd.to_datetime("2024-01-01") + pd.to_timedelta(rng.permutation(N), unit="h")
FRAME["who"] = rng.choice(list("abcdefgh"), N)
TARGETS: dict[str, Any] = {"binary": "two", "multiclass": "three", "multilabel": ["p", "q"], "regression": "number"}
PLAIN = {"model": "linear", "epochs": 2, "patience": 0, "features": ("a", "b")}


@pytest.fixture(autouse=True)
def empty(store: Path) -> None:
    """A store of the test's own."""


def rows_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Each row as often as it weighs, and of weight 1."""
    return frame.loc[frame.index.repeat(frame.w)].assign(w=1)


# --- weights ---


@pytest.mark.parametrize("task", TARGETS)
def test_a_held_out_row_counts_as_often_as_it_weighs(task: str) -> None:
    train, held = FRAME[:80].assign(w=1), FRAME[80:]
    given = {**PLAIN, "target": TARGETS[task], "weights": "w"}
    metrics = ("accuracy", "f1", "auc", "log_loss") if task != "regression" else ("rmse", "mae", "r2")
    metrics += ("balanced_accuracy",) if task in ("binary", "multiclass") else ()
    weighed = maas.train("m", train, validation=held, metrics=metrics, **given)
    repeated = maas.train("m", train, validation=rows_of(held), metrics=metrics, **given)
    alike = maas.train("m", train, validation=held.assign(w=1), metrics=metrics, **given)
    assert weighed.metrics == pytest.approx(repeated.metrics, rel=1e-5)
    assert weighed.metrics != pytest.approx(alike.metrics, rel=1e-5)


@pytest.mark.parametrize(
    ("given", "task"),
    [
        ({}, "binary"),
        ({}, "multiclass"),
        ({"label_smoothing": 0.2}, "multiclass"),
        ({"label_smoothing": 0.2}, "binary"),
        ({"class_weights": {0: 1.0, 1: 3.0, 2: 0.5}}, "multiclass"),
        ({"class_weights": {"no": 1.0, "yes": 3.0}}, "binary"),
        ({}, "multilabel"),
        ({"loss": nn.CrossEntropyLoss()}, "multiclass"),
        ({"loss": nn.functional.cross_entropy}, "multiclass"),
    ],
)
def test_a_row_is_learnt_as_often_as_it_weighs(given: dict[str, Any], task: str) -> None:
    outputs = {"binary": 1, "multiclass": 3, "multilabel": 2}[task]
    state = nn.Linear(2, outputs).state_dict()

    def learnt(frame: pd.DataFrame) -> list[float]:
        net = nn.Linear(2, outputs)
        net.load_state_dict(state)
        request = TrainRequest(
            **{"name": "m", "data": frame, "target": TARGETS[task], "model": net, "features": ("a", "b")},
            **{"weights": "w", "validation": FRAME, "monitor": "loss", "preprocess": "none", "optimizer": "SGD"},
            **{"lr": 0.5, "batch_size": 1000, "epochs": 4, "patience": 0, "better_than": -1.0},  # publishes nothing
            **given,
        )
        return current().backend.submit(request).result(60).history["val_loss"]

    weighed, repeated, alike = learnt(FRAME), learnt(rows_of(FRAME)), learnt(FRAME.assign(w=1))
    assert weighed == pytest.approx(repeated, rel=1e-4)
    assert weighed[1:] != pytest.approx(alike[1:], rel=1e-4)


def test_class_weights_and_weights_of_rows_are_multiplied() -> None:
    factor = FRAME.two.map({"no": 1.0, "yes": 3.0})
    both = maas.train("m", FRAME, "two", weights="w", class_weights={"no": 1.0, "yes": 3.0}, **PLAIN)
    folded = maas.train("m", FRAME.assign(w=FRAME.w * factor), "two", weights="w", **PLAIN)
    assert both.history["loss"] == pytest.approx(folded.history["loss"], rel=1e-6)
    assert both.metrics == pytest.approx(folded.metrics, rel=1e-6)


@pytest.mark.parametrize("target", ["two", "number"])
def test_only_proportions_count_and_a_row_of_weight_0_not_at_all(target: str) -> None:
    first = maas.train("m", FRAME, target, weights="w", validation=FRAME, **PLAIN)
    tenfold = maas.train("m", FRAME.assign(w=FRAME.w * 10.0), target, weights="w", validation=FRAME, **PLAIN)
    assert tenfold.history["loss"] == pytest.approx(first.history["loss"], rel=1e-5)
    wrong = FRAME.copy()
    if target == "two":
        wrong.loc[wrong.w == 0, target] = np.where(wrong[wrong.w == 0][target] == "yes", "no", "yes")
        other = maas.train("m", wrong, target, weights="w", validation=FRAME, **PLAIN)
        assert other.history["loss"] == pytest.approx(first.history["loss"], rel=1e-6)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("task", TARGETS)
def test_the_constant_beside_the_figures_is_that_of_rows_that_count_so(task: str, stream: bool, tmp_path: Path) -> None:
    heavy = FRAME.assign(w=np.where((FRAME.two == "no") & (FRAME.three == 2) | (FRAME.number > 1), 90, FRAME.w))
    heavy.loc[:79].to_parquet(tmp_path / "rows.parquet")
    rows_of(heavy[:80]).to_parquet(tmp_path / "repeated.parquet")
    given = {**PLAIN, "target": TARGETS[task], "weights": "w", "epochs": 1, "stream": stream}
    weighed = maas.train("m", str(tmp_path / "rows.parquet"), validation=heavy[80:], **given)
    repeated = maas.train("m", str(tmp_path / "repeated.parquet"), validation=rows_of(heavy[80:]), **given)
    same = {name: value for name, value in repeated.baseline.items() if name != "loss" or task != "regression"}
    assert {name: weighed.baseline[name] for name in same} == pytest.approx(same, rel=1e-5)
    alone = maas.train("m", heavy[:80], validation=0.0, **given | {"stream": False})
    other = maas.train("m", rows_of(heavy[:80]), validation=0.0, **given | {"stream": False})
    if task != "regression":
        assert alone.baseline == pytest.approx(other.baseline, rel=1e-5)


def test_an_evaluation_says_that_rows_count_alike_where_they_have_no_weights() -> None:
    def said(model: str, data: Any = FRAME) -> list[str]:
        job = current().run(EvaluateRequest(model=model, data=data), background=True)
        job.result()
        return [event.text for event in job.events(follow=False) if isinstance(event, Message)]

    maas.train("m", FRAME, "two", weights="w", **PLAIN)
    assert said("m") == []
    (text,) = said("m", FRAME.drop(columns="w"))
    assert "weights 'w'" in text and "every row counts alike" in text
    maas.train("plain", FRAME, "two", **PLAIN)
    assert said("plain") == []


@pytest.mark.parametrize("size", [1e300, 1e-300, 5e-324, 1.7e308])
@pytest.mark.parametrize("stream", [False, True])
def test_weights_of_any_size_count_by_their_proportions(size: float, stream: bool, tmp_path: Path) -> None:
    def history(weights: Any) -> dict[str, list[float]]:
        FRAME.assign(w=weights).to_parquet(tmp_path / "rows.parquet")
        given = {**PLAIN, "weights": "w", "stream": stream}
        model = maas.train("m", str(tmp_path / "rows.parquet"), "two", **given)
        return model.history

    assert history(np.full(N, size))["loss"] == pytest.approx(history(np.ones(N))["loss"], rel=1e-6)
    if 1e-300 <= size <= 1e300:
        assert history(FRAME.w * size)["loss"] == pytest.approx(history(FRAME.w)["loss"], rel=1e-5)


def test_equal_weights_change_nothing_and_are_no_feature() -> None:
    plain = maas.train("m", FRAME.drop(columns="w"), "two", model="mlp", epochs=2)
    equal = maas.train("m", FRAME.assign(w=7), "two", model="mlp", epochs=2, weights="w")
    assert equal.history["loss"] == pytest.approx(plain.history["loss"], rel=1e-5)
    names = [spec.name for spec in equal.info.signature.inputs]
    assert "w" not in names and names == [spec.name for spec in plain.info.signature.inputs]
    assert len(maas.predict("m:2", FRAME.drop(columns=["w"]))) == N


@pytest.mark.parametrize(
    "given",
    [{"accumulate": 2}, {"clip": 0.1}, {"ema": 0.9}, {"precision": "bf16"}, {"balance": True}, {"lr": "auto"},
     {"batch_size": "auto"}, {"fast": "auto"}, {"optimizer": "LBFGS", "batch_size": 1000}, {"profile": True}],
)  # fmt: skip
def test_weights_go_with_everything_else(given: dict[str, Any]) -> None:
    model = maas.train("m", FRAME, "two", weights="w", **(PLAIN | {"epochs": 3} | given))
    assert np.isfinite(model.history["loss"]).all()


def test_a_weighted_training_goes_on_exactly_and_not_with_other_weights() -> None:
    given = PLAIN | {"schedule": "constant", "warmup": 0}
    whole = maas.train("whole", FRAME, "two", weights="w", **(given | {"epochs": 4}))
    maas.train("m", FRAME, "two", weights="w", **given)
    more = maas.train("m", FRAME, "two", weights="w", resume=True, **(given | {"epochs": 4}))
    assert more.history["loss"] == whole.history["loss"] and more.history["val_loss"] == whole.history["val_loss"]
    for other in (FRAME.assign(w=FRAME.w + 1), FRAME.assign(w=1)):
        with pytest.raises(MaasError, match="table"):
            maas.train("m", other, "two", weights="w", resume=True, **(given | {"epochs": 5}))


# --- which columns are features ---


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"drop": ("who", "when", "w", "three", "number", "p", "q")}, ["a", "b"]),
        ({"features": ("b", "a")}, ["a", "b"]),
        ({"features": "a"}, ["a"]),
        ({"drop": "who", "features": ("a", "b", "number")}, ["a", "b", "number"]),
        ({"features": ("a", "b"), "weights": "w", "validation": "group:who"}, ["a", "b"]),
        ({"features": ("a", "b"), "drop": ("who",), "validation": "group:who"}, ["a", "b"]),
    ],
)
def test_what_is_a_feature(given: dict[str, Any], left: list[str]) -> None:
    model = maas.train("m", FRAME, "two", model="linear", epochs=1, **given)
    assert [spec.name for spec in model.info.signature.inputs] == left
    assert len(maas.predict("m", FRAME[left])) == len(maas.predict("m", FRAME)) == N
    assert maas.evaluate("m", FRAME).rows == N
    maas.export("m")


# --- which rows are held out ---


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("validation", "share"),
    [("time:when", 0.15), ("time:when:0.5", 0.5), ("time:b", 0.15), ("group:who", 0.15), ("group:who:0.5", 0.5),
     ("group:three:0.4", 0.4), ("group:day:0.3", 0.3)],
)  # fmt: skip
def test_which_rows_are_held_out(validation: str, share: float, stream: bool, tmp_path: Path) -> None:
    frame = FRAME.assign(day=FRAME.when.dt.date, id=np.arange(N))
    column = validation.split(":")[1]
    parts = []
    for seed in (0, 0, 1, 2, 3, 4):
        if stream:
            frame.to_parquet(tmp_path / "rows.parquet")
            data = str(tmp_path / "rows.parquet")
            asked = DataSpec(data=data, target="two", validation=validation, stream=True)
            source = streamed_source(asked, lambda text: None)
            assert source is not None
            made = Stream(asked, "auto", "auto", seed, source, None, lambda text: None)
            out = np.concatenate([made._held_out(part) for part in made._parts(source)])
        else:
            asked = DataSpec(data=frame, target="two", validation=validation)
            train, held, _, _ = read(asked, seed, None, lambda text: None)
            assert held is not None and len(train) + len(held) == N
            out = np.isin(frame.id, held.table.column("id").to_numpy())
        parts.append(out)
        assert 0 < out.sum() < N and abs(out.mean() - share) < 0.2
        if validation.startswith("time"):
            assert frame[out][column].min() > frame[~out][column].max()
            assert abs(out.mean() - share) < 0.02
        else:
            assert not set(frame[out][column]) & set(frame[~out][column])
    assert (parts[0] == parts[1]).all(), "the same seed, the same rows"
    assert all((parts[0] == other).all() for other in parts) == validation.startswith("time")


def test_streamed_and_in_memory_the_same_rows_are_held_out(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "rows.parquet")
    for validation in ("time:when:0.3", "group:who:0.3"):
        found = [
            maas.train("m", str(tmp_path / "rows.parquet"), "number", validation=validation, weights="w", stream=stream,
                       **(PLAIN | {"epochs": 1, "lr": 0.0}))
            for stream in (True, False)
        ]  # fmt: skip
        assert found[0].metrics == pytest.approx(found[1].metrics, rel=1e-4)


def test_figures_are_those_of_the_rows_that_were_held_out() -> None:
    late = FRAME.when >= FRAME.when.sort_values().iloc[N - 30]
    named = maas.train("m", FRAME, "number", validation="time:when:0.25", **PLAIN)
    figures = maas.evaluate("m", FRAME[late]).values
    assert named.metrics["rmse"] == pytest.approx(figures["rmse"], rel=1e-5)
    assert "30" in str(maas.evaluate("m", FRAME[late]).rows)


def test_rows_of_one_time_stay_together_and_texts_may_be_times() -> None:
    frame = FRAME.assign(month=[f"2024-{1 + i // 30:02d}-01" for i in range(N)], year=np.arange(N) // 40)
    for validation in ("time:month:0.1", "time:year:0.1"):
        _, held, _, _ = read(DataSpec(data=frame, target="two", validation=validation), 0, None, lambda text: None)
        assert held is not None and len(held) == (30 if "month" in validation else 40)


def test_a_label_that_is_new_in_the_held_out_rows_is_measured() -> None:
    frame = FRAME.assign(label=["new" if i > 110 else "ab"[i % 2] for i in range(N)], order=np.arange(N))
    for stream in (None,):
        model = maas.train("m", frame, "label", validation="time:order:0.2", stream=stream, **PLAIN)
        assert model.info.classes == ("a", "b", "new") and model.metrics["accuracy"] < 0.9


# --- what makes no sense ---


def own_loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """One that tells nothing of single rows."""
    answers = target.reshape(-1).to(outputs.dtype)
    return (outputs.reshape(len(answers), -1).mean(1) - answers).square().mean()


@pytest.mark.parametrize(
    ("given", "told", "hint"),
    [
        ({"weights": "ww"}, "no column 'ww'", "Did you mean"),
        ({"weights": "two"}, "no column 'two' beside the target", ""),
        ({"weights": "who"}, "'who' are", "another column"),
        ({"weights": "bad"}, "missing, negative or infinite in 3 rows", "fillna"),
        ({"weights": "none"}, "are all 0", "above 0"),
        ({"weights": "w", "workers": 2}, "one process", "--workers 1"),
        ({"weights": "w", "loss": own_loss}, "cannot be weighted", "reduction='none'"),
        ({"weights": "w", "features": ("w", "a")}, "named as a feature, and", "one of them"),
        ({"drop": "nobody"}, "no column 'nobody'", ""),
        ({"drop": ("a", "two")}, "no column 'two' beside the target", ""),
        ({"features": ("a", "bb")}, "no column 'bb'", "Did you mean"),
        ({"drop": "a", "features": "a"}, "'a' is named as a feature, and", ""),
        ({"features": (), "drop": tuple(c for c in FRAME if c != "two")}, "No column is left", ""),
        ({"validation": "time:whenn"}, "no column 'whenn'", "Did you mean 'when'?"),
        ({"validation": "time:who"}, "texts that are not times", "pd.to_datetime"),
        ({"validation": "time:one"}, "one time only", ""),
        ({"validation": "time:gaps"}, "missing in 1 rows", ""),
        ({"validation": "group:one"}, "one group only", ""),
        ({"validation": "group:"}, "names no column", "group:COLUMN"),
        ({"validation": "time:when:0"}, "share of 0", "0.2"),
        ({"validation": "time:when:1.5"}, "share of 1.5", "0.2"),
        ({"validation": "when"}, "There is no file 'when'", ""),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_makes_no_sense_is_told(given: dict[str, Any], told: str, hint: str, stream: bool, tmp_path: Path) -> None:
    extra: dict[str, Any] = {"bad": np.where(np.arange(N) < 3, [np.nan, -1, np.inf] * 40, 1.0), "none": 0.0, "one": 1}
    extra["gaps"] = FRAME.when.where(np.arange(N) > 0)
    asked = f"{given}"
    frame = FRAME.assign(**{name: values for name, values in extra.items() if name in asked})
    frame.to_parquet(tmp_path / "rows.parquet")
    data: Any = str(tmp_path / "rows.parquet") if stream else frame
    request: dict[str, Any] = {"model": "linear", "epochs": 1, "stream": stream or None, **given}
    if stream and "workers" in given:
        return
    with pytest.raises(MaasError) as caught:
        maas.train("m", data, "two", **request)
    wanted = (
        {"fillna": "write 1 for 'bad'", "pd.to_datetime": "Write 'who' to the file"}.get(hint, hint) if stream else hint
    )
    assert told in caught.value.message and wanted in caught.value.hint
    assert not maas.models()


@pytest.mark.parametrize("given", [{"weights": "w"}, {"drop": "a"}, {"features": ("a",)}, {"validation": "time:a"}])
def test_datasets_and_arrays_have_no_columns(given: dict[str, Any]) -> None:
    X, y = torch.randn(20, 2), torch.randn(20)
    with pytest.raises(OptionError, match="a dataset or loader has none"):
        maas.train("m", TensorDataset(X, y), model=nn.Linear(2, 1), epochs=1, **given)
    with pytest.raises(DataError, match="has no column"):
        maas.train("m", X.numpy(), y.numpy(), model="linear", epochs=1, **given)
