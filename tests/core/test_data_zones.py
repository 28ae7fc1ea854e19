"""Times with a zone and times without one, in training and in what is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from maas_magics.api.requests import PredictRequest

HOURS = pd.date_range("2024-01-01", periods=60, freq="h")
ZONE = "Europe/Berlin"


def rows(when: Any) -> pd.DataFrame:
    return pd.DataFrame({"when": when, "y": np.arange(60.0)})


NAIVE = {
    "pandas": rows(HOURS),
    "texts": rows(HOURS.strftime("%Y-%m-%dT%H:%M:%S")),
    "dates": pa.table({"when": HOURS.date, "y": np.arange(60.0)}),
    "polars": pl.DataFrame({"when": HOURS.to_list(), "y": np.arange(60.0)}),
    "numpy": {"when": HOURS.to_numpy(), "y": np.arange(60.0)},
}
AWARE = {
    "pandas": rows(HOURS.tz_localize(ZONE)),
    "texts": rows(HOURS.strftime("%Y-%m-%dT%H:%M:%S+01:00")),
    "utc texts": rows(HOURS.strftime("%Y-%m-%dT%H:%M:%SZ")),
    "arrow": pa.table({"when": pa.array(HOURS.tz_localize(ZONE)), "y": np.arange(60.0)}),
    "objects": rows(np.array(HOURS.tz_localize(ZONE).to_pydatetime(), dtype=object)),
}


def warned(lab: Any, data: Any) -> tuple[str, ...]:
    return lab.session.backend.predict(PredictRequest(model="m", data=data)).warnings


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("learnt", ["pandas", "texts"])
def test_times_whose_zone_was_assumed_are_named_in_the_answer(lab, tmp_path, learnt, stream):
    for known, like, other in ((AWARE[learnt], AWARE, NAIVE), (NAIVE[learnt], NAIVE, AWARE)):
        data: Any = known
        if stream:
            data = str(tmp_path / "rows.parquet")
            known.to_parquet(data)
        lab.train(data, "y", stream=stream)
        assert [name for name, asked in like.items() if warned(lab, asked)] == []
        told = {name: warned(lab, asked) for name, asked in other.items()}
        assert {name: len(texts) for name, texts in told.items()} == dict.fromkeys(other, 1)
        assert all("'when'" in texts[0] and "UTC" in texts[0] for texts in told.values())
    assert ZONE in warned(lab, AWARE["pandas"])[0]


def test_what_was_assumed_is_told_once_by_predict_and_by_evaluate(lab):
    said: list[str] = []
    lab.session._notify = said.append
    lab.train(rows(HOURS.tz_localize(ZONE)), "y")
    lab.predict(rows(HOURS), batch_size=7)
    assert [text for text in said if "without a zone" in text] == [
        "Times without a zone in column 'when' were taken as UTC; the model learnt times in Europe/Berlin. "
        "Where they are meant so: df['when'].dt.tz_localize(\"Europe/Berlin\")"
    ]
    held = rows(HOURS + pd.Timedelta(days=9))
    lab.train(rows(HOURS.tz_localize(ZONE)), "y", validation=held)
    assert any("taken as UTC" in text for text in lab.messages)


def test_missing_times_and_models_of_before_assume_nothing(lab):
    lab.train(rows(HOURS.tz_localize(ZONE)), "y")
    assert not any("zone" in text for text in warned(lab, rows(pd.NaT)))
    from maas_magics.core.features.modalities.timestamp import Timestamp
    from maas_magics.core.features.processor import Processor

    processor = Processor.of([Timestamp("when")], "tabular")
    assert processor.cautions(pa.table({"when": HOURS.to_numpy()})) == []
