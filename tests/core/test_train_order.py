"""The order of numbers that a network is trained in: channels-last where that is as exact as the usual one, only."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from maas_magics.core.training.steps.memory_format import arrange

CPU, LAST = torch.device("cpu"), torch.channels_last
N = 24


def is_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=LAST) and not x.is_contiguous()


def cut(x: Tensor, bits: int) -> Tensor:
    """The numbers, cut off after so many binary digits."""
    digits, power = torch.frexp(x)
    return torch.ldexp((digits * 2**bits).trunc() / 2**bits, power)


class Loses(nn.Module):
    """Keeps few digits of answers or gradients where numbers come in channels-last order, and all in the usual."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def forward(self, x: Tensor) -> Tensor:
        if not is_last(x):
            return x
        if self.where == "answers":
            return x + (cut(x, 8) - x).detach()
        x = x.clone()
        if x.requires_grad:
            x.register_hook(lambda gradient: cut(gradient, 3))
        return x


def net_of(layer: nn.Module, level: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    first = nn.Conv2d(2, 4, 3, padding=1)
    nn.init.constant_(first.bias, level)
    return nn.Sequential(
        first, layer, nn.Conv2d(4, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 1)
    )


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(N, 2, 12, 12)).astype("float32")
    return x, x[:, 0].mean((1, 2)) * 12


INEXACT: list[tuple[Callable[[], nn.Module], float]] = [
    (lambda: Loses("answers"), 0.0),
    (lambda: Loses("gradients"), 0.0),
    (lambda: nn.GroupNorm(2, 4), 1000.0),  # of E[x²] − E[x]² in fp32, a tenth is lost, on any processor
]
EXACT: list[tuple[Callable[[], nn.Module], float]] = [
    (nn.Identity, 0.0),
    (nn.Identity, 1000.0),
    (lambda: nn.GroupNorm(2, 4), 0.0),
    (lambda: nn.InstanceNorm2d(4), 0.0),
    (lambda: nn.AvgPool2d(2), 0.0),
]


@pytest.mark.parametrize(("layer", "level"), INEXACT)
def test_the_usual_order_is_kept_where_channels_last_loses_digits(layer, level, images):
    net = net_of(layer(), level)
    assert arrange(net, (torch.from_numpy(images[0]),), CPU, "fp32") is None
    assert all(not is_last(weight) for weight in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(("layer", "level"), EXACT)
def test_channels_last_is_taken_where_it_loses_none(layer, level, images):
    net = net_of(layer(), level)
    assert arrange(net, (torch.from_numpy(images[0]),), CPU, "fp32") is not None
    assert is_last(net[2].weight)


def loop(
    net: nn.Module, images: tuple[np.ndarray, np.ndarray], epochs: int, kind: torch.dtype = torch.float32
) -> nn.Module:
    """A copy, after a plain loop over all rows at once."""
    net = copy.deepcopy(net).to(kind)
    x, y = (torch.from_numpy(values).to(kind) for values in images)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(epochs):
        optimizer.zero_grad()
        functional.mse_loss(net(x)[:, 0], y).backward()
        optimizer.step()
    return net.eval()


@pytest.mark.parametrize(("layer", "level"), INEXACT)
def test_a_fit_is_the_plain_loop_in_the_usual_order(layer, level, lab: Any, unexported: None, images):
    net, epochs = net_of(layer(), level), 6
    options = {"optimizer": "SGD", "schedule": "constant", "validation": 0, "batch_size": N}
    lab.train({"x": images[0]}, images[1], model=net, loss=nn.MSELoss(), lr=0.05, epochs=epochs, **options)
    x = torch.from_numpy(images[0])
    true = loop(net, images, epochs, torch.float64)(x.double()).float()
    last = loop(net.to(memory_format=LAST), images, epochs)(x)
    lost = float((last - true).detach().abs().max())
    assert lost > 1e-4  # what channels-last would have cost
    assert float((lab.net()(x) - true).detach().abs().max()) < lost / 10


@pytest.mark.parametrize(("channels", "stride", "kept"), [(3, 2, False), (1, 2, False), (3, 1, True), (16, 2, True)])
def test_the_usual_order_is_kept_where_the_other_ends_the_process(channels: int, stride: int, kept: bool) -> None:
    net = nn.Sequential(nn.Conv2d(channels, 4, 1, stride=stride), nn.Flatten())
    found = arrange(net, (torch.randn(4, channels, 4, 4),), CPU, "fp32")
    assert (found is not None) == kept
