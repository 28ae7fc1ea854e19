"""Models side by side."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

import maas_magics as maas
from maas_magics.api.errors import ModelNotFound, OptionError
from maas_magics.session import current
from maas_magics.widgets.compare import comparison_bundle

X = np.random.default_rng(0).normal(size=(80, 3)).astype("float32")
Y = X[:, 0] - X[:, 1]
QUICK: dict[str, Any] = {"data": X, "target": Y, "model": "linear"}

pytestmark = pytest.mark.usefixtures("lab")


def test_figures_sizes_and_times_are_those_of_the_models() -> None:
    first = maas.train("a", epochs=3, **QUICK)
    second = maas.train("a", epochs=5, monitor="r2", lr=0.1, **QUICK)
    maas.alias("a:1", "old")
    found = maas.compare("a@old", "a")
    assert isinstance(found.table, pd.DataFrame) and list(found.table.model) == ["a:1", "a:2"]
    assert list(found.table.epochs) == [3, 5] and list(found.table.best_epoch) == [first.best_epoch, second.best_epoch]
    for name in ("loss", "rmse", "r2"):
        assert list(found.table[f"val_{name}"]) == [first.metrics[name], second.metrics[name]]
    assert list(found.table.seconds) == [first.seconds, second.seconds]
    files = [p for p in (current().backend.models.folder("a", 1)).rglob("*") if p.is_file()]
    assert found.table.bytes[0] == sum(path.stat().st_size for path in files)
    assert [record.history for record in found.records] == [first.history, second.history]
    assert [record.plan["monitor"] for record in found.records] == ["loss", "r2"]
    text = repr(found)
    assert "a:1" in text and "validation rmse" in text and "5" in text and "kB" in text
    assert "<table" in found._repr_html_() and "seconds" in found._repr_html_()


def test_the_picture_has_every_model_and_the_monitored_figure() -> None:
    for name, monitor in (("one", "loss"), ("two", "mae")):
        maas.train(name, epochs=4, monitor=monitor, **QUICK)
    records = maas.compare("one", "two").records
    bundle = comparison_bundle(records)
    assert bundle is not None
    data, metadata = bundle
    assert b64decode(data["image/png"]).startswith(b"\x89PNG") and metadata["image/png"]["alt"] == data["text/plain"]
    assert data["text/plain"] == "curves of one:1, two:1" and "curves of one:1, two:1" in data["image/svg+xml"]
    assert comparison_bundle(records) == bundle, "the same models give the same picture"
    from maas_magics.widgets.compare import draw_records

    panels = draw_records(records).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["loss", "mae"]
    drawn = [line.get_ydata().tolist() for line in panels[0].lines]
    for record in records:
        assert record.history["loss"] in drawn and record.history["val_loss"] in drawn


def test_models_of_several_tasks_share_the_loss_alone() -> None:
    maas.train("a", epochs=2, **QUICK)
    maas.train("b", X, (Y > 0).astype(int), model="linear", epochs=1)
    found = maas.compare("a", "b")
    assert np.isnan(found.table.val_rmse[1]) and np.isnan(found.table.val_accuracy[0])
    from maas_magics.widgets.compare import draw_records

    assert len(draw_records(found.records).axes) == 1


def test_figures_that_are_no_numbers_leave_a_gap() -> None:
    maas.train("a", epochs=3, **QUICK)
    record = maas.compare("a").records[0]
    record = msgspec.structs.replace(record, history={"loss": [1.0, None, 0.5], "val_loss": [None, None, None]})
    assert comparison_bundle([record]) is not None
    assert comparison_bundle([msgspec.structs.replace(record, history={})]) is None


def test_what_cannot_be_compared_is_told() -> None:
    maas.train("a", epochs=1, **QUICK)
    with pytest.raises(ModelNotFound, match="There is no model 'nobody'"):
        maas.compare("a", "nobody")
    with pytest.raises(OptionError, match="a:1 was named twice"):
        maas.compare("a", "a:1")
    with pytest.raises(OptionError, match="No model was named"):
        maas.compare()
