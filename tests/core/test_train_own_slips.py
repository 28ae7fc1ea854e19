"""Modules and losses of the user's that do what torch lets them do: what is learnt from them, or what is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

pytestmark = pytest.mark.usefixtures("unexported")

X = np.random.default_rng(0).normal(size=(128, 3)).astype("f4")
LINE = (X @ np.array([1, -1, 0.5], "f4"))[:, None]
FIT = {"loss": nn.MSELoss(), "optimizer": "Adam", "lr": 0.05, "epochs": 60, "batch_size": 32}


class InPlace(nn.Module):
    """Works on what it is handed, in one of several ways."""

    def __init__(self, how, learning_only=False):
        super().__init__()
        self.l, self.how, self.learning_only = nn.Linear(3, 1), how, learning_only

    def forward(self, x):
        if self.training or not self.learning_only:
            self.how(x)
        return self.l(x)


def _first_off(x):
    x[:, 0] -= 1


WAYS = {
    "div_": lambda x: x.div_(2),
    "item": _first_off,
    "sub_": lambda x: x.sub_(0.1 * torch.ones(3)),
    "view": lambda x: x.view(-1).mul_(0.9),
    "numpy": lambda x: np.multiply(x.detach().numpy(), 0.9, out=x.detach().numpy()),
}


@pytest.mark.parametrize("rows", [32, 128])
@pytest.mark.parametrize("way", WAYS)
def test_a_module_that_changes_what_it_is_handed_gets_copies(lab, way, rows):
    given = X.copy()
    result = lab.train((given, LINE), model=InPlace(WAYS[way]), **{**FIT, "batch_size": rows})
    assert result.metrics["rmse"] < 0.2  # about 1.5 where the rows wear off from epoch to epoch
    np.testing.assert_array_equal(given, X)
    first = lab.predict(given)
    np.testing.assert_array_equal(first, lab.predict(given))
    np.testing.assert_array_equal(given, X)
    assert np.abs(np.asarray(first).reshape(-1) - LINE[:, 0]).max() < 1
    rows_of = torch.from_numpy(given)
    lab.net()(rows_of)
    np.testing.assert_array_equal(given, X)


def test_rows_that_are_changed_in_training_only_or_by_a_layer_are_kept_too(lab):
    given = torch.from_numpy(X.copy())
    noisy = InPlace(lambda x: x.mul_(0.5), learning_only=True)
    lab.train((given, torch.from_numpy(LINE)), model=noisy, **{**FIT, "epochs": 2, "batch_size": 128})
    lab.train((given, torch.from_numpy(LINE)), model=nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 1)), loss="mse")
    loader = DataLoader(TensorDataset(given, torch.from_numpy(LINE)), batch_size=128)
    lab.train(loader, model=InPlace(WAYS["div_"]), loss="mse", epochs=2)
    np.testing.assert_array_equal(given.numpy(), X)


def test_a_module_that_changes_nothing_stays_of_its_own_class(lab):
    lab.train((X, LINE), model=nn.Linear(3, 1), loss="mse")
    assert type(lab.net()) is nn.Linear


def test_lazy_layers_with_lazy_buffers_take_their_size_from_the_data(lab):
    net = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(1))
    lab.train((X, LINE), model=net, loss="mse", epochs=2)
    assert lab.net()[1].running_mean.shape == (4,)
