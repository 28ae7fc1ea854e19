"""A max-pooling goes before a ReLU where nobody can tell, and the training comes to the same bits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from maas_magics.core.training.pooling import pool_first

SEED = 3


def kinds(row: nn.Sequential) -> str:
    return " ".join(type(layer).__name__ for layer in row)


class Reading(nn.Module):
    """Reads its layers one by one, and uses what the ReLU answers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        seen = []
        for layer in self.layers:
            x = layer(x)
            seen.append(x)
        return self.head(seen[1].mean((2, 3)) + seen[2].mean((2, 3)))


class Keeping(nn.Sequential):
    """A row of layers with a way of its own through them."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x


def trained(net: nn.Module, x: Tensor, target: Tensor) -> list[Tensor]:
    """Losses and weights of a few steps."""
    torch.manual_seed(SEED)
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = functional.cross_entropy(net.train()(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [*losses, *(parameter.detach() for parameter in net.parameters())]


@pytest.mark.parametrize(
    "pooling",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, stride=1),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.MaxPool2d(2, stride=3, ceil_mode=True),
        nn.MaxPool2d((1, 2)),
    ],
)
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_the_training_is_the_same_to_the_bit(pooling: nn.Module, inplace: bool, order: torch.memory_format) -> None:
    made = torch.Generator().manual_seed(1)
    # Whole numbers, so that windows hold the same number twice, and zeros.
    x, target = torch.randint(-2, 3, (12, 2, 9, 9), generator=made).float(), torch.randint(0, 3, (12,), generator=made)
    torch.manual_seed(SEED)
    first = nn.Conv2d(2, 4, 1)
    with torch.no_grad():
        first.weight.copy_(first.weight.sign())
        first.bias.zero_()
    relu = nn.ReLU(inplace)
    row = (first, relu, copy.deepcopy(pooling), nn.Dropout(0.2), nn.Flatten(), nn.LazyLinear(3))
    net = nn.Sequential(*row)
    net(x)
    other = copy.deepcopy(net.to(memory_format=order))
    before = torch.get_rng_state()
    poolings = pool_first(other, (x[:2],))
    assert torch.equal(before, torch.get_rng_state())
    assert kinds(other).startswith("Conv2d MaxPool2d ReLU Dropout")
    assert all(map(torch.equal, trained(net, x, target), trained(other, x, target)))
    with poolings.undone():
        assert kinds(other) == kinds(net)
    assert kinds(other) != kinds(net)
    for _ in range(2):
        poolings.undo()
    assert kinds(other) == kinds(net)
    assert list(other.state_dict()) == list(net.state_dict())
    assert torch.equal(net.eval()(x), other.eval()(x))
    assert net(x).std(0).min() > 0.01  # it has not died, so it says something


def series() -> nn.Module:
    return nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(12, 3))


def volumes() -> nn.Module:
    return nn.Sequential(nn.Conv3d(2, 4, 3), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(4, 3))


@pytest.mark.parametrize(("make", "shape"), [(series, (2, 8)), (volumes, (2, 4, 4, 4))])
def test_series_and_volumes_as_well(make: Callable[[], nn.Sequential], shape: tuple[int, ...]) -> None:
    torch.manual_seed(SEED)
    net = make()
    other = copy.deepcopy(net)
    x, target = torch.randn(9, *shape), torch.randint(0, 3, (9,))
    pool_first(other, (x[:2],))
    assert kinds(other) != kinds(net)
    assert all(map(torch.equal, trained(net, x, target), trained(other, x, target)))


def untouched(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3))


def watched() -> nn.Module:
    relu = nn.ReLU()
    relu.register_forward_hook(lambda module, inputs, outputs: None)
    return untouched(nn.Conv2d(2, 4, 3), relu, nn.MaxPool2d(2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: untouched(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.MaxPool2d(2)),
        lambda: untouched(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AvgPool2d(2)),
        lambda: untouched(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2, dilation=2)),
        lambda: untouched(nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        lambda: untouched(nn.Identity(), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        lambda: untouched(Keeping(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2))),
        watched,
        Reading,
    ],
)
def test_what_could_change_is_left_as_it_is(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(SEED)
    net = make()
    x = torch.randn(6, 2, 8, 8)
    net(x)
    before = [type(module) for module in net.modules()]
    pool_first(net, (x[:2],))
    assert [type(module) for module in net.modules()] == before
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_network_that_cannot_be_asked_is_left_as_it_is() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    pool_first(net, (torch.randn(2, 3, 8, 8),))
    assert kinds(net) == "Conv2d ReLU MaxPool2d"


def test_what_is_published_has_its_layers_in_their_order(lab: Any) -> None:
    made = torch.Generator().manual_seed(1)
    x, target = torch.randn(40, 1, 8, 8, generator=made), torch.randint(0, 3, (40,), generator=made)
    layers = (nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3))
    net = nn.Sequential(*layers)
    lab.train(x.numpy(), target.numpy(), model=net, epochs=2)
    kept = lab.net()
    assert kinds(kept) == kinds(net)
    assert all(parameter.is_contiguous() for parameter in kept.parameters())
    assert not any(module._forward_hooks for module in kept.modules())
