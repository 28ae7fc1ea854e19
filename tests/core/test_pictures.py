"""Columns of pictures: what is bad in them, what is made of them in training, and networks for them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import maas_magics as maas
from maas_magics.api.errors import DataError, OptionError

N = 60


def picture(value: int, side: int = 16, kind: str = "PNG", seed: int = 0) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 40, (side, side, 3), dtype=np.uint8) + np.uint8(value)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, kind)
    return stream.getvalue()


def scenes(n: int = N) -> pd.DataFrame:
    label = np.arange(n) % 2
    return pd.DataFrame(
        {
            "picture": [picture(30 + 150 * y, seed=i) for i, y in enumerate(label)],
            "label": np.where(label == 1, "day", "night"),
        }
    )


def broken(rows: pd.DataFrame, *places: int) -> pd.DataFrame:
    rows = rows.copy()
    for place in places:
        rows.at[place, "picture"] = rows.at[place, "picture"][: 60 + place]
    return rows


def test_bad_files_are_left_out_up_to_a_share(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = broken(scenes(), 4, 11)
    rows.at[20, "picture"] = "/nowhere/x.png"
    with pytest.raises(DataError) as caught:
        maas.train("scene", rows, "label", epochs=1)
    assert "--max-bad 1%" in caught.value.hint
    with pytest.raises(DataError, match="3 of 60 rows have files that cannot be read.*row 4.*row 11.*x.png") as caught:
        maas.train("scene", rows, "label", epochs=1, max_bad=0.04)
    assert "--max-bad 5%" in caught.value.hint
    trained = maas.train("scene", rows, "label", epochs=6, lr=5e-3, max_bad="5%")
    assert any("3 of 60 rows are left out" in note for note in trained.notes)
    good = rows.drop([4, 11, 20])
    assert maas.train("scene", good, "label", epochs=6, lr=5e-3).history == trained.history
    with pytest.raises(DataError) as caught:
        maas.evaluate("scene", rows)
    assert "--max-bad 1%" in caught.value.hint
    found = maas.evaluate("scene", rows, max_bad="5%")
    assert found.rows == 57 and found.values == maas.evaluate("scene", good).values
    with pytest.raises(DataError) as caught:
        maas.predict("scene", rows)
    assert "--max-bad" not in caught.value.hint  # each row is answered


def test_bad_files_of_rows_that_are_held_out_by_themselves(store: Path, tmp_path: Path) -> None:
    rows, held = scenes(), broken(scenes(20), 3)
    with pytest.raises(DataError, match="cannot be decoded|not a picture"):
        maas.train("scene", rows, "label", validation=held, epochs=1)
    trained = maas.train("scene", rows, "label", validation=held, epochs=2, max_bad="10%")
    assert trained.metrics
    for i, data in enumerate(held.picture):
        (tmp_path / f"{i}.png").write_bytes(data)
    table = tmp_path / "rows.csv"
    held.assign(picture=[str(tmp_path / f"{i}.png") for i in range(20)]).to_csv(table, index=False)
    with pytest.raises(DataError, match="row 3"):
        maas.evaluate("scene", str(table))
    assert maas.evaluate("scene", str(table), max_bad="5%").rows == 19


@pytest.mark.parametrize("share", ["lots", "100%", -0.1, 1])
def test_a_share_that_is_none_is_told(share: Any, store: Path) -> None:
    with pytest.raises(OptionError, match="a share of the rows below 1"):
        maas.train("scene", scenes(4), "label", max_bad=share)
