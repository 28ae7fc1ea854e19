"""Targets of several axes: pictures that are learnt, a label at each position of a row, and what a network may answer."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from maas_magics.api.errors import DataError, MaasError, ModelError, OptionError

N = 48
RNG = np.random.default_rng(3)
PICTURES = RNG.random((N, 1, 6, 4)).astype("float32")
MASK = np.digitize(PICTURES[:, 0], [0.3, 0.7])
"""One of three labels at each pixel, (n, 6, 4)."""
TOKENS = RNG.integers(0, 9, (N, 5))
TAGS = TOKENS % 3
PLAIN: dict[str, Any] = {"validation": 0, "batch_size": N, "optimizer": "SGD", "lr": 0.1, "schedule": "constant"}


class Tagger(nn.Module):
    """An embedding and a layer: three outputs for each token, last or behind the rows."""

    def __init__(self, last: bool, outputs: int = 3) -> None:
        super().__init__()
        self.table, self.head, self.last = nn.Embedding(9, 6), nn.Linear(6, outputs), last

    def forward(self, tokens: Tensor) -> Tensor:
        made = self.head(self.table(tokens))
        return made if self.last else made.transpose(1, 2)


def by_hand(net: nn.Module, inputs: np.ndarray, loss: Any, epochs: int = 3) -> list[float]:
    """Losses of a bare loop over one batch of all rows."""
    optimizer, found = torch.optim.SGD(net.parameters(), lr=0.1), []
    for _ in range(epochs):
        optimizer.zero_grad()
        value = loss(net(torch.from_numpy(inputs)))
        value.backward()
        optimizer.step()
        found.append(float(value.detach()))
    return found


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize("kind", ["pixels", "tokens behind", "tokens last"])
@pytest.mark.parametrize("named", [True, False])
def test_a_label_at_each_position_is_learnt_as_by_hand(lab, kind, named):
    torch.manual_seed(0)
    if kind == "pixels":
        net, inputs, target = nn.Conv2d(1, 3, 3, padding=1), PICTURES, MASK
    else:
        net, inputs, target = Tagger(last=kind == "tokens last"), TOKENS, TAGS
    plain = copy.deepcopy(net)
    labels = torch.from_numpy(target)

    def loss(outputs: Tensor) -> Tensor:
        return functional.cross_entropy(outputs.movedim(-1, 1) if kind == "tokens last" else outputs, labels)

    options = {} if named else {"loss": nn.CrossEntropyLoss()}
    if kind == "tokens last" and not named:
        with pytest.raises(ModelError, match=r"takes the classes behind the rows, \(n, 3, …\)"):
            lab.train(inputs, target, model=net, **options)
        return
    result = lab.train(inputs, target, model=net, epochs=3, **PLAIN, **options)
    assert result.info.task == "dense" and result.info.classes == ("0", "1", "2")
    assert result.history["loss"] == pytest.approx(by_hand(plain, inputs, loss), rel=1e-4)
    with torch.no_grad():
        outputs = lab.net()(torch.from_numpy(inputs))
    outputs = outputs if kind == "tokens last" else outputs.movedim(1, -1)
    found = lab.predict(inputs)
    assert found.shape == target.shape and (found == outputs.argmax(-1).numpy()).mean() > 0.99
    told = lab.predict(inputs, probabilities=True)
    assert np.allclose(told, outputs.softmax(-1).numpy(), atol=1e-5)
    scored = lab.evaluate(inputs, target)
    assert scored["accuracy"] == pytest.approx(float((found == target).mean()))
    assert np.sum(scored.confusion) == target.size
    shares = np.bincount(target.reshape(-1)) / target.size
    assert scored.baseline["accuracy"] == pytest.approx(shares.max())
    if named:
        assert result.info.baseline["loss"] == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-4)


@pytest.mark.parametrize("last", [False, True])
def test_what_is_exported_answers_the_same_labels(lab, exported, last):
    result = lab.train(TOKENS, TAGS, model=Tagger(last), epochs=2)
    lab.export()
    engine = lab.session.backend.loader.predictor("m").engine
    assert engine is not None
    answers = engine.run([TOKENS])
    assert np.array_equal(answers["prediction"], lab.predict(TOKENS))
    assert answers["probabilities"].shape == (N, 5, 3)
    assert answers["prediction"].dtype.char == np.dtype("int64").char, "as numpy's own, or it shows itself otherwise"
    assert np.allclose(answers["probabilities"].sum(-1), 1, atol=1e-5)
    assert [spec.shape for spec in result.info.signature.outputs] == [(-1, 5), (-1, 5, 3)]


@pytest.mark.usefixtures("unexported")
def test_labels_at_positions_come_back_as_they_came(lab):
    labels = np.array([10, 20, 30], dtype="int16")[TAGS]
    lab.train(TOKENS, labels, model=Tagger(True), epochs=1)
    found = lab.predict(TOKENS)
    assert found.dtype == np.int16 and set(np.unique(found)) <= {10, 20, 30}
    most = lab.predict(TOKENS, top=2)
    assert np.array_equal(most["top_1"], found) and most["probability_2"].shape == TAGS.shape


@pytest.mark.usefixtures("unexported")
def test_classes_weigh_at_positions(lab):
    torch.manual_seed(0)
    net = Tagger(False)
    plain, labels = copy.deepcopy(net), torch.from_numpy(TAGS)
    counts = np.bincount(TAGS.reshape(-1))
    weights = torch.tensor(TAGS.size / (3 * counts), dtype=torch.float32)
    result = lab.train(TOKENS, TAGS, model=net, epochs=3, class_weights="balanced", **PLAIN)
    expected = by_hand(plain, TOKENS, lambda outputs: functional.cross_entropy(outputs, labels, weight=weights))
    assert result.history["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("unexported")
def test_a_loader_of_masks_is_trained_on(lab):
    pictures, mask = torch.from_numpy(PICTURES), torch.from_numpy(MASK)
    result = lab.train(DataLoader(TensorDataset(pictures, mask), 16), model=nn.Conv2d(1, 3, 3, padding=1), epochs=2)
    assert result.info.task == "dense" and lab.predict(PICTURES).shape == MASK.shape
    net = nn.Conv2d(1, 1, 3, padding=1)
    result = lab.train(DataLoader(TensorDataset(pictures, pictures), 16), name="same", model=net, epochs=2)
    assert result.info.task == "regression" and lab.predict(PICTURES, "same").shape == PICTURES.shape
    with pytest.raises(ModelError, match=r"an output for each class at each position"):
        lab.train(DataLoader(TensorDataset(pictures, mask), 16), model=nn.Sequential(nn.Flatten(), nn.Linear(24, 3)))


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_picture_may_be_the_target(lab, workers):
    """An autoencoder; by a share of each batch for every worker, too."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 3, padding=1))
    plain, wanted = copy.deepcopy(net), torch.from_numpy(PICTURES)
    result = lab.train(PICTURES, PICTURES, model=net, epochs=3, workers=workers, **PLAIN)
    expected = by_hand(plain, PICTURES, lambda outputs: functional.mse_loss(outputs, wanted))
    assert result.info.task == "regression" and result.history["loss"] == pytest.approx(expected, rel=1e-4)
    found = lab.predict(PICTURES)
    assert found.shape == PICTURES.shape
    scored = lab.evaluate(PICTURES, PICTURES)
    assert scored["rmse"] == pytest.approx(float(np.sqrt(((found - PICTURES) ** 2).mean())))
    assert scored.baseline["rmse"] == pytest.approx(float(PICTURES.std()), rel=1e-4)


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.L1Loss(), lambda o, t: (o - t).abs().mean(), "huber"])
def test_losses_of_pictures_get_target_and_outputs_in_one_shape(lab, loss):
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1))
    result = lab.train(PICTURES, PICTURES[:, 0], model=net, loss=loss, epochs=1, **PLAIN)
    assert result.info.task == "regression" and lab.predict(PICTURES).shape == (N, 6, 4)


