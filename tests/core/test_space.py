"""What a sweep's line says, and what it cannot say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from maas_magics.api.errors import MaasError, OptionError
from maas_magics.api.requests import TrainRequest
from maas_magics.api.space import Choices, Range, with_values
from maas_magics.core.training.spaces import check_space
from maas_magics.sweeps.parse import parse_space


@pytest.mark.parametrize(
    ("line", "space"),
    [
        ("lr=1e-4..1e-1 log", {"lr": Range(low=1e-4, high=0.1, log=True)}),
        ("lr=1..2", {"lr": Range(low=1, high=2)}),
        ("epochs=5..50", {"epochs": Range(low=5, high=50, whole=True)}),
        ("members=2..32 log int", {"members": Range(low=2, high=32, whole=True, log=True)}),
        ("batch_size=32..256 step=32", {"batch_size": Range(low=32, high=256, whole=True, step=32)}),
        ("dropout=0..0.5 step=0.1", {"dropout": Range(low=0, high=0.5, step=0.1)}),
        ("x=1.0..4.0 int", {"x": Range(low=1, high=4, whole=True)}),
        ("x=-2..-1", {"x": Range(low=-2, high=-1, whole=True)}),
        ("hidden=[64, 128,256]", {"hidden": Choices((64, 128, 256))}),
        ("hidden=[(64, 64), [8, 8], None]", {"hidden": Choices(((64, 64), [8, 8], None))}),
        ("optimizer=['SGD', \"Adam, W\"]", {"optimizer": Choices(("SGD", "Adam, W"))}),
        (" lr=.1...2 , x=[1], ", {"lr": Range(low=0.1, high=0.2), "x": Choices((1,))}),
    ],
)
def test_a_line(line: str, space: dict[str, Any]) -> None:
    assert parse_space(line) == space


@pytest.mark.parametrize(
    ("line", "told", "hint"),
    [
        ("", "The sweep names no parameter.", "lr=1e-4..1e-1 log"),
        ("lr", "'lr' is not of the form NAME=VALUES.", "For example"),
        ("lr=1..2, 1x=3..4", "'1x=3..4' is not of the form NAME=VALUES.", "For example"),
        ("lr=", "lr: '' is neither a range nor choices.", "lr=0.1..0.9"),
        ("lr=0.1", "lr: '0.1' is neither a range nor choices.", "lr=[0.1]"),
        ("lr=a..1", "lr: 'a' is not a number.", "lr=1e-4..1e-1"),
        ("lr=1e-4.. log", "lr: '' is not a number.", ""),
        ("lr=1e-4..inf", "lr: 'inf' is not a number.", ""),
        ("lr=2..1", "lr: 2..1 does not go up.", "lr=1..2"),
        ("lr=0..1 log", "lr: 0 has no logarithm.", "lr=1e-4..1 log"),
        ("lr=1..2 lgo", "lr: 'lgo' is none of log, int, step=….", "lr=1..2 log"),
        ("x=1.5..3 int", "x: 1.5..3 has ends that are not whole.", "Drop int"),
        ("x=1..3 step=0.5", "x: step=0.5 does not fit 1..3.", "x=1..3 step=1"),
        ("x=1..3 step=9", "x: step=9 does not fit 1..3.", ""),
        ("x=1..3 log step=1", "x: step=1 does not go with log.", ""),
        ("x=1..3 step=-1", "x: step=-1 does not fit 1..3.", ""),
        ("x=[]", "x: [] holds no choices.", "x=[64"),
        ("x=[1, 2, 1]", "x: 1 is given twice.", "Drop one"),
        ("optimizer=[SGD, Adam]", "optimizer: SGD is not a Python literal.", "Write 'SGD', with quotes."),
        ("x=[1, f(2)]", "x: f(2) is not a Python literal.", "x=[64"),
        ("x=[1, 2", "'x=[1, 2' has unequal brackets.", ""),
        ("x=['a]", '"x=[\'a]" has an open quote.', ""),
        ("lr=1..2, lr=2..3", "'lr' is given twice.", "once"),
    ],
)
def test_an_error_points_at_the_wrong_part(line: str, told: str, hint: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_space(line)
    assert caught.value.message == told and hint in caught.value.hint


@given(st.text())
def test_no_line_at_all_breaks_it(line: str) -> None:
    try:
        space = parse_space(line)
    except OptionError:
        return
    assert space


REQUEST = TrainRequest(name="m", data=[[1.0]], target="y")


def test_values_are_options_or_hyperparameters() -> None:
    made = with_values(TrainRequest(name="m", data=0, params={"bins": 4, "dropout": 0.3}), {"lr": 0.1, "dropout": 0.2})
    assert made.lr == 0.1 and made.params == {"bins": 4, "dropout": 0.2}


@pytest.mark.parametrize(
    ("line", "options", "told", "hint"),
    [
        ("drop=0.0..0.5", {"model": "mlp"}, "mlp has a hyperparameter 'drop'", "Did you mean 'dropout'?"),
        ("drop=0.0..0.5", {}, "No architecture has a hyperparameter 'drop'", "Did you mean 'dropout'?"),
        ("dropout=0..1", {}, "dropout is a real number, and 0..1 are whole ones.", "dropout=0.0..1.0"),
        ("channels=[8, 16]", {"model": "mlp"}, "mlp has a hyperparameter 'channels'", ""),
        ("model=['mlp', 'linear'], members=2..8", {}, "linear has a hyperparameter 'members'", ""),
        ("model=['mlq']", {}, "mlq", "Did you mean 'mlp'?"),
        ("hidden=[8]", {"model": nn.Linear(1, 1)}, "A module has no hyperparameter 'hidden'", "Sweep lr"),
        ("epochs=1.5..3", {}, "epochs is a whole number.", "epochs=1..3"),
        ("epochs=0..3", {}, "epochs is 0; at least 1 was expected.", ""),
        ("epochs=['many']", {}, "epochs: 'many' is not a whole number.", ""),
        ("lr=['fast']", {}, "lr: 'fast' is not a number.", ""),
        ("lr=-1..1", {}, "lr is -1", ""),
        ("optimizer=['Adan']", {}, "torch.optim has no optimizer 'Adan'.", "Adam"),
        ("optimizer=1..2", {}, "optimizer is not a number.", "optimizer=["),
        ("optimizer=[1]", {}, "optimizer: 1 is not a name.", ""),
        ("schedule=['cosin']", {}, "There is no schedule 'cosin'.", "Did you mean 'cosine'?"),
        ("loss=['mse', 'l9']", {"monitor": "rmse"}, "There is no loss 'l9'.", ""),
        ("loss=['mse', 'l1']", {}, "Trials with another loss cannot be compared by their loss.", "--monitor"),
        ("label_smoothing=0.0..0.2", {"monitor": "loss"}, "another label smoothing cannot be compared", "--monitor"),
    ],
)
def test_a_space_that_cannot_be_meant_is_told_before_the_first_trial(
    line: str, options: dict[str, Any], told: str, hint: str
) -> None:
    request = TrainRequest(name="m", data=[[1.0]], target="y", **options)
    with pytest.raises(MaasError) as caught:
        check_space(request, parse_space(line))
    assert told in caught.value.message and hint in caught.value.hint


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("lr=1e-4..1e-1 log, hidden=[64, 128, (64, 64)], dropout=0.0..0.5, epochs=5..10", {}),
        ("channels=[8, (8, 16)]", {}),
        ("optimizer=['sgd', 'AdamW'], schedule=['cosine', 'constant'], weight_decay=0..1", {"model": "linear"}),
        ("loss=['mse', 'l1']", {"monitor": "rmse"}),
        ("model=['mlp', 'linear'], lr=0.001..0.1", {}),
        ("lr=0.001..0.1", {"model": nn.Linear(1, 1)}),
    ],
)
def test_a_space_that_can_be_meant(line: str, options: dict[str, Any]) -> None:
    check_space(TrainRequest(name="m", data=[[1.0]], target="y", **options), parse_space(line))
