"""What a constant answer is worth stands beside every figure, and nonsense is called by its name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as peer
from torch import nn

from maas_magics.api.errors import DataError, Diverged
from maas_magics.api.events import EpochEnd
from maas_magics.api.specs import CallSpec
from maas_magics.core.losses.make import make_loss
from maas_magics.core.tasks.baseline import constant_loss
from maas_magics.widgets.history import History
from maas_magics.widgets.words import summary

N = 200
RNG = np.random.default_rng(5)
X = RNG.normal(size=(N, 3))
F = X[:, 0] + 0.2 * RNG.normal(size=N)
TABLE = pd.DataFrame(X, columns=["a", "b", "c"])
HELD = TABLE.iloc[150:]


def split(y: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    whole = TABLE.assign(y=y)
    return whole.iloc[:150], whole.iloc[150:]


@pytest.mark.parametrize("stream", [False, True])
def test_quantities_are_held_against_the_mean_of_the_training_rows(lab, tmp_path, stream):
    train, held = split(3e6 + F)
    train.to_parquet(tmp_path / "t.parquet")
    data = str(tmp_path / "t.parquet") if stream else train
    options: dict[str, Any] = {"stream": True} if stream else {}
    model = lab.train(data, "y", validation=held, epochs=10, lr=0.1, **options)
    mean = np.full(50, train["y"].mean())
    expected = {
        "rmse": np.sqrt(np.mean((held["y"] - mean) ** 2)),
        "mae": np.abs(held["y"] - mean).mean(),
        "r2": peer.r2_score(held["y"], mean),
        "loss": np.mean((held["y"] - mean) ** 2) / train["y"].var(ddof=0),
    }
    assert model.baseline == pytest.approx(expected, rel=1e-4)
    assert lab.session.backend.models.get("m").baseline == model.baseline
    del expected["loss"]
    scored = lab.evaluate(held)
    assert scored.baseline == pytest.approx(expected, rel=1e-4)
    assert f"(always the mean: {expected['rmse']:.4g})" in repr(model)
    assert f"(always the mean: {expected['rmse']:.4g})" in repr(scored)
    assert "always the mean" in scored._repr_html_()
    assert not model.notes


@pytest.mark.parametrize("labels", [("q", "p"), (True, False), (2, 1), (0.5, 0.25)])
def test_labels_are_held_against_the_most_frequent_one(lab, labels):
    y = np.where(F > -0.8, *labels)
    train, held = split(y)
    model = lab.train(train, "y", task="binary", validation=held, epochs=15, lr=0.1)
    share = np.mean(held["y"].to_numpy() == labels[0])
    prior = np.mean(train["y"].to_numpy() == labels[0])
    assert model.baseline["accuracy"] == share and model.baseline["balanced_accuracy"] == 0.5
    assert model.baseline["auc"] == 0.5
    loss = -(share * np.log(prior) + (1 - share) * np.log(1 - prior))
    assert model.baseline["loss"] == pytest.approx(loss, rel=1e-5)
    assert f"(most frequent label: {share:.4g})" in repr(model)
    scored = lab.evaluate(held, metrics=("log_loss", "accuracy"))
    assert scored.baseline == pytest.approx({"log_loss": loss, "accuracy": share}, rel=1e-6)


def test_every_way_to_train_tells_the_baseline(lab):
    three = np.digitize(F, [-0.5, 0.5])
    assert lab.train(*(TABLE.assign(y=three), "y")).baseline["accuracy"] < 0.6
    several = TABLE.assign(y=F > 0, z=X[:, 1] > 0.7)
    model = lab.train(several, ["y", "z"])
    assert 0.5 <= model.baseline["accuracy"] <= 0.8 and "loss" in model.baseline
    assert "rmse" in lab.train(TABLE.assign(y=F, z=X[:, 1]), ["y", "z"]).baseline
    net = torch.nn.Linear(3, 1)
    arrays = X.astype("float32"), F.astype("float32")
    assert lab.train(*arrays, model=net).baseline["rmse"] == pytest.approx(F.std(), rel=0.4)
    own = lab.train(*arrays, model=net, loss=torch.nn.MSELoss(), metrics=("rmse", lambda said, true: 1.0))
    assert set(own.baseline) == {"rmse"}
    dataset = torch.utils.data.TensorDataset(*map(torch.from_numpy, arrays))
    assert lab.train(dataset, model=net).baseline["rmse"] == pytest.approx(F.std(), rel=0.4)
    assert lab.train(TABLE.assign(y=F), "y", workers=2, epochs=2).baseline["rmse"] > 0
    held_none = lab.train(TABLE.assign(y=F), "y", validation=0.0)
    assert held_none.baseline["loss"] == pytest.approx(1, rel=1e-4) and "(a constant answer: 1)" in repr(held_none)


def test_the_view_and_the_sweep_and_the_comparison_show_it(lab):
    lab.train(TABLE.assign(y=F), "y", epochs=2)
    events = list(lab.last.events(follow=False))
    ends = [event for event in events if isinstance(event, EpochEnd)]
    assert all(end.baseline["rmse"] > 0 for end in ends)
    shown = summary(History.of(events))
    head = next(line for line in shown["text/plain"].splitlines() if "validation" in line)
    assert head.split() == ["train", "validation", "always", "the", "mean"]
    assert "always the mean" in shown["text/html"]
    result = lab.session.train(lab_request(), CallSpec(sweep="lr=[0.1, 0.01]"))
    assert "val_rmse, always the mean" in result._repr_html_()
    assert "rmse, always the mean" in repr(lab.session.compare(["m"]))


def lab_request() -> Any:
    from maas_magics.api.requests import TrainRequest

    return TrainRequest(name="m", data=TABLE.assign(y=F), target="y", model="linear", epochs=1, monitor="rmse")


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_figures_that_are_no_better_than_a_constant_are_told(lab, task):
    noise = np.random.default_rng(1).permutation(N)
    y = {"regression": noise * 1.0, "binary": noise % 4 == 0, "multiclass": noise % 7 % 3}[task]
    model = lab.train(TABLE.assign(y=y), "y", task=task, epochs=40, lr=0.1, monitor="loss", seed=1)
    if not model.notes:
        # the best epoch was a little better by chance; the figure beside it tells how little
        name = "rmse" if task == "regression" else "accuracy"
        assert model.metrics[name] == pytest.approx(model.baseline[name], rel=0.2)
        return
    assert "no better than always answering" in model.notes[0] and model.notes[0] in lab.messages
    assert f"⚠ {model.notes[0]}" in repr(model)


def test_an_id_as_target_is_told_before_and_after(lab):
    ids = TABLE.assign(y=[f"id{i}" for i in range(N)])
    model = lab.train(ids, "y")
    told = "The target 'y' has 200 different labels in 200 rows: hardly one is there twice"
    assert any(text.startswith(told) for text in lab.messages) and model.notes[-1].startswith(told)
    half = TABLE.assign(y=[f"id{i // 3}" for i in range(N)])
    assert not any("hardly one" in text for text in lab.train(half, "y").notes)
    few = TABLE.assign(y=np.arange(N) % 15)
    assert not any("hardly one" in text for text in lab.train(few, "y").notes)


@pytest.mark.parametrize("stream", [False, True])
def test_dates_are_no_target(lab, tmp_path, stream):
    days = pd.date_range("2020-01-01", periods=N)
    for number, y in enumerate((days, days.astype(str), [day.date() for day in days], days.strftime("%Y-%m-%dT%H:%M"))):
        frame = TABLE.assign(y=y)
        frame.to_parquet(tmp_path / f"{number}.parquet")
        data = str(tmp_path / f"{number}.parquet") if stream else frame
        with pytest.raises(DataError, match="dates, which are neither labels nor quantities") as raised:
            lab.train(data, "y", stream=stream or None)
        assert "days since the first" in raised.value.hint
    text = TABLE.assign(y=days.astype(str))
    assert len(lab.train(text, "y", task="multiclass").info.classes) == N
    quarters = TABLE.assign(y=np.array(["2020-01-01", "2020-04-01", "2020-07-01"])[np.arange(N) % 3])
    assert lab.train(quarters, "y").info.classes == ("2020-01-01", "2020-04-01", "2020-07-01")


@pytest.mark.parametrize("lr", [3.0, 1e2, 1e4])
@pytest.mark.parametrize("model", ["linear", "mlp", "tabm"])
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_a_training_that_diverged_says_so_or_is_of_use(lab, model, optimizer, lr):
    for y in (F, np.digitize(F, [-0.5, 0.5])):
        try:
            found = lab.train(TABLE.assign(y=y), "y", model=model, optimizer=optimizer, lr=lr, epochs=3)
        except Diverged as error:
            assert "learning rate of" in error.message and f"--lr {lr / 10:g}" in error.hint
            continue
        name = "rmse" if y is F else "accuracy"
        useful = (found.metrics[name] > found.baseline[name]) == (name == "accuracy")
        assert useful or found.notes or found.diverged
        if found.history["loss"][-1] > 100:
            assert found.diverged or any("it diverged" in note for note in found.notes)


def test_a_large_first_loss_that_falls_is_no_divergence(lab):
    net = torch.nn.Linear(3, 1)
    with torch.no_grad():
        net.weight.fill_(1e4)
    model = lab.train(X.astype("float32"), F.astype("float32"), model=net, epochs=2, lr=1e-3)
    assert not model.diverged and not any("diverged" in note for note in model.notes)


def test_the_loss_of_a_constant_is_that_of_the_best_constant_outputs():
    from maas_magics.core.tasks.fit import fit_task

    y = RNG.integers(0, 3, 500)
    answers = fit_task(y, ["y"], "multiclass", True)
    target = torch.from_numpy(answers.encode(y))
    shares = np.bincount(y) / 500
    loss = make_loss("auto", answers, None, 0.0)
    assert constant_loss(loss, answers, target, target) == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-5)
    assert answers.usual == pytest.approx(shares)


@pytest.mark.parametrize("labels", [2, 3])
def test_a_constant_costs_the_same_as_logits_and_as_probabilities(lab, labels):
    rows = np.random.default_rng(0).normal(size=(90, 2)).astype("float32")
    target = np.arange(90) % 7 % labels
    found = []
    for end, options in (([], {}), ([nn.Sigmoid() if labels == 2 else nn.Softmax(1)], {"outputs": "probabilities"})):
        net = nn.Sequential(nn.Linear(2, 1 if labels == 2 else 3), *end)
        loss = "bce" if labels == 2 else "cross_entropy"
        found.append(lab.train(rows, target, model=net, loss=loss, **options).info.baseline["loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-4) and found[0] < 1.2


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("stream", [False, True])
def test_a_constant_answers_the_shares_that_weights_of_classes_make(lab, tmp_path, labels, smoothing, stream):
    rows = pd.DataFrame({"x": np.arange(400.0), "y": np.where(np.arange(400) % 20, 0, np.arange(400) // 20 % labels)})
    data: Any = rows
    if stream:
        data = str(tmp_path / "rows.parquet")
        rows.to_parquet(data)
    options = {"class_weights": "balanced", "label_smoothing": smoothing, "validation": rows, "stream": stream}
    found = lab.train(data, "y", **options).baseline
    counts = np.bincount(rows["y"])
    shares = counts / 400
    weights = 400 / (labels * counts)
    weights = weights / weights[0] if labels == 2 else weights
    soft = (1 - smoothing) * shares + smoothing / labels
    best = weights * soft / (weights * soft).sum()
    cost = -(weights * soft * np.log(best)).sum() / (1 if labels == 2 else (weights * shares).sum())
    assert found["loss"] == pytest.approx(cost, rel=1e-4)
    assert found["accuracy"] == shares[0]


def test_a_loss_of_ones_own_is_no_excuse_for_answers_worse_than_the_mean(lab):
    far = (5e6 + F).astype("float32")
    model = lab.train(X.astype("float32"), far, model=torch.nn.Linear(3, 1), loss=torch.nn.L1Loss(), epochs=2)
    assert model.metrics["r2"] < 0 and any("no better than always answering the mean" in note for note in model.notes)


def test_each_head_of_which_nothing_was_learnt_is_named(lab):
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.noise, self.right = nn.Linear(3, 2), nn.Linear(3, 1)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"noise": self.noise(x) * 0 + torch.tensor([5.0, 0.0]), "right": self.right(x)}

    target = {"noise": (F > 0).astype(int), "right": F.astype("float32")}
    model = lab.train(X.astype("float32"), target, model=TwoHeads(), epochs=30, lr=0.1)
    (note,) = model.notes
    assert "noise_accuracy" in note and "nothing was learnt" in note
