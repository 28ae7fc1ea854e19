"""Modules and losses of the user's that do what torch lets them do: what is learnt from them, or what is said."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from maas_magics.api.errors import MaasError, ModelError

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


_RNG = np.random.default_rng(1)
COUNT = _RNG.poisson(np.exp(1 + X[:, 0])).astype("f4")[:, None]
USUAL = _RNG.poisson(6 * np.exp(0.3 * X[:, 0])).astype("f4")[:, None]
COUNTS = [COUNT, USUAL, COUNT * 5 + 300, COUNT.clip(0, 1)]

ELEMENTWISE = {
    "a module": nn.PoissonNLLLoss(),
    "a function of torch's": lambda o, t: functional.poisson_nll_loss(o, t),
    "written out": lambda o, t: (o.exp() - t * o).mean(),
    "gamma": lambda o, t: (t * (-o).exp() + o).mean(),
}


@pytest.mark.parametrize("counts", COUNTS, ids=["few", "usual", "many", "0 and 1"])
@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_losses_of_counts_are_not_taken_for_broadcasting_ones(lab, loss, counts):
    lab.train((X, counts), model=nn.Linear(3, 1), loss=ELEMENTWISE[loss], task="regression", lr=1e-4)


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, t: ((o.squeeze(1)[:, None] - t.squeeze(1)) ** 2).mean(),
        lambda o, t: (o.squeeze(1)[:, None].exp() - t.squeeze(1) * o.squeeze(1)[:, None]).mean(),
    ],
    ids=["squares", "counts"],
)
def test_losses_that_broadcast_are_told_among_counts_as_well(lab, loss):
    with pytest.raises(ModelError, match="would broadcast"):
        lab.train((X, COUNT), model=nn.Linear(3, 1), loss=loss, task="regression")


@pytest.mark.parametrize("own", [False, True])
def test_a_target_of_log_probabilities_is_answered_as_such(lab, own):
    shares = torch.log_softmax(torch.from_numpy(X @ np.eye(3, dtype="f4")), dim=1).numpy()
    net = nn.Sequential(nn.Linear(3, 3), nn.LogSoftmax(dim=1))
    loss = nn.KLDivLoss(log_target=True, reduction="batchmean")
    used = (lambda o, t: functional.kl_div(o, t, log_target=True, reduction="batchmean")) if own else loss
    result = lab.train((X, shares), model=net, loss=used, optimizer="Adam", lr=0.05, epochs=30)
    answers = np.asarray(lab.predict(X[:8]))
    np.testing.assert_allclose(answers, lab.net()(torch.from_numpy(X[:8])).detach().numpy(), atol=1e-5)
    assert result.metrics["rmse"] < 0.3


def test_a_loss_of_rates_gets_the_target_as_it_is(lab, frame):
    """Poisson's loss of rates is another one in units of a standard deviation, where counts are below 0."""
    frame = frame[["count"]].assign(count=frame["count"] / 100, y=1.0 + frame["count"] % 7)
    net = nn.Sequential(nn.Linear(2, 1), nn.Softplus())
    loss = nn.PoissonNLLLoss(log_input=False)
    lab.train(
        frame, "y", model=nn.Sequential(nn.LazyLinear(1), net[1]), loss=loss, task="regression", epochs=30, lr=0.1
    )
    assert np.asarray(lab.predict(frame.drop(columns="y"))).mean() == pytest.approx(frame["y"].mean(), rel=0.3)


