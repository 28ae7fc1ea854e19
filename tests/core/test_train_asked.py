"""What a request may ask of a training's steps, from the request to the published version."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import maas_magics as maas
from maas_magics.api.errors import Diverged, MaasError, OptionError
from maas_magics.api.events import EpochEnd, Started
from maas_magics.api.requests import TrainRequest
from maas_magics.api.results import TrainedModel
from maas_magics.api.wire import decode_request, encode_request

pytestmark = pytest.mark.usefixtures("unexported")

N = 64
X = np.sin(np.arange(N * 4.0)).reshape(N, 4).astype("float32")
THREE = np.digitize(X[:, 0], [-0.5, 0.5])
REAL = (X @ [1.0, -2.0, 0.5, 3.0]).astype("float32")
PICTURES = np.random.default_rng(0).random((40, 3, 8, 8)).astype("float32")


def _net(outputs: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, outputs))


ASKED: list[dict[str, Any]] = [
    {"precision": "bf16"},
    {"precision": "fp16"},
    {"accumulate": 3, "batch_size": 8},
    {"clip": 0.5},
    {"ema": 0.8},
    {"schedule": "plateau", "schedule_params": {"patience": 1}},
    {"schedule": "CosineAnnealingWarmRestarts", "schedule_params": {"T_0": 2}, "warmup": 3},
    {"schedule": "OneCycleLR"},
    {"schedule": "cosine", "warmup": 0.2},
    {"lr_of": {"*bias*": 0.5}},
]
TOGETHER = {
    "precision": "bf16",
    "accumulate": 2,
    "batch_size": 8,
    "clip": 1.0,
    "ema": 0.5,
    "warmup": 2,
    "balance": True,
}


@pytest.mark.parametrize(
    ("model", "asked"),
    [*((model, asked) for model in ("linear", "mlp", "tabm", "cnn") for asked in ASKED), ("module", TOGETHER)],
    ids=str,
)
def test_every_kind_of_network_learns_with_it(lab, model, asked):
    data: Any = PICTURES if model == "cnn" else X
    target = THREE[: len(data)]
    if model == "cnn":
        asked = asked | ({"lr_of": {"head.*": 0.5}} if "lr_of" in asked else {})
    if model == "cnn" and "warmup" in asked and "schedule" not in asked:
        asked = asked | {"schedule": "cosine"}
    net = _net(3) if model == "module" else model
    asked = {"model": net, "epochs": 6, "lr": 0.02, "validation": (data, target), "metrics": ["log_loss"]} | asked
    result = lab.train(data, target, **asked)
    assert result.history["loss"][-1] < result.history["loss"][0]
    assert all(t.is_contiguous() for t in lab.net().state_dict().values())
    assert {t.dtype for t in lab.net().parameters()} == {torch.float32}
    # What was measured is what was published, and any process can ask it.
    scored = lab.evaluate(data, target, metrics=["log_loss"])["log_loss"]
    assert scored == pytest.approx(result.metrics["log_loss"], rel=1e-4)
    plain = lab.train(data, target, model=net, epochs=6, lr=0.02, validation=(data, target))
    assert plain.history != result.history


def test_the_average_is_what_is_validated_and_published(lab):
    held = (X, REAL)
    torch.manual_seed(0)
    noisy = {"optimizer": "SGD", "lr": 0.1, "batch_size": 4, "epochs": 8, "validation": held, "monitor": "rmse"}
    noisy |= {"model": _net()}
    result = lab.train(X, REAL, ema=0.95, **noisy)
    assert lab.evaluate(held)["rmse"] == pytest.approx(min(result.history["val_rmse"]), rel=1e-5)
    assert result.history["val_rmse"] != lab.train(X, REAL, **noisy).history["val_rmse"]


def test_frozen_parts_of_a_module_are_published_as_they_came(lab):
    net = _net()
    result = lab.train(X, REAL, model=net, freeze=("0.*", "1.*"), epochs=3)
    published = lab.net().state_dict()
    for name, value in net.state_dict().items():
        assert torch.equal(value, published[name]) == name.startswith(("0.", "1."))
    assert result.info.parameters == 9
    lab.train(X, REAL, model=net, freeze=("0.*", "1.*"), unfreeze={"1.*": 3}, epochs=3, patience=0, monitor="loss")
    assert torch.equal(net[0].weight, lab.net()[0].weight)


def test_balanced_rows_make_rare_labels_likelier(lab):
    rare = np.array([1] * 6 + [0] * 58)
    shares = [
        lab.train(X, rare, balance=balance, epochs=30) and lab.predict(X, probabilities=True)[:, 1].mean()
        for balance in (True, False)
    ]
    assert shares[0] > shares[1] + 0.1


def test_a_loader_is_grouped(lab):
    data = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(REAL[:, None])), 8, shuffle=False)
    for asked, steps in (({}, 8), ({"accumulate": 3}, 3)):
        result = lab.train(data, model=_net(), epochs=2, schedule="linear", lr=0.1, **asked)
        started = next(event for event in lab.last.events(follow=False) if isinstance(event, Started))
        ends = [event.step for event in lab.last.events(follow=False) if isinstance(event, EpochEnd)]
        assert started.steps_per_epoch == steps and ends == [steps, 2 * steps]
        assert result.history["lr"][-1] == pytest.approx(0.1 / (2 * steps))


def test_what_was_asked_for_is_told(lab):
    lab.train(
        X, THREE, model=_net(3), precision="bf16", accumulate=2, clip=1.0, ema=0.5, freeze=("0.*",), warmup=0.5,
        schedule="cosine", balance=True, batch_size=8, lr=0.01,
    )  # fmt: skip
    started = next(event for event in lab.last.events(follow=False) if isinstance(event, Started))
    told = {
        "optimizer": "Adam, lr 0.01, cosine, warm-up 50%",
        "batch size": "8 × 2",
        "precision": "bf16",
        "clip": "1",
        "ema": "0.5",
        "frozen": "0.*",
        "balanced": "by label",
    }
    assert {name: started.summary[name] for name in told} == told
    lab.train(X, THREE, model=_net(3))
    started = next(event for event in lab.last.events(follow=False) if isinstance(event, Started))
    assert not (told.keys() - {"optimizer", "batch size"}) & started.summary.keys()


@pytest.mark.parametrize(
    ("asked", "said", "hint"),
    [
        ({"precision": "fp8"}, "There is no precision 'fp8'.", "bf16, fp16, fp32"),
        ({"precision": "fp16", "optimizer": "LBFGS"}, "LBFGS evaluates the loss several times a step", "bf16"),
        ({"accumulate": 0}, "accumulate is 0; at least 1 was expected.", "--accumulate 1"),
        ({"clip": 0.0}, "clip is 0; a norm above 0 was expected.", "--clip 1"),
        ({"clip": math.nan}, "clip is nan", "--clip 1"),
        ({"ema": 1.0}, "ema is 1; a decay between 0 and 1", "--ema 0.99"),
        ({"warmup": -0.1}, "warmup is -0.1; a share", "--warmup 0.1"),
        ({"warmup": 2.5}, "warmup is 2.5; a share of the training or a whole number", "--warmup 0.1"),
        ({"warmup": 500}, "The warm-up of 500 steps is as long as the training, 8 steps.", "--warmup 0.05"),
        ({"warmup": 0.1, "schedule": "one-cycle"}, "begins with a rise of its own", "--schedule cosine"),
        ({"schedule": "StepLr", "schedule_params": {"step": 3}}, "StepLR has no argument 'step'.", "step_size"),
        ({"schedule": "StepLR"}, "StepLR needs step_size.", "--schedule-set step_size=…"),
        ({"schedule": "Step"}, "There is no schedule 'Step'.", "StepLR"),
        ({"schedule": "LambdaLR"}, "LambdaLR is made of functions", "--schedule cosine"),
        ({"schedule": "cosine", "schedule_params": {"T_max": 3}}, "'cosine' takes no arguments", "--schedule-set"),
        ({"schedule_params": {"T_max": 3}}, "'constant' takes no arguments", "--schedule-set"),
        ({"schedule": "ExponentialLR", "schedule_params": {"gamma": "fast"}}, "cannot be made with gamma='fast'", ""),
        ({"schedule": "plateau", "schedule_params": {"factor": 2.0}}, "cannot be made with factor=2.0: Factor", ""),
        ({"schedule": "OneCycleLR", "schedule_params": {"total_steps": 3}}, "the training has 8 steps", "total_steps=8"),
        ({"schedule": "OneCycleLR", "schedule_params": {"epochs": 3}}, "from the training", "Drop"),
        ({"freeze": ("fist.*",)}, "--freeze: no parameter of the network matches 'fist.*'.", "'first.*'"),
        ({"freeze": ("*",)}, "no trainable parameter", "freeze fewer"),
        ({"freeze": ("*",), "unfreeze": {"*": 3}}, "no trainable parameter in the first epoch", "freeze fewer"),
        ({"unfreeze": {"first.*": 3}}, "--unfreeze: nothing that 'first.*' matches is frozen.", '--freeze "first.*"'),
        ({"freeze": ("first.*",), "unfreeze": {"first.*": 1}}, "is to unfreeze in epoch 1", "@2"),
        ({"freeze": ("first.*",), "unfreeze": {"first.*": 9}}, "first.*@9 never comes: the training has 4", "--epochs 9"),
        ({"lr_of": {"first.*": -1.0}}, "The learning rate of 'first.*' is -1", "--lr-of"),
        ({"lr_of": {"last": 1.0}}, "--lr-of: no parameter of the network matches 'last'.", "last."),
        ({"balance": True}, "Rows are balanced by their label; the task is regression.", "Drop --balance."),
        ({"balance": True, "class_weights": "balanced"}, "make up for rare labels twice", "Drop --class-weights"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_told_before_anything_is_written(lab, asked, said, hint):
    net = nn.Sequential()
    net.first, net.last = nn.Linear(4, 3), nn.Linear(3, 1)
    with pytest.raises(OptionError) as error:
        lab.train(X, REAL, model=net, epochs=4, **asked)
    assert said in error.value.message
    assert hint in error.value.hint
    assert not [event for event in lab.last.events(follow=False) if isinstance(event, (Started, EpochEnd))]
    assert lab.session.model_names() == []
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_a_loader_draws_its_own_rows_and_may_not_know_their_number(lab):
    rows = TensorDataset(torch.from_numpy(X), torch.from_numpy(THREE))
    with pytest.raises(OptionError, match="A loader draws its own rows") as error:
        lab.train(DataLoader(rows, 8), model=_net(3), balance=True)
    assert "WeightedRandomSampler" in error.value.hint

    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(rows)

    for asked in ({"schedule": "OneCycleLR"}, {"warmup": 0.1}, {"schedule": "cosine"}):
        with pytest.raises(OptionError, match="does not say how many batches it has"):
            lab.train(DataLoader(Endless(), 8), model=_net(3), **asked)
    made = {"model": _net(3), "epochs": 3, "lr": 0.01}
    lab.train(DataLoader(Endless(), 8), warmup=4, accumulate=2, **made)
    stepped = {"schedule": "StepLR", "schedule_params": {"step_size": 1, "gamma": 0.5}}
    rates = lab.train(DataLoader(Endless(), 8), **stepped, **made).history["lr"]
    assert rates == [0.01, 0.005, 0.0025]


def test_a_layer_without_such_arithmetic_is_told(lab):
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.LSTM(1, 4, batch_first=True), nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.cell(x.unsqueeze(2))[0][:, -1])

    for precision in ("bf16", "fp16"):
        try:
            lab.train(X, REAL, model=Recurrent(), name=precision, precision=precision)
        except OptionError as error:  # few processors have such a kernel
            assert f"The network cannot be trained in {precision} on cpu" in error.message
            assert precision not in lab.session.model_names()
            lab.train(X, REAL, model=Recurrent(), precision=error.hint.removeprefix("--precision "))
    lab.train(X, REAL, precision="fp16")
    assert "bf16 is the one" in lab.messages[0]


def test_the_precision_that_is_named_instead_is_one_that_the_network_can_be_trained_in(lab):
    class Picky(nn.Module):
        """Has a layer for the given arithmetic alone."""

        def __init__(self, *kinds: torch.dtype) -> None:
            super().__init__()
            self.dense, self.kinds = nn.Linear(4, 1), kinds

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            answers = self.dense(x)
            if answers.dtype not in self.kinds:
                raise RuntimeError(f"no kernel for {answers.dtype}")
            return answers

    for kinds, hint in (
        ((torch.float32, torch.bfloat16), "--precision bf16"),
        ((torch.float32,), "--precision fp32"),
    ):
        with pytest.raises(OptionError, match="cannot be trained in fp16 on cpu: no kernel for torch.float16") as told:
            lab.train(X, REAL, model=Picky(*kinds), precision="fp16")
        assert told.value.hint == hint


def test_a_usual_precision_that_a_layer_lacks_is_left_and_told(lab, monkeypatch):
    """A recipe asks for bf16 where the processor has it; a network may hold a layer that has not."""
    from maas_magics.core.training import resolve as place
    from maas_magics.core.training import train as room

    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.dense(x)
            if hidden.dtype == torch.bfloat16:
                raise RuntimeError("Unsupported dtype BFloat16")
            return self.head(hidden)

    usual = place.resolve
    monkeypatch.setattr(place, "computes_bf16", lambda device: True)
    monkeypatch.setattr(room, "resolve", lambda specs, recipe, device: usual(specs, replace(recipe, bf16=True), device))
    done = lab.train(X, REAL, model=Spectral(), epochs=2)
    summary = next(event for event in lab.last.events(follow=False) if isinstance(event, Started)).summary
    assert done.epochs == 2 and "precision" not in summary
    assert any("cannot be trained in bf16 on cpu" in text and "in fp32" in text for text in lab.messages)
    with pytest.raises(OptionError, match="cannot be trained in bf16"):
        lab.train(X, REAL, model=Spectral(), epochs=2, precision="bf16")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_loss_that_breaks_after_good_epochs_costs_no_model(lab, precision):
    rising = {"schedule": "ExponentialLR", "schedule_params": {"gamma": 30.0}, "optimizer": "SGD", "lr": 1e-3}
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    held = (X, REAL)
    result = lab.train(X, REAL, model=net, epochs=200, validation=held, precision=precision, **rising)
    curve = result.history["val_loss"]
    assert result.diverged and not result.stopped
    assert 1 <= result.best_epoch < result.epochs + 1 < 200
    assert math.isfinite(result.metrics["loss"])
    assert curve[result.best_epoch - 1] == result.metrics["loss"] == min(c for c in curve if math.isfinite(c))
    assert lab.evaluate(held)["rmse"] == pytest.approx(result.metrics["rmse"], rel=1e-4)
    assert f"epoch {result.best_epoch} of {result.epochs}, then it diverged" in repr(result)
    told = lab.messages[-1]
    assert (
        "The loss became" in told and f"the best epoch so far, {result.best_epoch}, is kept" in told and "--lr" in told
    )
    assert lab.last.info.state == "succeeded"
    assert told.endswith("Check the features for values of very different size.") and "--lr 0.0001." in told


def test_a_loss_that_breaks_in_the_first_epoch_is_an_error_still(lab):
    calls = iter(range(1000))

    def loss(outputs, target):
        steps = torch.is_grad_enabled() and outputs.requires_grad and len(outputs) == 8
        return (outputs - target).square().mean() * (math.nan if steps and next(calls) == 2 else 1.0)

    with pytest.raises(Diverged, match=r"The loss became nan in epoch 1, step 3") as error:
        lab.train(X, REAL, model=_net(), loss=loss, batch_size=8, epochs=5, lr=0.01)
    assert error.value.hint.startswith("Try a lower one: --lr 0.001")
    assert lab.session.model_names() == []


def test_an_epoch_whose_held_out_loss_is_no_number_is_never_the_best(lab, exported):
    class Breaks(nn.Module):
        """Answers nothing useful in eval mode until it was called a while, and again later."""

        def __init__(self) -> None:
            super().__init__()
            self.dense, self.seen = nn.Linear(4, 1), 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen += self.training
            return self.dense(x) * (1.0 if self.training or len(x) == 2 or 4 <= self.seen <= 8 else float("nan"))

    try:
        result = lab.train(X, REAL, model=Breaks(), epochs=6, batch_size=32, validation=0.2)
    except MaasError as error:  # exporting asks the module after training
        pytest.fail(str(error))
    assert result.best_epoch in (2, 3, 4)
    assert math.isfinite(result.metrics["loss"])


def test_a_request_crosses_to_another_process_with_all_of_it():
    asked = {
        "precision": "bf16", "accumulate": 2, "clip": 1.0, "ema": 0.9, "warmup": 20, "schedule": "MultiStepLR",
        "schedule_params": {"milestones": (2, 4)}, "freeze": ("a.*", "b.*"), "unfreeze": {"a.*": 3},
        "lr_of": {"b.*": 1e-3}, "balance": True,
    }  # fmt: skip
    request = TrainRequest(name="m", data="rows.csv", target="y", **asked)
    back = decode_request(encode_request(request))
    assert isinstance(back, TrainRequest)
    assert {name: getattr(back, name) for name in asked} == asked | {"schedule_params": {"milestones": [2, 4]}}


def test_the_function_asks_for_the_same(lab):
    rates = {"*bias*": 0.1}
    result = maas.train(
        "m", X, THREE, model=_net(3), freeze="0.weight", unfreeze={"0.weight": 2}, lr_of=rates, epochs=2, ema=0.5,
        accumulate=2, clip=1, precision="bf16", balance=True, warmup=1, schedule="StepLR", schedule_params={"step_size": 1},
    )  # fmt: skip
    assert isinstance(result, TrainedModel) and result.epochs == 2


def test_a_picture_network_of_the_users_is_published_in_the_usual_order(lab):
    class Viewed(nn.Module):
        def __init__(self, view: bool) -> None:
            super().__init__()
            self.wide, self.head, self.view = nn.Conv2d(3, 4, 3), nn.Linear(144, 3), view

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.wide(x).relu()
            return self.head(x.view(len(x), -1) if self.view else x.flatten(1))

    curves = []
    for view in (True, False):
        torch.manual_seed(0)
        held = (PICTURES, THREE[:40])
        result = lab.train(*held, model=Viewed(view), epochs=4, validation=held, metrics=["log_loss"])
        curves.append(result.history["val_loss"])
        assert all(t.is_contiguous() for t in lab.net().state_dict().values())
        scored = lab.evaluate(*held, metrics=["log_loss"])["log_loss"]
        assert scored == pytest.approx(result.metrics["log_loss"], rel=1e-4)
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)
