"""Pictures on a magic's line: left out where they are bad, varied in training, and shown with what is predicted."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from IPython.utils.capture import capture_output
from PIL import Image


def test_options_are_typed_and_predictions_shown(
    ip: Any, cell: Callable[[str], Any], failing: Callable[[str], str]
) -> None:
    def picture(value: int) -> bytes:
        stream = io.BytesIO()
        Image.new("RGB", (12, 12), (value, 40, 60)).save(stream, "PNG")
        return stream.getvalue()

    rows = pd.DataFrame({"picture": [picture(30 + 4 * i) for i in range(40)], "label": ["a", "b"] * 20})
    rows.at[3, "picture"] = b"not a picture"
    ip.user_ns.update(rows=rows, good=rows.drop(3), x=np.zeros((40, 8, 8), dtype=np.float32))
    assert "--max-bad 1%" in failing("%train scene --data rows --target label --epochs 1")
    line = "%train scene --data rows --target label --epochs 1 --max-bad 5%"
    assert cell(f"{line} --augment flip,crop=0.2").info.ref == "scene:1"
    assert cell(f'{line} --augment "flip, color"').info.ref == "scene:2"
    assert cell(f"{line} --augment flip color --model resnet --set channels=[8,16]").info.architecture == "resnet"
    assert cell("%evaluate scene --data rows --max-bad 5%").rows == 39
    with capture_output() as shown:
        found = cell("%predict scene good")
    assert len(found) == 39
    (html,) = [output.data["text/html"] for output in shown.outputs if "text/html" in output.data]
    assert html.count("<img") == 12
    with capture_output() as shown:
        cell("%train t --data x rows.label --epochs 1 --model linear")
        cell("%predict t x")
    assert not any("<img" in output.data.get("text/html", "") for output in shown.outputs)


@pytest.mark.parametrize(
    ("words", "said"), [("--augment flop", "no way 'flop'"), ("--max-bad lots", "max bad is lots")]
)
def test_slips_are_told(words: str, said: str, ip: Any, failing: Callable[[str], str]) -> None:
    ip.user_ns.update(rows=pd.DataFrame({"a": range(30), "y": [0, 1] * 15}))
    assert said in failing(f"%train t --data rows --target y {words}")
