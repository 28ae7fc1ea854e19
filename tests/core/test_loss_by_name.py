"""A loss of torch's that cannot be sent to a service is told by the words that train with the same."""

from __future__ import annotations

import functools
import shlex
from typing import Any

import msgspec
import pytest
import torch
from torch import nn
from torch.nn import functional

from maas_magics.api.errors import OptionError
from maas_magics.api.requests import TrainRequest
from maas_magics.core.losses.known import in_words
from maas_magics.core.losses.make import make_loss
from maas_magics.core.serialization import pack
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.binary import Binary
from maas_magics.core.tasks.multiclass import Multiclass
from maas_magics.core.tasks.regression import Regression

N = 12
LOGITS, INDEX = torch.randn(N, 3, generator=torch.manual_seed(1)), torch.arange(N) % 3
ONE, YES = LOGITS[:, :1], (torch.arange(N)[:, None] % 2).float()
CLASSES, TWO, REAL = (
    Multiclass(("y",), (0, 1, 2)),
    Binary(("y",), (0, 1)),
    Regression(("y",)),
)

SAME: list[tuple[Any, torch.Tensor, torch.Tensor, Task, str]] = [
    (nn.CrossEntropyLoss(), LOGITS, INDEX, CLASSES, "--loss cross_entropy"),
    (nn.CrossEntropyLoss(label_smoothing=0.1), LOGITS, INDEX, CLASSES, "--loss cross_entropy --label-smoothing 0.1"),
    (functional.cross_entropy, LOGITS, INDEX, CLASSES, "--loss cross_entropy"),
    (nn.NLLLoss(), LOGITS.log_softmax(1), INDEX, CLASSES, "--loss cross_entropy"),
    (nn.BCELoss(), ONE.sigmoid(), YES, TWO, "--loss bce --outputs probabilities"),
    (functional.binary_cross_entropy, ONE.sigmoid(), YES, TWO, "--loss bce --outputs probabilities"),
    (nn.BCEWithLogitsLoss(), ONE, YES, TWO, "--loss bce"),
    (nn.MSELoss(), ONE, YES, REAL, "--loss mse"),
    (nn.L1Loss(), ONE, YES, REAL, "--loss l1"),
    (nn.HuberLoss(), ONE, YES, REAL, "--loss huber"),
    (nn.SmoothL1Loss(), ONE, YES, REAL, "--loss smooth_l1"),
    (functools.partial(functional.l1_loss, reduction="mean"), ONE, YES, REAL, "--loss l1"),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "outputs", "target", "answers", "words"), SAME)
def test_the_words_are_of_the_same_loss(loss, outputs, target, answers, words):
    assert in_words(loss) == words
    said = dict(zip(*[iter(shlex.split(words))] * 2, strict=True))
    link = "identity" if said.get("--outputs") == "probabilities" else ""
    named = make_loss(
        said["--loss"],
        msgspec.structs.replace(answers, link=link),
        None,
        float(said.get("--label-smoothing", 0)),
    )
    assert float(named(outputs, target)) == pytest.approx(float(loss(outputs, target)), rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(weight=torch.ones(3)),
        nn.BCEWithLogitsLoss(pos_weight=torch.ones(1)),
        nn.BCELoss(reduction="sum"),
        nn.HuberLoss(delta=2.0),
        nn.SmoothL1Loss(beta=0.5),
        functools.partial(functional.huber_loss, delta=3.0),
        nn.PoissonNLLLoss(),
        lambda o, t: (o - t).square().mean(),
    ],
)
def test_there_are_no_words_for_another_loss(loss):
    assert in_words(loss) == ""


@pytest.mark.parametrize(
    ("loss", "kind", "hint"),
    [
        (
            nn.BCELoss(),
            "BCELoss",
            "--loss bce --outputs probabilities is the same by name; %connect kernel trains with it here.",
        ),
        (lambda o, t: o.sum(), "function", "%connect kernel trains with it here."),
    ],
)
def test_a_loss_that_cannot_be_sent_says_what_to_type_before_anything_is_sent(loss, kind, hint):
    def send(*args):
        raise AssertionError("sent")

    request = TrainRequest(name="m", data={"a": [1.0, 2.0]}, target=[0, 1], model=nn.Linear(1, 1), loss=loss)
    with pytest.raises(OptionError, match=f"loss holds a {kind}, which cannot be sent to another process") as error:
        pack(request, send)
    assert error.value.hint == hint
