"""Modules whose way through their forward hangs on the numbers that they are given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maas_magics.api.errors import ExportError

X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
Y = np.arange(60) % 3


class Condition(nn.Module):
    """A branch by ``torch.cond`` on a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.cond(
            self.layer.bias.sum() > 0, lambda made: made.sin(), lambda made: made * 2, (self.layer(x),)
        )
        return found


class Asking(nn.Module):
    """A branch by an ``if`` on what the rows hold."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        made = self.layer(x)
        if made.abs().max() > 100:
            made = made / 100
        return made


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # which torch's compiler asks for, and hides
@pytest.mark.parametrize("positive", [True, False])
def test_a_condition_is_trained_exported_and_answered(lab, positive):
    net = Condition()
    with torch.no_grad():
        net.layer.bias.fill_(1.0 if positive else -1.0)
    lab.train(X, Y, model=net, epochs=1)
    with torch.no_grad():
        expected = lab.net()(torch.from_numpy(X)).softmax(1).numpy()
    assert np.allclose(lab.predict(X, probabilities=True), expected, atol=1e-6)
    for format in ("onnx", "pt2"):
        assert lab.export(format=format).verification.max_abs_diff < 1e-6


def test_an_if_on_numbers_is_told_with_its_line_and_what_takes_its_place(lab):
    lab.train(X, Y, model=Asking(), epochs=1)
    with pytest.raises(ExportError) as told:
        lab.export()
    assert "if made.abs().max() > 100" in told.value.message and "test_train_branches.py" in told.value.message
    assert "torch.where" in told.value.hint and "torch.cond" in told.value.hint
