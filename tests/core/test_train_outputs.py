"""What a module's outputs are: by the loss, by the user's word, and never broadcast against the target."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional

from maas_magics.api.errors import MaasError, ModelError, OptionError
from maas_magics.core import publish

N = 90
X = np.random.default_rng(0).normal(size=(N, 4)).astype("float32")
Z = X @ np.array([1, -2, 0.5, 1.0])
TWO, THREE, REAL = (Z > 0).astype(int), np.digitize(Z, [-1, 1]), Z.astype("float32")
THIRTY = np.arange(N) % 30


@pytest.fixture(autouse=True)
def without_exports(monkeypatch):
    """Answers come from the module itself: what exports answer is held against it in `test_modules_fuzz`."""
    monkeypatch.setattr(publish, "export_to", lambda *args: None)


def _net(outputs=1, *end):
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, outputs), *end)


class Squeezed(nn.Module):
    def __init__(self, outputs=1):
        super().__init__()
        self.net = _net(outputs)

    def forward(self, x):
        return self.net(x).squeeze()


def _plain(lab):
    with torch.no_grad():
        return lab.net()(torch.from_numpy(X))


def _focal(outputs, target):
    each = functional.cross_entropy(outputs, target, reduction="none")
    return ((1 - torch.exp(-each)) ** 2 * each).mean()


def _log_likelihood(outputs, target):
    return -(outputs[torch.arange(len(outputs)), target] + 1e-8).log().mean()


def _brier(outputs, target):
    return (outputs - functional.one_hot(target, 3)).square().mean()


DECODED = {
    "softmax": lambda o: o.softmax(1),
    "exp": lambda o: o.exp(),
    "as is": lambda o: o,
    "sigmoid of two": lambda o: torch.cat([1 - o.reshape(-1, 1).sigmoid(), o.reshape(-1, 1).sigmoid()], 1),
    "two": lambda o: torch.cat([1 - o.reshape(-1, 1), o.reshape(-1, 1)], 1),
    "sigmoid": lambda o: o.sigmoid(),
}


@pytest.mark.parametrize(
    ("net", "target", "loss", "outputs", "decoded"),
    [
        (_net(1, nn.Sigmoid()), TWO, nn.BCELoss(), None, "two"),
        (_net(1, nn.Sigmoid()), TWO, functional.binary_cross_entropy, None, "two"),
        (_net(1), TWO, nn.BCEWithLogitsLoss(), None, "sigmoid of two"),
        (Squeezed(), TWO == 1, nn.BCEWithLogitsLoss(), None, "sigmoid of two"),
        (_net(1), 2 * TWO - 1, nn.SoftMarginLoss(), None, "sigmoid of two"),
        (_net(3), THREE, nn.CrossEntropyLoss(), None, "softmax"),
        (_net(2), TWO, nn.CrossEntropyLoss(), None, "softmax"),
        (_net(3, nn.LogSoftmax(1)), THREE, nn.NLLLoss(), None, "exp"),
        (_net(3), THREE, _focal, None, "softmax"),
        (_net(3, nn.Softmax(1)), THREE, _log_likelihood, None, "as is"),
        (_net(3, nn.Softmax(1)), THREE, lambda o, t: functional.nll_loss(torch.log(o), t), None, "as is"),
        (_net(3, nn.Softmax(1)), THREE, _brier, None, "as is"),
        (_net(3, nn.Softmax(1)), THREE, _brier, "probabilities", "as is"),
        (_net(3, nn.Softmax(1)), THREE, "auto", "probabilities", "as is"),
        (_net(1, nn.Sigmoid()), TWO, "bce", "probabilities", "two"),
        (_net(2), np.stack([TWO, 1 - TWO], 1), nn.MultiLabelSoftMarginLoss(), None, "sigmoid"),
        (_net(30), THIRTY, nn.CrossEntropyLoss(), None, "softmax"),
        (_net(30), THIRTY, "cross_entropy", None, "softmax"),
        (_net(30), THIRTY, _focal, None, "softmax"),
        (_net(5), THREE, nn.CrossEntropyLoss(), None, "softmax"),
    ],
)  # fmt: skip
def test_labels_are_decoded_by_what_the_loss_takes_the_outputs_for(lab, net, target, loss, outputs, decoded):
    lab.train(X, target, model=net, loss=loss, outputs=outputs, epochs=3, lr=0.05)
    expected = DECODED[decoded](_plain(lab)).numpy()
    assert np.allclose(lab.predict(X, probabilities=True), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("net", "target", "loss", "decoded"),
    [
        (_net(2), np.stack([TWO, 1 - TWO], 1), nn.MSELoss(), "as is"),
        (_net(1), TWO, nn.MSELoss(), "as is"),
        (_net(1), THREE, lambda o, t: functional.l1_loss(o, t), "as is"),
        (_net(1), np.exp(Z).round(), nn.PoissonNLLLoss(), "exp"),
        (_net(1), np.exp(Z.clip(-1, 1)).round(), lambda o, t: functional.poisson_nll_loss(o, t), "exp"),
        (_net(3), functional.softmax(torch.from_numpy(X[:, :3]), 1).numpy(), nn.CrossEntropyLoss(), "softmax"),
        (_net(1), 1 / (1 + np.exp(-Z)), nn.BCEWithLogitsLoss(), "sigmoid"),
        (_net(3), REAL, lambda o, t: torch.maximum(0.1 * (t[:, None] - o), 0.9 * (o - t[:, None])).mean(), "as is"),
        (_net(2), REAL, lambda o, t: nn.GaussianNLLLoss()(o[:, 0], t, functional.softplus(o[:, 1])), "as is"),
        (_net(6, nn.Unflatten(1, (2, 3))), REAL, lambda o, t: (o.sum((1, 2)) - t).square().mean(), "as is"),
    ],
)
def test_quantities_are_those_that_the_loss_makes(lab, net, target, loss, decoded):
    info = lab.train(X, target, model=net, loss=loss, epochs=3, lr=0.01).info
    assert info.task == "regression"
    expected = DECODED[decoded](_plain(lab)).numpy()
    found = lab.predict(X)
    assert np.allclose(found, expected.reshape(found.shape), atol=1e-4)
    assert info.signature.outputs[0].shape[1:] == found.shape[1:]
    assert lab.predict(X[:1]).shape[1:] == found.shape[1:]
    lab.evaluate(X, target)


@pytest.mark.parametrize("loss", [nn.MSELoss(), functional.mse_loss, lambda o, t: functional.mse_loss(o, t)])
@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("net", [Squeezed, _net])
def test_a_loss_learns_what_the_plain_loop_learns_whatever_the_shapes(lab, loss, column, net):
    target = REAL[:, None] if column else REAL
    module = net()
    result = lab.train(
        X,
        target,
        model=module,
        loss=loss,
        optimizer="SGD",
        lr=0.1,
        schedule="constant",
        epochs=20,
        validation=0,
        batch_size=N,
    )
    x, y = torch.from_numpy(X), torch.from_numpy(REAL)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        value = functional.mse_loss(module(x).reshape(-1), y)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert np.allclose(result.history["loss"], losses, rtol=1e-3)


@pytest.mark.parametrize(
    ("net", "loss"),
    [
        (_net(), lambda o, t: functional.mse_loss(o.squeeze(1), t)),
        (_net(), lambda o, t: functional.mse_loss(o[:, 0], t)),
        (Squeezed(), lambda o, t: functional.mse_loss(o, t)),
        (_net(), lambda o, t: functional.mse_loss(o, t.unsqueeze(1))),
        (_net(), lambda o, t: (o.view(-1) - t.view(-1)).square().mean()),
    ],
)
def test_a_loss_that_makes_the_shapes_alike_itself_is_handed_what_lets_it(lab, net, loss):
    result = lab.train(X, REAL, model=net, loss=loss, epochs=60, lr=0.05)
    assert result.info.metrics["r2"] > 0.8


@pytest.mark.parametrize(
    ("net", "loss", "said"),
    [
        (_net(3), nn.MSELoss(), r"returns float32 \(n, 3\) where the target is float32 \(n, 1\); MSELoss takes one"),
        (_net(), lambda o, t: (o.view(-1, 1) - t.view(-1)).square().mean(), "would broadcast"),
    ],
)
def test_shapes_that_would_broadcast_are_refused(lab, net, loss, said):
    with pytest.raises(ModelError, match=said):
        lab.train(X, REAL, model=net, loss=loss)
    assert lab.session.model_names() == []


@pytest.mark.parametrize(
    ("net", "target", "options", "said"),
    [
        (
            _net(3, nn.Softmax(1)),
            THREE,
            {"loss": _focal},
            "taken for logits, as the loss takes them, and answered through a softmax; --outputs",
        ),
        (_net(3, nn.Softmax(1)), THREE, {"loss": _focal}, "lie within 0…1 and sum to 1"),
        (_net(3, nn.Softmax(1)), THREE, {"loss": _brier}, "taken for probabilities, and answered as they are"),
        (_net(3, nn.Softmax(1)), THREE, {}, "lie within 0…1 and sum to 1"),
        (_net(1, nn.Sigmoid()), TWO, {}, "lie within 0…1, as probabilities do"),
        (_net(3), THREE, {"loss": _brier, "outputs": "probabilities"}, "are not probabilities that sum to 1"),
        (_net(3), THREE, {"loss": nn.NLLLoss()}, "are not log-probabilities"),
        (_net(2), REAL, {"loss": lambda o, t: (o.sum(1) - t).square().mean()}, "taken for values"),
    ],
)
def test_what_outputs_are_taken_for_is_told_and_rows_that_contradict_it_are_named(lab, net, target, options, said):
    lab.train(X, target, model=net, **options)
    assert any(said in text for text in lab.messages), lab.messages


def test_outputs_that_fit_their_word_are_not_doubted(lab):
    for options in ({"loss": nn.BCELoss()}, {"outputs": "probabilities"}):
        lab.train(X, TWO, model=_net(1, nn.Sigmoid()), **options)
        assert not any("looked at" in text for text in lab.messages)


@pytest.mark.parametrize(
    ("net", "target", "loss"),
    [
        (_net(3), THREE, lambda o, t: functional.mse_loss(o, functional.one_hot(t, 3).float())),
        (_net(2), TWO, lambda o, t: functional.l1_loss(o, functional.one_hot(t.long(), 2).float())),
        (_net(3), THREE, lambda o, t: functional.mse_loss(o.softmax(1), functional.one_hot(t, 3).float())),
        (
            _net(3, nn.LogSoftmax(1)),
            THREE,
            lambda o, t: functional.kl_div(o, functional.one_hot(t, 3).float(), reduction="batchmean"),
        ),
    ],
)
def test_labels_that_a_loss_makes_one_hot_stay_labels(lab, net, target, loss):
    assert lab.train(X, target, model=net, loss=loss).info.task == "multiclass"
    assert np.array_equal(np.asarray(lab.predict(X)), _plain(lab).numpy().argmax(1))
    rows = np.eye(3, dtype="float32")[THREE]
    assert lab.train(X, rows, model=_net(3), loss=functional.mse_loss).info.task == "regression"


@pytest.mark.parametrize(
    "loss",
    [
        nn.BCEWithLogitsLoss(reduction="none"),
        functools.partial(functional.binary_cross_entropy_with_logits, reduction="none"),
    ],
)
def test_a_loss_for_each_row_says_how_it_becomes_one_number(lab, loss):
    with pytest.raises(MaasError, match="not one number") as error:
        lab.train(X, TWO, model=_net(), loss=loss)
    assert error.value.hint == 'Give it reduction="mean".'


SIGNS = 2 * TWO - 1
BACKWARDS = [
    (_net(), SIGNS, nn.HingeEmbeddingLoss()),
    (_net(), TWO, lambda o, t: functional.hinge_embedding_loss(o.view(-1), 2 * t.view(-1) - 1)),
    (_net(1, nn.Sigmoid()), TWO, lambda o, t: functional.binary_cross_entropy(1 - o.view(-1), t.view(-1).float())),
    (_net(), TWO, lambda o, t: functional.binary_cross_entropy_with_logits(-o.view(-1), t.view(-1).float())),
    (_net(), TWO, lambda o, t: (torch.sigmoid(-o.view(-1)) - t.view(-1)).square().mean()),
    (_net(3), THREE, lambda o, t: functional.cross_entropy(-o, t)),
    (_net(3, nn.Softmax(1)), THREE, lambda o, t: functional.nll_loss((1 - o).log(), t)),
    (_net(3), THREE, lambda o, t: functional.multi_margin_loss(-2 * o, t)),
    (_net(2), TWO, lambda o, t: functional.cross_entropy(o.neg(), t)),
]


@pytest.mark.parametrize(("net", "target", "loss"), BACKWARDS)
def test_a_loss_that_prefers_the_other_labels_is_refused_unless_outputs_are_values(lab, net, target, loss):
    with pytest.raises(ModelError, match="say of a row's own label: answers would be the other labels") as error:
        lab.train(X, target, model=net, loss=loss)
    assert "--outputs values" in error.value.hint and lab.session.model_names() == []
    lab.train(X, target, model=net, loss=loss, outputs="values")
    assert np.allclose(np.squeeze(lab.predict(X)), _plain(lab).numpy().squeeze(), atol=1e-5)


@pytest.mark.parametrize("end", ["memory", "stream"])
def test_what_is_doubted_at_the_end_stands_in_the_result(lab, end, tmp_path):
    table = pd.DataFrame(X, columns=list("abcd")).assign(y=TWO)
    table.to_parquet(tmp_path / "t.parquet")
    data = table if end == "memory" else str(tmp_path / "t.parquet")
    result = lab.train(data, "y", model=_net(1, nn.Sigmoid()), **({"stream": True} if end == "stream" else {}))
    noted = [text for text in result.notes if "lie within 0…1, as probabilities do" in text]
    assert len(noted) == 1 and noted[0] in lab.messages and f"⚠ {noted[0]}" in repr(result)
    result = lab.train(table, "y", model=_net(1, nn.Sigmoid()), loss=nn.BCELoss())
    assert not any("looked at" in text for text in result.notes)


def test_values_are_answered_as_they_are(lab):
    info = lab.train(X, THREE, model=_net(3), loss=_brier, outputs="values").info
    assert info.task == "regression"
    assert np.allclose(lab.predict(X), _plain(lab).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        (THREE, {"outputs": "logit"}, "There are no outputs 'logit'."),
        (THREE, {"outputs": "values", "task": "multiclass"}, "Values are of quantities; the task is multiclass."),
        (REAL, {"outputs": "logits"}, "Logits are of labels; the task is regression."),
        (THREE, {"loss": nn.CrossEntropyLoss(), "task": "regression"}, "CrossEntropyLoss is for labels"),
    ],
)
def test_words_about_outputs_that_make_no_sense_are_refused(lab, target, options, said):
    with pytest.raises(OptionError, match=said.replace(".", r"\.")):
        lab.train(X, target, model=_net(3 if target is THREE else 1), **options)


def test_a_loss_of_the_users_gets_the_target_in_its_own_units(lab):
    frame, seen = pd.DataFrame(X, columns=list("abcd")).assign(y=1e3 * REAL), []

    def share(outputs, target):
        seen.append(float(target.abs().max()))
        return ((outputs[:, 0] - target) / (target.abs() + 1)).abs().mean()

    lab.train(frame, "y", model=_net(), loss=share)
    assert max(seen) > 500


@pytest.mark.parametrize(
    ("end", "said"),
    [(lambda o: o.to(torch.complex64), "complex numbers"), (lambda o: o.argmax(1), "int64, through which nothing")],
)
def test_complex_and_whole_outputs_are_refused(lab, end, said):
    class Answers(nn.Linear):
        def forward(self, x):
            return end(super().forward(x))

    with pytest.raises(MaasError, match=said):
        lab.train(X, REAL, model=Answers(4, 1))


def _hand(o: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return o.reshape(-1), t.reshape(-1).float()


def _squares(o, t):
    o, t = _hand(o, t)
    return ((o - t) ** 2).mean()


def _dice(o, t):
    o, t = _hand(o, t)
    return 1 - 2 * (o * t).sum() / (o.sum() + t.sum())


def _entropy(o, t):
    o, t = _hand(o, t)
    return -(t * o.log() + (1 - t) * (1 - o).log()).mean()


def _hinge(o, t):
    o, t = _hand(o, t)
    return (1 - o * (2 * t - 1)).relu().mean()


def _logistic(o, t):
    o, t = _hand(o, t)
    return (1 + (-o * (2 * t - 1)).exp()).log().mean()


def _picked(o, t):
    return -o[torch.arange(len(t)), t].log().mean()


def _normed(o, t):
    return (o.exp().sum(1).log() - o[torch.arange(len(t)), t]).mean()


@pytest.mark.parametrize(
    ("loss", "end", "link"),
    [
        (_squares, torch.nn.Sigmoid(), "identity"),
        (_squares, torch.nn.Identity(), "identity"),
        (_dice, torch.nn.Sigmoid(), "identity"),
        (_entropy, torch.nn.Sigmoid(), "identity"),
        (_hinge, torch.nn.Identity(), "sigmoid"),
        (_logistic, torch.nn.Identity(), "sigmoid"),
        (_picked, torch.nn.Softmax(dim=1), "identity"),
        (_normed, torch.nn.Identity(), "softmax"),
    ],
)
def test_a_loss_by_hand_is_asked_whether_it_takes_probabilities(lab, loss, end, link):
    several = link == "softmax" or isinstance(end, torch.nn.Softmax)
    rows = np.random.default_rng(0).normal(size=(240, 3)).astype("float32")
    y = np.digitize(rows[:, 0], [-0.5, 0.5]) if several else (rows[:, 0] > rows[:, 1]).astype("int64")
    net = torch.nn.Sequential(torch.nn.Linear(3, 3 if several else 1), end)
    model = lab.train(rows, y, model=net, loss=loss, epochs=30, lr=0.1)
    assert lab.session.backend.loader.predictor("m").answers.decoding == link
    assert not any("lie within" in note for note in model.notes)
    found = lab.predict(rows, probabilities=False)
    assert np.mean((found["prediction"] if isinstance(found, dict) else found) == y) > 0.9


class Tagging(nn.Module):
    """Three classes for each of four positions."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(6, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(x).reshape(-1, 3, 4)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.functional.cross_entropy])
def test_a_label_for_each_position_is_learnt_by_losses_of_torch_and_as_values_by_functions(lab, loss):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 6)).astype("float32"), rng.integers(0, 3, (60, 4))
    assert lab.train(x, y, model=Tagging(), loss=loss).info.task == "dense"
    assert lab.predict(x).shape == (60, 4)
    own = lambda outputs, target: nn.functional.cross_entropy(outputs, target.long())  # noqa: E731
    lab.train(x, y, model=Tagging(), loss=own)
    assert lab.predict(x).shape == (60, 3, 4)
