"""Names that both sides have are names; whole numbers that a model's type does not hold are told, not wrapped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from maas_magics.api.errors import DataError

RNG = np.random.default_rng(8)
X = RNG.normal(size=(64, 3)).astype("float32")
FRAME = pd.DataFrame(X, columns=list("abc")).assign(y1=X[:, 0], y2=10 + X[:, 1])
LISTS = [RNG.integers(1, 9, RNG.integers(1, 20)).tolist() for _ in range(120)]
MEANS = np.array([np.mean(row) for row in LISTS], dtype="float32")


class Turned(nn.Module):
    """Lists its outputs the other way round than the targets."""

    def __init__(self) -> None:
        super().__init__()
        self.p, self.q = nn.Linear(3, 1), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"y2": self.p(x), "y1": self.q(x)}


@pytest.mark.parametrize("form", ["columns", "dict"])
def test_targets_go_to_the_outputs_of_their_names_whatever_these_are(lab: Any, form: str) -> None:
    net = Turned()
    torch.manual_seed(0)
    data, target = (FRAME, ["y1", "y2"]) if form == "columns" else (X, {"y1": FRAME["y1"], "y2": FRAME["y2"]})
    lab.train(data, target, model=net, epochs=80, lr=0.3, seed=0)
    found = lab.predict(data)
    assert abs(np.mean(np.asarray(found["y2"])) - 10) < 3 and abs(np.mean(np.asarray(found["y1"]))) < 3
    again = {"y2": FRAME["y2"], "y1": FRAME["y1"]} if form == "dict" else ["y2", "y1"]
    assert lab.evaluate(data, again).values == pytest.approx(lab.evaluate(data, target).values)


def test_a_target_that_is_called_as_the_probabilities_of_another_is_refused(lab: Any) -> None:
    kinds = (X[:, 0] > 0).astype(int)
    with pytest.raises(DataError, match="as the probabilities of the target 'k' are"):
        lab.train(X, {"k": kinds, "k_probabilities": X[:, 1]}, model=Turned())


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x.float().sum(1, keepdim=True))
        return found


@pytest.mark.parametrize("odd", [256, -1])
def test_whole_numbers_that_the_type_does_not_hold_are_told(lab: Any, odd: int) -> None:
    small = RNG.integers(0, 255, (64, 3)).astype("uint8")
    lab.train({"x": small}, small.sum(1).astype("float32"), model=Sum())
    assert len(lab.predict({"x": np.array([[255, 0, 0]])})) == 1
    with pytest.raises(DataError, match=f"{odd}, which uint8 does not hold"):
        lab.predict({"x": np.array([[odd, 0, 0]])})
    rows = [np.array(row, dtype="uint8") for row in LISTS]
    lab.train({"x": rows}, MEANS, model=Sum(), name="lists")
    with pytest.raises(DataError, match=f"{odd}, which uint8 does not hold"):
        lab.predict({"x": [[odd], [1, 2]]}, "lists")


def test_lists_of_floats_keep_their_digits(lab: Any) -> None:
    class Level(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.layer((x[:, :1] - 1e9).float())
            return found

    drawn = RNG.normal(size=80)
    rows = {"x": [[1e9 + value, *[0.0] * (place % 3)] for place, value in enumerate(drawn)]}
    result = lab.train(rows, (3 * drawn).astype("float32"), model=Level(), epochs=60, lr=0.1)
    assert result.metrics["r2"] > 0.9 and result.info.signature.inputs[0].datatype == "FP64"


def test_missing_numbers_of_lists_are_told_however_they_are_given(lab: Any) -> None:
    rows = [RNG.normal(size=1 + place % 8).tolist() for place in range(80)]
    lab.train({"x": rows}, np.arange(80, dtype="float32"), model=Sum())
    gaps: list[Any] = [[[float("nan"), 1.0], [2.0]], [[None, 1.0], [2.0]], [None, [2.0]]]
    for bad in gaps:
        for data in ({"x": bad}, pd.DataFrame({"x": bad})):
            with pytest.raises(DataError, match="missing values among its lists"):
                lab.predict(data)
    with pytest.raises(DataError, match="missing values among its lists"):
        lab.train({"x": [[float("nan"), 1.0], *rows[1:]]}, np.arange(80, dtype="float32"), model=Sum())


def test_empty_lists_are_answered_alone_as_in_company(lab: Any) -> None:
    lab.train({"ids": LISTS}, MEANS, model=Padded(masks=True))
    beside = np.asarray(lab.predict({"ids": [[], [1]]})).ravel()
    for alone in ({"ids": [[]]}, pd.DataFrame({"ids": [[]]})):
        found = lab.predict(alone)
        found = found["prediction"] if isinstance(found, pd.DataFrame) else found
        assert np.asarray(found).ravel() == pytest.approx(beside[:1], abs=1e-5)


class Padded(nn.Module):
    def __init__(self, masks: bool) -> None:
        super().__init__()
        self.masks, self.table, self.layer = masks, nn.Embedding(9, 4), nn.Linear(4, 1)

    def forward(self, ids: Tensor) -> Tensor:
        there = (ids != 0) if self.masks else torch.ones_like(ids)
        found: Tensor = self.layer(
            (self.table(ids) * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1)
        )
        return found


@pytest.mark.parametrize("masks", [True, False])
def test_a_module_that_counts_padding_is_told(lab: Any, masks: bool) -> None:
    torch.manual_seed(0)
    lab.train({"ids": LISTS}, MEANS, model=Padded(masks), epochs=5, lr=0.05)
    assert any("the padding behind it" in text for text in lab.messages) != masks


def test_a_row_whose_array_is_missing_is_answered_alone_as_in_company(lab: Any) -> None:
    frame = pd.DataFrame(
        {"a": RNG.normal(size=60), "v": [None if i % 4 == 0 else RNG.normal(size=3).tolist() for i in range(60)]}
    )
    lab.train(frame.assign(y=frame["a"]), "y")
    together = lab.predict(frame)["prediction"].to_numpy()
    assert lab.predict(frame.iloc[[0]])["prediction"].to_numpy() == pytest.approx(together[:1], abs=1e-6)


def test_one_column_for_two_arguments_is_told(lab: Any) -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            found: Tensor = self.layer(q * k)
            return found

    with pytest.raises(DataError, match="'x' is given to 'q' and to 'k'"):
        lab.train({"x": X}, X[:, 0], model=Both(), inputs={"q": "x", "k": "x"})
