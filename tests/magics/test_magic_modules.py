"""`%train` with a module of several inputs, or of several heads, in a real shell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

GIVEN = """
import numpy as np, torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.size, self.kind = nn.Embedding(9, 4), nn.Linear(4, 1), nn.Linear(4, 3)
    def forward(self, ids, mask):
        made = (self.table(ids) * mask[..., None]).mean(1)
        return {"size": self.size(made), "kind": self.kind(made)}
rng = np.random.default_rng(0)
rows = {"tokens": rng.integers(0, 9, (48, 5)), "mask": np.ones((48, 5), dtype="float32")}
ys = {"size": rng.normal(size=48), "kind": rng.integers(0, 3, 48)}
net, losses = Net(), {"size": nn.MSELoss()}
"""


@pytest.mark.parametrize(
    "said",
    ["--loss size=l1,kind=cross_entropy", "--loss losses", "--loss mse --target size", ""],
)
def test_losses_and_inputs_are_typed_by_name(cell: Callable[[str], Any], failing: Callable[[str], str], said: str):
    cell(GIVEN)
    line = "--model net --inputs ids=tokens,mask=mask --epochs 1"
    if "--target" in said:
        assert "no column 'size'" in failing(f"%train m --data rows {said} {line}")
        return
    result = cell(f"%train m --data rows ys {said} --loss-weights kind=0.5 {line}")
    assert result.info.target == ("size", "kind")
    assert [spec.name for spec in result.info.signature.inputs] == ["tokens", "mask"]
    assert list(cell("%predict m rows")) == ["size", "kind"]


def test_what_is_no_pair_is_told(cell: Callable[[str], Any], failing: Callable[[str], str]) -> None:
    cell(GIVEN)
    assert "'tokens' is not of the form argument=column" in failing(
        "%train m --data rows ys --model net --inputs tokens"
    )
    assert "not a number" in failing("%train m --data rows ys --model net --loss-weights kind=much")