class Three(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(3, 1)

    def forward(self, a, b, c):
        return self.w(torch.stack([a.reshape(-1), b.reshape(-1), c.reshape(-1)], dim=1))


@pytest.mark.parametrize(("kind", "shape"), [(dict, (-1,)), (dict, (-1, 1)), (pd.DataFrame, (-1,))])
def test_several_arrays_by_name_leave_the_target_as_one_does(lab, kind, shape):
    parts = {name: X[:, i].reshape(shape) for i, name in enumerate("abc")}
    target = 1000 + 10 * LINE
    lab.train(kind(parts), target, model=Three(), loss="mse")
    assert not lab.session.backend.loader.predictor("m").answers.standardised


def _vector(answers, target):
    return (answers - target).mean(0, keepdim=True).expand(2, -1).mean(1)


SLIPS = {
    "metric, a vector": ({"metrics": (_vector,)}, "metric _vector returns \\(2,\\), not one number.*def _vector"),
    "metric, nothing": ({"metrics": (lambda p, t: None,)}, "returns NoneType, not one number"),
    "metric, one argument": ({"metrics": (lambda p: 0.0,)}, "takes 1 argument; it is handed two, answers and target"),
    "loss, one argument": (
        {"loss": lambda o: o.mean()},
        "takes 1 argument; it is handed two, outputs and target.*o.mean",
    ),
    "loss, three": ({"loss": lambda o, t, w: o.mean()}, "takes 3 arguments"),
    "loss, none": ({"loss": lambda: 0}, "takes no arguments"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_slips_in_a_loss_or_a_metric_are_told_in_two_lines_that_name_the_code(lab, slip):
    options, said = SLIPS[slip]
    with pytest.raises(MaasError, match=said) as caught:
        lab.train((X, LINE), model=nn.Linear(3, 1), **{"loss": "mse", **options})
    assert caught.value.hint and "\n" not in caught.value.message


CE = nn.CrossEntropyLoss
GROUP = X[:, :3].argmax(1)


def _wrapped(loss):
    def ours(outputs, target):
        return loss(outputs, target)

    return ours


class Held(nn.Module):
    """A loss of one's own that holds one of torch's."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, outputs, target):
        return self.loss(outputs, target)


IGNORING = {
    "module": lambda i: CE(ignore_index=i),
    "partial": lambda i: partial(functional.cross_entropy, ignore_index=i),
    "lambda": lambda i: lambda o, t: functional.cross_entropy(o, t, ignore_index=i),
    "closure": lambda i: _wrapped(CE(ignore_index=i)),
    "own module": lambda i: Held(CE(ignore_index=i)),
    "nll": lambda i: lambda o, t: functional.nll_loss(functional.log_softmax(o, 1), t, ignore_index=i),
}


@pytest.mark.parametrize("kind", [np.int64, np.float32, np.int16])
@pytest.mark.parametrize("how", IGNORING)
@pytest.mark.parametrize("label", [255, -100])
def test_rows_whose_label_the_loss_ignores_have_no_target(lab, how, label, kind):
    target = np.where(np.arange(128) % 4 == 0, label, GROUP).astype(kind)
    result = lab.train(
        (X, target), model=nn.Linear(3, 3), loss=IGNORING[how](label), optimizer="Adam", lr=0.05, epochs=20
    )
    answers = np.asarray(lab.predict(X))
    assert set(answers.tolist()) == {0, 1, 2} and (answers == GROUP).mean() > 0.8
    assert f"The loss ignores the label {label}" in " ".join(lab.messages)
    assert any("32 of 128 rows have no target" in text for text in result.notes)


def test_a_label_is_ignored_whatever_brings_the_rows(lab, tmp_path):
    target = np.where(np.arange(128) % 4 == 0, -100, GROUP)
    frame = pd.DataFrame(X, columns=list("abc")).assign(y=target)
    net = nn.Linear(3, 3)
    lab.train(frame, "y", model=net, loss=CE(), validation=frame)
    assert lab.session.backend.loader.predictor("m").answers.classes == (0, 1, 2)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    lab.train(str(tmp_path / "rows.csv"), "y", model=net, loss=CE(), stream=True)
    assert lab.session.backend.loader.predictor("m").answers.classes == (0, 1, 2)
    lab.train((X, target[:, None]), model=net, loss=CE())
    assert lab.session.backend.loader.predictor("m").answers.classes == (0, 1, 2)


def test_an_ignored_label_among_the_indices_has_an_output_that_learns_nothing(lab):
    lab.train((X, GROUP + 1), model=nn.Linear(3, 4), loss=CE(ignore_index=1), optimizer="Adam", lr=0.05, epochs=20)
    answers, kept = np.asarray(lab.predict(X)), GROUP > 0
    assert (answers[kept] == GROUP[kept] + 1).mean() > 0.8


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    ("target", "outputs", "settings", "said"),
    [
        (GROUP + 1, 2, {"ignore_index": 1}, "ignores the class 1 by its index, 0 to 1; the labels are 2, 3"),
        (
            GROUP + 1,
            3,
            {"weight": torch.ones(3)},
            "has a weight for each class by its index, 0 to 2; the labels are 1,",
        ),
        (np.array(["p", "q", "r"])[GROUP], 3, {"ignore_index": 0}, "ignores the class 0 by its index"),
    ],
)
def test_what_a_loss_says_of_a_class_by_another_label_is_refused(lab, own, target, outputs, settings, said):
    loss = (lambda o, t: functional.cross_entropy(o, t, **settings)) if own else CE(**settings)
    with pytest.raises(ModelError, match=said) as caught:
        lab.train((X, target), model=nn.Linear(3, outputs), loss=loss)
    assert "return_inverse" in caught.value.hint


def test_weights_of_classes_in_words_are_told_in_their_order(lab):
    lab.train((X, np.array(["p", "q", "r"])[GROUP]), model=nn.Linear(3, 3), loss=CE(weight=torch.ones(3)))
    assert "The loss's weights are of the labels in this order: p, q, r." in lab.messages
    lab.train((X, GROUP), model=nn.Linear(3, 3), loss=CE(weight=torch.tensor([1.0, 2, 3])))


class Mixing(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.l, self.how = nn.Linear(3, 1), how

    def forward(self, x):
        return self.how(self.l(x))


MIXING = {
    "mean": lambda h: h - h.mean(0),
    "softmax": lambda h: h.softmax(0),
    "flip": lambda h: h.flip(0),
    "norm": lambda h: functional.batch_norm(h, None, None, training=True),
    "neighbour": lambda h: h + h.roll(1, 0),
    "largest": lambda h: h / h.abs().amax(),
}


@pytest.mark.parametrize("how", MIXING)
def test_a_module_whose_answers_hang_on_other_rows_is_told_in_the_result(lab, how):
    result = lab.train((X, LINE), model=Mixing(MIXING[how]), loss="mse", epochs=2)
    assert any("depends on the other rows of its batch" in note for note in result.notes)


APART = {
    "linear": nn.Linear(3, 1),
    "batch-norm": nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)),
    "random": Mixing(lambda h: functional.dropout(h, 0.5, training=True)),
    "squeezes": Mixing(lambda h: h.squeeze()),
    "level": Mixing(lambda h: 1e5 + 0.1 * h),
    "attention": nn.Sequential(
        nn.Unflatten(1, (3, 1)), nn.Linear(1, 8), nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), nn.Flatten(),
        nn.Linear(24, 1),
    ),
    "constant": Mixing(lambda h: h * 0 + 3),
}  # fmt: skip


@pytest.mark.parametrize("net", APART.values(), ids=APART)
def test_nothing_is_said_of_rows_that_are_answered_one_by_one(lab, net):
    result = lab.train((X, LINE), model=net, loss="mse", epochs=2, lr=1e-4)
    assert not any("other rows of its batch" in note for note in result.notes)


def test_a_module_of_bfloat16_weights_is_told_before_it_trains(lab):
    with pytest.raises(ModelError, match="takes bfloat16 only") as caught:
        lab.train((X, LINE), model=nn.Linear(3, 1).bfloat16(), loss="mse")
    assert "--precision bf16" in caught.value.hint
