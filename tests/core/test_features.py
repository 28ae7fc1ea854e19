"""Columns are fitted the same in one go, a part at a time, and by several who each read some of the rows."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from maas_magics.api.errors import DataError
from maas_magics.core.data.origin import came_from
from maas_magics.core.data.sources import open_source
from maas_magics.core.data.sources.arrays import column as tensor_column
from maas_magics.core.features.fitting import FitConfig
from maas_magics.core.features.module import Preprocessing, entered
from maas_magics.core.features.processor import Processor, restored, saved
from maas_magics.core.features.profile import TableProfile
from maas_magics.core.features.scaling import Scaling

N = 600
RNG = np.random.default_rng(5)
GONE = RNG.random(N) < 0.2
TABLE = pd.DataFrame(
    {
        "plain": RNG.normal(3e5, 0.1, N),
        "gaps": np.where(GONE, np.nan, RNG.lognormal(0, 2, N)),
        "whole": RNG.integers(0, 9, N),
        "flag": RNG.random(N) < 0.3,
        "one": 1.0,
        "nothing": None,
        "kind": RNG.choice(["a", "b", "c", None], N),
        "code": [f"{i:05}" for i in range(N)],
        "day": pd.Timestamp("2024-02-01") + pd.to_timedelta(RNG.integers(0, 10**6, N), unit="min"),
        "zoned": (pd.Timestamp("1999-01-01", tz="Asia/Tokyo") + pd.to_timedelta(np.arange(N), unit="h")).where(~GONE),
        "written": pd.date_range("2020-01-01", periods=N).astype(str),
        "took": pd.to_timedelta(RNG.integers(0, 10**4, N), unit="s"),
    }
)
LAYOUTS = ("tabular", "flat")


def arrow(frame: pd.DataFrame) -> pa.Table:
    source = open_source(frame)
    came_from(source)
    return source.table().append_column(
        "wide", tensor_column(np.stack([frame["plain"], frame["whole"]], axis=1), "wide")
    )


WHOLE = arrow(TABLE)


def fitted(parts: list[list[pa.Table]], sample: pa.Table, fit: FitConfig) -> tuple[Processor, list[str]]:
    """What several profiles find, each of which reads some parts; and what is told."""
    profiles = []
    for own in parts:
        profile = TableProfile(WHOLE.schema, fit)
        for part in own:
            profile.add(part)
        profiles.append(profile)
    for other in profiles[1:]:
        profiles[0].merge(other)
    told: list[str] = []
    return profiles[0].finish(sample, told.append, {}), told


def cut(*ends: int) -> list[pa.Table]:
    return [WHOLE.slice(start, end - start) for start, end in zip((0, *ends), (*ends, N), strict=True)]


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "parts",
    [[cut(7, 300)], [[part] for part in cut(250, 251)], [cut(100)[:1], [], cut(100)[1:]]],
    ids=["a part at a time", "three", "one of them reads nothing"],
)
def test_however_rows_are_read_the_same_is_fitted(parts: Any, layout: Any, scale: bool) -> None:
    expected, said = fitted([[WHOLE]], WHOLE, FitConfig(layout, scale))
    found, told = fitted(parts, WHOLE, FitConfig(layout, scale))
    assert told == said
    assert found.names == expected.names and found.indicators == expected.indicators
    assert "kind" in found.names and not {"nothing", "code"} & set(found.names)
    for one, other in zip(found.features, expected.features, strict=True):
        plain = [
            msgspec.structs.replace(f, **({"scaling": Scaling()} if f.joins == "numbers" else {})) for f in (one, other)
        ]
        assert plain[0] == plain[1]
    for one, other in zip(found.numbers, expected.numbers, strict=True):
        for name in ("fill", "center", "scale"):
            assert getattr(one.scaling, name) == pytest.approx(getattr(other.scaling, name), rel=1e-8, abs=1e-9)
    raw = found.encode(WHOLE)
    ours, theirs = (Preprocessing(one)(*entered(one, raw)) for one in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_days_count_from_the_first_that_anybody_read() -> None:
    """Rows in which no time is known come first."""
    late = arrow(TABLE.assign(zoned=TABLE["zoned"].where(np.arange(N) > 300)))
    parts = [[late.slice(0, 200)], [late.slice(200)]]
    found, _ = fitted(parts, late, FitConfig("tabular"))
    expected, _ = fitted([[late]], late, FitConfig("tabular"))
    one, other = (next(f for f in p.numbers if f.name == "zoned") for p in (found, expected))
    assert one.scaling.center == pytest.approx(other.scaling.center, rel=1e-9)
    assert one.origin == other.origin > 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("layout", [*LAYOUTS, "raw"])
def test_what_is_fitted_is_saved_and_restored(layout: Any) -> None:
    table = WHOLE.select(["plain", "kind", "day", "wide"])
    profile = TableProfile(table.schema, FitConfig(layout))
    profile.add(table)
    processor = profile.finish(table, print, {})
    assert restored(saved(processor)) == processor


def test_a_kind_of_column_that_is_not_installed_is_named() -> None:
    with pytest.raises(ValueError, match="'hologram'"):
        restored(b'{"features": [{"type": "hologram", "name": "x"}], "layout": "raw"}')


def test_a_profile_that_found_nothing_of_use_says_why() -> None:
    table = WHOLE.select(["one", "nothing"])
    profile = TableProfile(table.schema, FitConfig("tabular"))
    profile.add(table)
    with pytest.raises(DataError, match="No column is usable"):
        profile.finish(table, lambda text: None, {})
