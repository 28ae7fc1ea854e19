"""Pictures that a cell trains, and prompts that it draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from maas_magics.core.pictures import Pictures


@pytest.fixture
def squares(ip: InteractiveShell, cell: Callable[[str], Any]) -> Any:
    """A model that draws, trained by a cell."""
    shades = np.arange(40) % 2
    pictures = [np.full((8, 8), 0.2 + 0.6 * shade) for shade in shades]
    words = np.array(["a dark square", "a bright square"])[shades]
    ip.push({"known": pd.DataFrame({"picture": pictures, "caption": words})})
    return cell(
        "%train squares --data known --target picture --text caption --model flow --set width=32 layers=1 --epochs 1"
    )


def test_a_cell_trains_and_a_prompt_in_quotes_is_drawn(squares: Any, cell: Callable[[str], Any]) -> None:
    assert squares.info.task == "denoising" and squares.info.draws
    drawn = cell('%predict squares "a dark square" --seed 1 --steps 2 --guidance 3')
    assert isinstance(drawn, Pictures) and drawn.captions == ["a dark square"]
    assert drawn.array.shape == (1, 8, 8)
    again = cell("%predict squares ['a dark square', 'a bright square'] --seed 1 --steps 2 --guidance 3")
    assert len(again) == 2 and np.abs(again.array[0].astype(int) - drawn.array[0]).max() <= 1
    exported = cell("%export squares --compress int8 --max-drop 50%")
    assert exported.variant == "int8"
    assert cell('%predict squares@int8 "a dark square"').model == "squares:1@int8"


def test_rows_in_a_cell_and_in_a_table_are_shown_with_their_captions(
    squares: Any, cell: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    found = cell("%%predict squares --steps 1\ncaption\na dark square\na bright square")
    assert len(found) == 2 and all(value.startswith(b"\x89PNG") for value in found["prediction"])
    assert "row 1: a bright square" in capsys.readouterr().out
    scored = cell("%evaluate squares --data known")
    assert scored.rows == 40 and scored["rmse"] > 0


def test_what_a_line_cannot_ask_is_refused_in_two_lines(squares: Any, failing: Callable[[str], str]) -> None:
    assert "steps is 0; 1 to 100 was expected" in failing('%predict squares "a dark square" --steps 0')
    assert "guidance is 99" in failing('%predict squares "a dark square" --guidance 99')
    assert "No column holds captions" in failing(
        "%train other --data known[['picture']] --target picture --model flow --epochs 1"
    )