@pytest.mark.usefixtures("unexported")
def test_a_training_on_masks_goes_on_exactly(lab):
    options = PLAIN | {"batch_size": 16, "model": nn.Conv2d(1, 3, 3, padding=1), "seed": 1}
    whole = lab.train(PICTURES, MASK, name="whole", epochs=4, **options).history["loss"]
    lab.train(PICTURES, MASK, name="part", epochs=2, **options)
    assert lab.train(PICTURES, MASK, name="part", epochs=4, resume=True, **options).history["loss"] == whole


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        (MASK[:, 0, 0], {"task": "dense"}, "a label at each position"),
        (np.zeros_like(MASK), {}, "one class only"),
        (MASK, {"model": "mlp"}, ""),
        (MASK, {"model": nn.Conv2d(1, 2, 3, padding=1)}, "wants"),
        (MASK, {"balance": True}, "Rows are balanced by their label"),
    ],
    ids=["one a row", "one class", "by name", "outputs", "balance"],
)
def test_what_does_not_fit_is_told(lab, target, options, said):
    with pytest.raises(MaasError) as error:
        lab.train(PICTURES, target, **{"model": nn.Conv2d(1, 3, 3, padding=1)} | options)
    assert said in error.value.message and len(str(error.value).splitlines()) <= 2
    assert isinstance(error.value, (DataError, ModelError, OptionError)) and lab.session.model_names() == []


