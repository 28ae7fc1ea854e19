"""What a loss of the user's is least at, for quantities: the target, or something that answers are told to be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional

from maas_magics.core.losses.own import Form, OwnLoss
from maas_magics.core.losses.units import best_outputs

N = 60
X = np.random.default_rng(0).normal(size=(N, 4)).astype("float32")
Z = X @ np.array([1, -2, 0.5, 1.0])
DRAWN = torch.Generator().manual_seed(0)
REAL, MAP = 2 * torch.randn(N, 1, generator=DRAWN) + 1, 5.4e6 + torch.randn(N, 1, generator=DRAWN)
MORE = 4 * torch.rand(N, 1, generator=DRAWN) + 0.5
COUNTS, SHARE = (2 * MORE - 1).floor(), 0.9 * torch.rand(N, 1, generator=DRAWN) + 0.05
PARTS = torch.randn(N, 3, generator=DRAWN).softmax(1)


def concordance(o: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    both = 2 * ((o - o.mean()) * (t - t.mean())).mean()
    return 1 - both / (o.var(correction=0) + t.var(correction=0) + (o.mean() - t.mean()) ** 2)


@pytest.mark.parametrize(
    ("target", "loss"),
    [
        (REAL, lambda o, t: (o - t).square().mean()),
        (MAP, lambda o, t: (o - t).square().mean()),
        (MAP, lambda o, t: (o - t).abs().mean()),
        (REAL, lambda o, t: functional.huber_loss(o, t)),
        (REAL, lambda o, t: torch.log(torch.cosh(o - t)).mean()),
        (REAL, lambda o, t: torch.maximum(0.9 * (t - o), 0.1 * (o - t)).mean()),
        (REAL, lambda o, t: (o - t).square().mean().sqrt()),
        (REAL, lambda o, t: (o - t).square().mean() + 0.1 * o.square().mean()),
        (REAL, lambda o, t: ((o - t) * (torch.rand_like(o) > 0.2)).square().mean()),
        (REAL, lambda o, t: (torch.tensor([1.0]) * (o - t)).square().mean()),
        (REAL, concordance),
        (MORE, lambda o, t: ((o - t) / t).abs().mean()),
        (COUNTS, lambda o, t: (o.clamp(min=0).log1p() - t.log1p()).square().mean()),
        (PARTS, lambda o, t: (o - t).square().sum(1).mean()),
        (REAL, lambda o, t: o.sum() * 0 + 1),
        (REAL, lambda o, t: o.sum() * float("nan")),
        (torch.full((N, 1), 3.0), lambda o, t: (o - t).square().mean()),
    ],
)
def test_of_a_loss_that_is_least_at_the_target_nothing_is_said(target, loss):
    assert best_outputs(OwnLoss(loss, Form(target.shape[1:], target.shape[1:])), target * 0, target) == ("", "")


def test_a_loss_that_fails_where_it_is_tried_is_left_alone():
    def fails(o, t):
        raise ValueError

    assert best_outputs(OwnLoss(fails, Form((1,), (1,))), REAL, REAL) == ("", "")


@pytest.mark.parametrize(
    ("target", "loss", "link", "what"),
    [
        (COUNTS, lambda o, t: (o.exp() - t * o).mean(), "exp", "the target's logarithm"),
        (COUNTS, lambda o, t: (torch.exp(o.clamp(-9, 9)) - t * o).mean(), "exp", "the target's logarithm"),
        (MORE, lambda o, t: (o + t * torch.exp(-o)).mean(), "exp", "the target's logarithm"),
        (MORE, lambda o, t: (o.exp() - t).square().mean(), "exp", "the target's logarithm"),
        (SHARE, lambda o, t: (o.sigmoid() - t).square().mean(), "sigmoid", "the target's logit"),
        (PARTS, lambda o, t: -(t * o.log_softmax(1)).sum(1).mean(), "softmax", "the target's logarithm"),
        (MORE, lambda o, t: (o - t.log()).square().mean(), "", "the target's logarithm"),
        (COUNTS, lambda o, t: (o - t.log1p()).square().mean(), "", "log(1 + target)"),
        (MORE, lambda o, t: (functional.softplus(o) - t).square().mean(), "", "log(exp(target) − 1)"),
        (MORE, lambda o, t: (o.square() - t).square().mean(), "", "the target's square root"),
        (REAL, lambda o, t: functional.mse_loss(-o, t), "", "minus the target"),
        (MAP, lambda o, t: (o + t).square().mean(), "", "minus the target"),
        (SHARE, lambda o, t: (1 - o - t).square().mean(), "", "1 − target"),
        (REAL, lambda o, t: (100 * o - t).square().mean(), "", "about 0.01 × the target"),
        (REAL, lambda o, t: (2 * o + 3 - t).square().mean(), "", "about 0.5 × the target -1.5"),
        (PARTS, lambda o, t: (o - t.roll(1, 1)).square().mean(), "", "something else than the target"),
        (REAL, lambda o, t: -(o * t).mean(), "", "beyond all bounds"),
    ],
)
def test_what_else_a_loss_is_least_at_is_found(target, loss, link, what):
    for row in {tuple(target.shape[1:]), () if target.shape[1] == 1 else (3,)}:
        assert best_outputs(OwnLoss(loss, Form(row, row)), torch.zeros(N, *row), target) == (link, what)


def _net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def _noted(lab: Any, result: Any) -> list[str]:
    noted = [text for text in result.notes if "The loss is least where" in text]
    assert all(text in lab.messages for text in noted)
    return noted


def test_logarithms_that_a_loss_undoes_are_answered_undone(lab: Any, unexported: None):
    counts = np.exp(Z.clip(-1, 2)).round().astype("float32")
    result = lab.train(X, counts, model=_net(), loss=lambda o, t: (o.exp() - t * o).mean(), epochs=40, lr=0.03)
    with torch.no_grad():
        assert np.allclose(lab.predict(X), lab.net()(torch.from_numpy(X)).exp().numpy()[:, 0], rtol=1e-5)
    assert result.info.metrics["r2"] > 0.5 and not _noted(lab, result)
    assert any(
        "taken for logarithms, as the loss takes them, and answered as their exp" in text for text in lab.messages
    )


@pytest.mark.parametrize("table", [False, True])
def test_answers_that_will_not_be_in_the_targets_units_are_told_with_the_result(lab: Any, unexported: None, table):
    data, target = (pd.DataFrame(X, columns=list("abcd")).assign(y=Z), "y") if table else (X, Z)
    options = {"model": _net(), "loss": lambda o, t: functional.mse_loss(-o, t.reshape(o.shape)), "epochs": 3}
    (told,) = _noted(lab, lab.train(data, target, **options))
    assert "outputs are minus the target" in told and "not be in the target's own units" in told
    assert not _noted(lab, lab.train(data, target, outputs="values", **options))
    options["loss"] = lambda o, t: functional.mse_loss(o, t.reshape(o.shape))
    assert not _noted(lab, lab.train(data, target, **options))


class Counts(nn.Module):
    """Keeps how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("asked", torch.zeros(()))

    def forward(self, o: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        return (o.reshape(-1) - t.reshape(-1)).square().mean()


def test_a_loss_that_keeps_count_is_tried_in_a_copy(lab: Any, unexported: None):
    loss = Counts()
    lab.train(X, Z, model=_net(), loss=loss, epochs=3, batch_size=N, validation=0)
    assert 0 < int(loss.asked) <= 6  # three steps, and three epochs measured


def test_a_network_by_name_and_a_loss_of_logarithms_get_on(lab: Any):
    frame = pd.DataFrame(X, columns=list("abcd")).assign(y=(100 * np.exp(Z.clip(-1, 2))).round())
    lab.train(frame, "y", model="mlp", loss=lambda o, t: (o.exp() - t * o).mean(), epochs=30)
    assert (np.asarray(lab.predict(frame)["prediction"]) > 0).all()
