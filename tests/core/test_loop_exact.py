"""The loop trains to the weights that a plain torch loop over the same batches reaches."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from maas_magics.core.batches.batches import InMemory
from maas_magics.core.tasks.multiclass import Multiclass
from maas_magics.core.training.loop import fit
from maas_magics.core.training.plan import Plan
from maas_magics.core.training.steps import optimizers
from maas_magics.core.training.steps.optimizers import Optimizer
from maas_magics.core.training.steps.schedules import Schedule, constant, cosine
from maas_magics.core.training.steps.step import TrainStep, make_backward

BATCH, EPOCHS, SEED, RATE, DECAY = 16, 4, 3, 0.01, 0.01


class Net(nn.Module):
    """Dropout, batch statistics, a frozen parameter, and a weight that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        # No bias before the batch statistics: its gradient is rounding noise, which Adam would blow up.
        self.first, self.norm, self.drop = nn.Linear(6, 12, bias=False), nn.BatchNorm1d(12), nn.Dropout(0.1)
        self.second, self.third, self.last = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 3)
        self.third.weight = self.second.weight
        self.last.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.norm(self.first(x)).relu())
        return self.last(self.third(self.second(x).tanh()))


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(1)
    return torch.randn(100, 6, generator=made), torch.randint(0, 3, (100,), generator=made)


@pytest.fixture
def net() -> Net:
    torch.manual_seed(SEED)
    return Net()


def ours(net: Net, rows: tuple[Tensor, Tensor], name: str, schedule: Schedule, **params: Any) -> tuple[Net, int]:
    """Trained copy of ``net`` and the epoch whose weights it has."""
    x, y = rows
    answers = Multiclass(("y",), (0, 1, 2))
    plan = Plan(functional.cross_entropy, answers, {}, "loss", "min", EPOCHS, 0, schedule, SEED)
    net = copy.deepcopy(net)
    optimizer = Optimizer(net, name, RATE, DECAY, params)
    torch.manual_seed(SEED)
    history = fit(net, optimizer, InMemory((x,), y, BATCH), None, plan, lambda event: None, lambda: "")
    return net, history.best_epoch


def plain(net: Net, rows: tuple[Tensor, Tensor], name: str, schedule: Schedule, epochs: int, **params: Any) -> Net:
    """Copy of ``net`` trained as a tutorial would, in the order that `InMemory` draws."""
    x, y = rows
    net = copy.deepcopy(net).train()
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    kind = getattr(torch.optim, name)
    decay = {"weight_decay": DECAY} if "weight_decay" in inspect.signature(kind).parameters else {}
    optimizer = kind(trained, lr=RATE, **decay, **params)
    drawn = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    step, steps = 0, EPOCHS * -(-len(y) // BATCH)
    for _ in range(epochs):
        for index in torch.randperm(len(y), generator=drawn).split(BATCH):
            for group in optimizer.param_groups:
                group["lr"] = RATE * schedule(step / steps)
            optimizer.zero_grad()
            functional.cross_entropy(net(x[index]), y[index]).backward()
            optimizer.step()
            step += 1
    return net


def distance(one: nn.Module, other: nn.Module) -> float:
    """Largest difference of any weight or statistic."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


@pytest.mark.parametrize("schedule", [constant, cosine])
@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("SGD", {}),
        ("SGD", {"momentum": 0.9, "nesterov": True}),
        ("Adam", {}),
        ("Adam", {"amsgrad": True}),
        ("Adam", {"betas": (0.8, 0.95), "eps": 1e-6}),
        ("AdamW", {}),
        ("AdamW", {"maximize": False, "foreach": True}),
        ("Adagrad", {}),
        ("RMSprop", {}),
        ("ASGD", {}),
        ("Adadelta", {"rho": 0.5}),
        ("Adafactor", {}),
        ("Adamax", {}),
        ("NAdam", {}),
        ("RAdam", {}),
        ("Rprop", {}),
    ],
)
def test_the_weights_are_those_of_a_plain_loop(
    net: Net, rows: tuple[Tensor, Tensor], name: str, params: dict[str, Any], schedule: Schedule
) -> None:
    trained, epochs = ours(net, rows, name, schedule, **params)
    reference = plain(net, rows, name, schedule, epochs, **params)
    assert epochs > 1
    assert distance(reference, net) > 0.01
    assert distance(trained, reference) < 2e-6


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_the_kernel_called_directly_gives_the_bits_of_torch(
    net: Net, rows: tuple[Tensor, Tensor], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct, _ = ours(net, rows, name, cosine)
    monkeypatch.setattr(optimizers, "direct_step", lambda inner: inner.step)
    assert distance(direct, ours(net, rows, name, cosine)[0]) == 0


@pytest.mark.parametrize("name", ["Adam", "LBFGS"])
def test_the_same_seed_gives_the_same_bits(net: Net, rows: tuple[Tensor, Tensor], name: str) -> None:
    one, other = ours(net, rows, name, constant)[0], ours(net, rows, name, constant)[0]
    assert distance(one, other) == 0


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_an_optimizer_that_searches_gets_its_closure(search: str | None) -> None:
    line = nn.Linear(1, 1)
    x = torch.linspace(-1, 1, 50)[:, None]
    step = TrainStep(line, Optimizer(line, "LBFGS", 0.5, None, {"line_search_fn": search}), functional.mse_loss)
    losses = [step((x,), 3 * x + 1) for _ in range(6)]
    assert losses[-1] < 1e-8 < losses[0]


def test_the_optimizer_state_is_where_torch_keeps_it(net: Net, rows: tuple[Tensor, Tensor]) -> None:
    x, y = rows
    optimizer = Optimizer(net.eval(), "Adam", RATE, None, {})
    step = TrainStep(net, optimizer, functional.cross_entropy)
    for _ in range(3):
        step((x,), y)
    saved, weights = copy.deepcopy(optimizer.inner.state_dict()), copy.deepcopy(net.state_dict())
    assert [float(state["step"]) for state in saved["state"].values()] == [3]
    ahead = [step((x,), y) for _ in range(3)]
    optimizer.inner.load_state_dict(saved)
    net.load_state_dict(weights)
    assert [step((x,), y) for _ in range(3)] == ahead


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_those_of_torch(dtype: torch.dtype) -> None:
    x = torch.tensor([1.0, 2.0], dtype=dtype, requires_grad=True)
    make_backward()((x**3).sum())
    assert x.grad is not None
    assert x.grad.tolist() == [3.0, 12.0]


def test_gradients_do_not_pile_up(rows: tuple[Tensor, Tensor]) -> None:
    x, y = rows
    line = nn.Linear(6, 3)
    step = TrainStep(line, Optimizer(line, "SGD", 0.0, 0.0, {}), functional.cross_entropy)
    step((x,), y)
    assert line.weight.grad is not None
    first = line.weight.grad.clone()
    step((x,), y)
    assert torch.equal(line.weight.grad, first)