@pytest.mark.usefixtures("unexported")
def test_rows_of_other_positions_are_told_where_they_are_scored(lab):
    lab.train(TOKENS, TAGS, model=Tagger(True), epochs=1)
    with pytest.raises(DataError, match=r"The target has \(4,\) labels a row; the model was trained on \(5,\)"):
        lab.evaluate(TOKENS, TAGS[:, :4])


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize(("ignored", "named"), [(-100, True), (-100, False), (255, False)])
def test_positions_that_the_loss_ignores_have_no_part(lab, ignored, named):
    torch.manual_seed(0)
    net = nn.Conv2d(1, 3, 3, padding=1)
    plain = copy.deepcopy(net)
    hidden = np.random.default_rng(0).random(MASK.shape) < 0.4
    target = np.where(hidden, ignored, MASK)
    labels = torch.from_numpy(target)
    loss = nn.CrossEntropyLoss(ignore_index=ignored)
    options = {} if named else {"loss": loss}
    result = lab.train(PICTURES, target, model=net, epochs=3, **PLAIN, **options)
    assert result.info.classes == ("0", "1", "2")
    expected = by_hand(plain, PICTURES, lambda outputs: loss(outputs, labels))
    assert result.history["loss"] == pytest.approx(expected, rel=1e-4)
    found, there = lab.predict(PICTURES), ~hidden
    scored = lab.evaluate(PICTURES, target)
    assert scored["accuracy"] == pytest.approx(float((found == MASK)[there].mean()))
    assert np.sum(scored.confusion) == there.sum()
    held = lab.train(PICTURES, target, model=net, epochs=1, class_weights=None if not named else "balanced", **options)
    assert 0 <= held.info.metrics["accuracy"] <= 1


@pytest.mark.usefixtures("unexported")
def test_batches_count_by_their_positions_where_several_make_one_step(lab):
    """Groups of batches of which each ignores another share are those of one large batch."""
    torch.manual_seed(0)
    net = nn.Conv2d(1, 3, 3, padding=1)
    plain = copy.deepcopy(net)
    target = np.where(np.random.default_rng(0).random(MASK.shape) < np.linspace(0, 0.9, N)[:, None, None], -100, MASK)
    lab.train(PICTURES, target, model=net, epochs=3, **PLAIN | {"batch_size": 12, "accumulate": 4})
    by_hand(plain, PICTURES, lambda outputs: functional.cross_entropy(outputs, torch.from_numpy(target)))
    assert torch.allclose(lab.net().weight, plain.weight, atol=1e-5)


@pytest.mark.usefixtures("unexported")
def test_held_out_rows_alone_may_have_positions_that_are_ignored(lab):
    held = np.where(np.random.default_rng(0).random(MASK.shape) < 0.5, -100, MASK)
    result = lab.train(PICTURES, MASK, model=nn.Conv2d(1, 3, 3, padding=1), validation=(PICTURES, held), epochs=1)
    right = (lab.predict(PICTURES) == MASK)[held != -100].mean()
    assert result.info.metrics["accuracy"] == pytest.approx(float(right))
