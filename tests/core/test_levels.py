"""Numbers whose level is large against their spread: targets and features, in memory and in every export."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from maas_magics.api.errors import ToleranceExceeded
from maas_magics.core.data.running import RunningStatistics, figures
from maas_magics.core.data.sources.arrays import tensor_column
from maas_magics.core.data.text import read_rows
from maas_magics.core.tasks.metrics import r2, rmse
from maas_magics.core.tasks.regression import Regression

N = 240
RNG = np.random.default_rng(3)
X = RNG.normal(size=(N, 3))
F = X[:, 0] - 0.5 * X[:, 1] + RNG.normal(scale=0.05, size=N)

LEVELS = {
    "usual": (0.0, 1.0),
    "prices": (2e5, 8e4),
    "metres of a map grid": (5.4e6, 1.0),
    "seconds since 1970": (1.7e9, 100.0),
    "beyond float32's steps": (-3e12, 1.0),
    "very small": (3e-30, 1e-31),
    "beyond float32": (0.0, 1e200),
    "below float32": (0.0, 1e-60),
}
TRAINING: dict[str, Any] = {"epochs": 25, "lr": 0.05, "batch_size": 32}


def table(y: np.ndarray | None = None) -> pd.DataFrame:
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    return frame if y is None else frame.assign(y=y)


def standardised(lab: Any, rows: Any) -> np.ndarray:
    """What the network says of the rows, scaled back here."""
    predictor = lab.session.backend.loader.predictor("m")
    from maas_magics.core.data.sources import open_source
    from maas_magics.core.features.module import entered

    source = open_source(rows)
    name, _, version = predictor.ref.partition(":")
    model = lab.session.backend.loader.model(name, int(version))
    with torch.inference_mode():
        outputs = model.net(*model.graph.transform(*entered(model.processor, predictor.encode(source.table(), source))))
    answers = predictor.answers
    exact = outputs.double().numpy().reshape(len(outputs), -1) * np.array(answers.scale) + np.array(answers.center)
    return np.clip(exact, answers.low or -np.inf, answers.high or np.inf)[:, 0]


@pytest.mark.parametrize("where", ["table", "array", "file"])
@pytest.mark.parametrize("level", LEVELS)
def test_answers_and_figures_of_a_target_do_not_depend_on_its_level(lab, tmp_path, level, where):
    at, spread = LEVELS[level]
    y = at + spread * F
    rows: Any = table() if where == "table" else X
    match where:
        case "table":
            trained = lab.train(table(y), "y", **TRAINING)
        case "array":
            trained = lab.train(X, y, **TRAINING)
        case "file":
            rows = table()
            table(y).to_parquet(tmp_path / "t.parquet")
            trained = lab.train(str(tmp_path / "t.parquet"), "y", stream=True, **TRAINING)
    answers = lab.predict(rows)
    found = answers["prediction"].to_numpy() if isinstance(answers, pd.DataFrame) else answers
    assert found.dtype == np.float64 and len(np.unique(found)) > 0.9 * N
    rounding = 4 * np.spacing(np.abs(y).max())
    assert np.abs(found - standardised(lab, rows)).max() <= rounding + 1e-6 * spread
    apart = np.sqrt(np.mean(((found - y) / spread) ** 2))
    assert apart < 0.2
    for figures_ in (trained.metrics, lab.evaluate((X, y) if where == "array" else table(y)).values):
        assert figures_["rmse"] / spread == pytest.approx(apart, rel=0.5) and figures_["r2"] > 0.95
    assert lab.evaluate((X, y) if where == "array" else table(y))["rmse"] / spread == pytest.approx(apart, rel=1e-3)
    artifact = lab.export(format="onnx")
    assert artifact.signature.outputs[0].datatype == "FP64" and artifact.verification.max_abs_diff < 1e-5
    again = lab.predict(rows)
    again = again["prediction"].to_numpy() if isinstance(again, pd.DataFrame) else again
    assert np.abs(again - found).max() <= rounding + 1e-5 * spread and again.dtype == np.float64


@pytest.mark.parametrize("level", ["metres of a map grid", "beyond float32"])
def test_the_exported_program_keeps_the_level_too(lab, level):
    at, spread = LEVELS[level]
    lab.train(table(at + spread * F), "y", **TRAINING)
    artifact = lab.export(format="pt2")
    program = torch.export.load(f"{artifact.path}/model.pt2").module()
    found = program(*(torch.from_numpy(X[:, [i]]) for i in range(3))).detach().numpy()
    assert found.dtype == np.float64 and np.abs(found - standardised(lab, table())).max() <= 1e-5 * spread + 1e-8 * at


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint32"])
@pytest.mark.parametrize("model", ["linear", "mlp", "tabm"])
def test_an_array_with_a_high_level_learns_what_the_table_learns(lab, model, dtype):
    rows = X.copy() if dtype == "float64" else np.rint(100 * X).astype("int64") + 1000
    rows = rows.astype(dtype)
    rows[:, 0] = (1.7e9 + 100 * X[:, 0]).astype(dtype)
    frame = pd.DataFrame(rows, columns=["a", "b", "c"])
    expected = lab.train(frame, F, name="t", model=model, **TRAINING)
    trained = lab.train(rows, F, model=model, **TRAINING)
    assert trained.metrics == pytest.approx(expected.metrics)
    assert trained.metrics["r2"] > 0.95 or model != "linear"
    assert trained.info.signature.inputs[0].datatype == "FP64"
    found = lab.predict(rows)
    assert np.allclose(found, lab.predict(frame, model="t")["prediction"], rtol=0, atol=1e-6)
    lab.export(format="onnx")
    assert np.allclose(lab.predict(rows), found, rtol=0, atol=1e-5)
    typed = read_rows(str(rows[:2].tolist()), trained.info.signature.inputs)
    assert np.allclose(lab.predict(typed), found[:2], rtol=0, atol=1e-5)
    typed = read_rows("\n".join(",".join(map(repr, row)) for row in rows[:2].tolist()), trained.info.signature.inputs)
    assert np.allclose(lab.predict(typed), found[:2], rtol=0, atol=1e-5)
    if dtype == "int64":  # the other dtypes come to the program as the same float64
        lab.export(format="pt2")


def test_images_with_a_high_level_are_learnt(lab):
    shape = (N, 8, 8)
    images = RNG.normal(size=shape) + 2 * F[:, None, None]
    for high in (1.7e9 + 100 * images, (1.7e9 + 100 * images).astype("int64")):
        trained = lab.train(high, F, model="cnn", epochs=6, batch_size=16)
        assert trained.metrics["r2"] > 0.6
        lab.export(format="onnx")


def test_arrays_that_float32_holds_stay_float32(lab):
    for rows in (X, X.astype("float32"), 1000 * X, np.rint(9 * X).astype("int64"), (X > 0)):
        assert lab.train(rows, F).info.signature.inputs[0].datatype == "FP32"
    # its numbers are float32 as they came
    assert lab.train((1e9 + 1e4 * X).astype("float32"), F).info.signature.inputs[0].datatype == "FP32"


def test_a_dict_of_arrays_is_exact_where_it_has_to_be(lab):
    rows = {"high": 1.7e9 + 100 * X[:, :2], "low": X[:, 1:].astype("float32"), "one": X[:, 0]}
    trained = lab.train(rows, F, **TRAINING)
    assert [spec.datatype for spec in trained.info.signature.inputs] == ["FP64", "FP32", "FP64"]
    assert trained.metrics["r2"] > 0.95
    found = lab.predict(rows)
    lab.export(format="onnx")
    assert np.allclose(lab.predict(rows), found, atol=1e-5)


def test_columns_far_from_one_are_not_taken_for_constants(lab):
    for at, spread in ((1e15, 100.0), (0.0, 1e-15), (1.6e-19, 1e-22), (0.0, 1e-200), (1e300, 1e299)):
        frame = pd.DataFrame({"a": at + spread * X[:, 0], "b": X[:, 1]})
        assert lab.train(frame, X[:, 0] - 0.5 * X[:, 1], **TRAINING).metrics["r2"] > 0.95, (at, spread)
    noise = pd.DataFrame({"a": np.where(X[:, 0] > 0, 0.1 + 0.2, 0.3), "b": X[:, 1]})
    (a, b) = _scalings(lab, noise)
    assert a.scale[0] == 0 and b.scale[0] > 0


def _scalings(lab: Any, frame: pd.DataFrame) -> Any:
    lab.train(frame, F)
    model = lab.session.backend.loader.model("m", len(lab.session.backend.models.versions("m")))
    return [feature.scaling for feature in model.processor.features]


def test_two_targets_of_different_levels_are_each_exact(lab):
    y = np.stack([5.4e6 + F, 1e-9 * X[:, 2]], axis=1)
    trained = lab.train(X, y, **TRAINING)
    assert trained.metrics["r2"] > 0.95
    lab.export(format="onnx")
    assert np.abs(lab.predict(X)[:, 0] - y[:, 0]).mean() < 0.2


def test_a_price_exports_and_a_file_that_is_wrong_does_not(lab, monkeypatch):
    lab.train(table(2e5 + 8e4 * F), "y", **TRAINING)
    assert lab.export(format="onnx").verification.max_abs_diff < 1e-5
    from maas_magics.core.exporters.onnx import Onnx

    right = Onnx.export

    def wrong(self: Onnx, model: Any, file: Any) -> Any:
        before = model.graph.decode.scale.clone()
        model.graph.decode.scale *= 1.001
        signature = right(self, model, file)
        model.graph.decode.scale.copy_(before)
        return signature

    monkeypatch.setattr(Onnx, "export", wrong)
    with pytest.raises(ToleranceExceeded, match="standard deviations of the target; 1e-04 was accepted"):
        lab.export(format="onnx")


@pytest.mark.parametrize(("at", "spread"), [(0, 1), (1e9, 1), (0, 1e200), (0, 1e-200), (1e300, 1e297)])
def test_metrics_of_any_size(at, spread):
    true, said = at + spread * F, at + spread * (F + 0.1 * X[:, 0])
    a, b = (torch.from_numpy(values[:, None]) for values in (said, true))
    assert rmse(a, b) / spread == pytest.approx(0.1 * np.sqrt(np.mean(X[:, 0] ** 2)), rel=1e-5)
    assert r2(a, b) == pytest.approx(1 - np.mean((0.1 * X[:, 0]) ** 2) / F.var(), rel=1e-5)
    assert rmse(b, b) == 0 and np.isnan(r2(a[:1], b[:1]))


@pytest.mark.parametrize(("at", "spread"), [(0, 1), (1.7e9, 100), (1e15, 10), (0, 1e200), (0, 1e-200), (1e300, 1e299)])
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_running_figures_are_exact_at_any_level(at, spread, rows):
    values = at + spread * X
    values[::5, 1] = np.nan
    found = figures(values, rows)
    around = (values - at) / spread
    assert np.allclose((found.mean - at) / spread, np.nanmean(around, axis=0), atol=1e-10 + 4 * np.spacing(at) / spread)
    assert np.allclose(found.spread / spread, np.nanstd(around, axis=0), rtol=1e-6)
    assert found.missing.tolist() == [0, 48, 0] and np.array_equal(found.low, np.nanmin(values, axis=0))
    same = RunningStatistics()
    same.add(np.full((rows, 1), 0.1))
    assert same.spread[0] == 0 and same.mean[0] == 0.1


def test_the_rule_for_arrays_looks_at_every_column():
    rows = np.stack([X, X], axis=1).reshape(N, 6)
    rows[:, 4] += 2000
    import pyarrow as pa

    held = pa.table({"x": tensor_column(rows)})
    assert fitted(held, "tabular").features[0].precise
    assert fitted(held.set_column(0, "x", tensor_column(rows.astype("float32"))), "raw").features[0].dtype == "float32"


def fitted(rows: Any, layout: Any) -> Any:
    from maas_magics.core.features.fitting import FitConfig
    from maas_magics.core.features.profile import TableProfile

    profile = TableProfile(rows.schema, FitConfig(layout))
    profile.add(rows)
    return profile.finish(rows, print, {})


def test_quantities_that_are_learnt_as_they_are_stay_what_the_network_says():
    decode = Regression(("y",), (), (0.0,), (1.0,)).decoder()
    outputs = torch.tensor([[1.5], [2.5]])
    assert decode(outputs).dtype == torch.float32 and torch.equal(decode(outputs), outputs[:, 0])


@pytest.mark.parametrize("where", ["memory", "streamed"])
@pytest.mark.parametrize("first", ["2024-03-05 11:22:33.123456", "1961-04-12 06:07:00", "0001-01-03"])
@pytest.mark.parametrize("spread", [1e-3, 3600.0])
def test_dates_near_one_another_are_told_apart_in_every_export(lab, tmp_path, where, first, spread):
    start = np.datetime64(first, "us")
    when = start + (spread * 1e6 * X[:, 0]).round().astype("timedelta64[us]")
    frame = pd.DataFrame({"when": when, "y": X[:, 0]})
    frame.loc[3, "when"] = pd.NaT
    frame.to_parquet(tmp_path / "rows.parquet")
    data, options = (frame, {}) if where == "memory" else (str(tmp_path / "rows.parquet"), {"stream": True})
    lab.train(data, "y", model="linear", **TRAINING | options)
    assert lab.evaluate(frame.drop(index=3))["r2"] > 0.9
    assert lab.export().verification.max_abs_diff < 2e-5
    assert lab.predict(frame).to_numpy()[:, 0] == pytest.approx(standardised(lab, frame), abs=2e-5)


def test_a_version_of_before_counts_days_from_1970():
    import msgspec

    from maas_magics.core.features.modalities.timestamp import NAT
    from maas_magics.core.features.module import Preprocessing
    from maas_magics.core.features.processor import restored

    figures = {"fill": [0.0] * 7, "center": [19_000.0, *[0.0] * 6], "scale": [0.5, *[1.0] * 6]}
    columns = {"columns": [{"type": "moment", "name": "when"}]}
    saved = msgspec.json.encode({"columns": columns, "layout": "tabular", "scaling": figures})
    days = 19_000 + np.array([0.0, 1.5, -20_000.25])
    raw = np.append((days * 86_400e6).astype(np.int64), NAT)[:, None]
    found = Preprocessing(restored(saved))(torch.from_numpy(raw))[0].numpy()
    phases = [wave(2 * np.pi * days / period) for period in (365.2425, 7, 1) for wave in (np.sin, np.cos)]
    expected = np.stack([(days - 19_000) / 2, *phases], axis=1)
    assert found[:3] == pytest.approx(expected, abs=1e-6)
