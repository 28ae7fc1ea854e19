"""How training goes: optimizers, losses, schedules, weights of classes, early stopping, seeds, stops and failures."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from maas_magics.api.errors import Diverged, MaasError, OptionError, Stopped
from maas_magics.api.events import EpochEnd, Finished, Started, Step
from maas_magics.core.training.steps.optimizers import optimizer_names
from maas_magics.core.training.steps.schedules import SCHEDULES

N = 64
X = np.sin(np.arange(N * 4.0)).reshape(N, 4).astype("float32")
TWO = (X[:, 0] + X[:, 1] > 0).astype(int)
THREE = np.digitize(X[:, 0], [-0.5, 0.5])
REAL = (X @ [1.0, -2.0, 0.5, 3.0]).astype("float32")
SLOW = {"model": "linear", "batch_size": 1, "epochs": 100_000, "validation": 0.2}

pytestmark = pytest.mark.usefixtures("unexported")


def _net(outputs: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs))


def _weights(lab, model: str = "m") -> list[torch.Tensor]:
    return list(lab.net(model).state_dict().values())


def _wait_for(lab, kind: type, number: int = 1, job=None) -> None:
    """Until a job, the newest one unless said, has told of some events of a kind."""
    found = 0
    for event in (job or lab.last).events():
        found += isinstance(event, kind)
        if found >= number:
            return


@pytest.mark.parametrize("name", [name for name in optimizer_names() if name not in ("SparseAdam", "Muon")])
def test_every_optimizer_of_torch_learns(lab, name):
    """Where each must: all rows in every step, and a loss with one valley, so no processor's rounding matters."""
    lr = {"Adadelta": 1.0, "Rprop": 0.01}.get(name, 0.05)
    options = {"optimizer": name, "lr": lr, "epochs": 4, "validation": 0, "batch_size": N}
    losses = lab.train(X, REAL, model="linear", **options).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert lab.messages == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, True),
        ({"validation": 0, "batch_size": N}, False),
        ({"validation": 0, "batch_size": N // 2, "accumulate": 2}, False),
        ({"optimizer": "Adam"}, False),
    ],
)
def test_lbfgs_on_mini_batches_is_told_to_be_unsound(lab, options, told):
    lab.train(X, REAL, **{"optimizer": "LBFGS", "batch_size": 16, "validation": 0.25} | options)
    said = "LBFGS on mini-batches is not sound: it takes the change from one batch's gradient to the next's for "
    said += "curvature, and the loss may rise; --batch-size 48 is what it is made for."
    assert lab.messages == ([said] if told else [])


def test_lbfgs_on_a_loader_of_several_batches_is_told_to_be_unsound(lab):
    rows = TensorDataset(torch.from_numpy(X), torch.from_numpy(REAL)[:, None])
    for size in (16, N):
        lab.train(DataLoader(rows, size), model=_net(), optimizer="LBFGS")
        told = [text for text in lab.messages if "one batch of all rows is what it is made for" in text]
        assert len(told) == (size < N)


@pytest.mark.parametrize("name", ["SparseAdam", "Muon"])
def test_an_optimizer_that_cannot_train_a_network_says_so(lab, name):
    with pytest.raises(OptionError, match=name) as error:
        lab.train(X, REAL, model="mlp", optimizer=name)
    assert "--optimizer" in error.value.hint
    assert lab.session.model_names() == []


@pytest.mark.parametrize("name", ["adam", "ADAMW", "sgd"])
def test_the_case_of_an_optimizer_does_not_matter(lab, name):
    assert lab.train(X, REAL, optimizer=name).epochs == 1


def test_arguments_reach_the_optimizer(lab):
    plain, momentum = (
        lab.train(X, REAL, optimizer="SGD", lr=0.01, optimizer_params=extra, epochs=5).history["loss"][-1]
        for extra in ({}, {"momentum": 0.9, "nesterov": True})
    )
    assert momentum < plain
    decayed = lab.train(X, REAL, optimizer="AdamW", weight_decay=100.0, lr=0.01, epochs=5)
    assert decayed.history["loss"][-1] > plain


@pytest.mark.parametrize("loss", ["auto", "mse", "l1", "huber", "smooth_l1"])
def test_every_loss_for_quantities_is_the_one_of_torch(lab, loss):
    result = lab.train(X, REAL, loss=loss, validation=(X, REAL), epochs=2)
    scale = REAL.std(dtype=float)
    function = getattr(functional, f"{'mse' if loss == 'auto' else loss}_loss")
    answers, target = (torch.from_numpy(values.astype(float)) / scale for values in (lab.predict(X), REAL))
    assert result.metrics["loss"] == pytest.approx(float(function(answers, target)), rel=1e-4)


@pytest.mark.parametrize(
    ("target", "loss", "task"),
    [
        (TWO, "auto", "binary"),
        (TWO, "bce", "binary"),
        (TWO, "cross_entropy", "binary"),
        (THREE, "auto", "multiclass"),
        (THREE, "cross_entropy", "multiclass"),
        (np.stack([TWO, 1 - TWO], 1), "bce", "multilabel"),
        (TWO, "mse", "regression"),
    ],
)
def test_every_loss_for_labels_learns(lab, target, loss, task):
    result = lab.train(X, target, loss=loss, epochs=5, validation=0)
    assert result.info.task == task
    assert result.history["loss"][-1] < result.history["loss"][0]


@pytest.mark.parametrize(
    ("target", "loss", "said", "hint"),
    [
        (REAL, "cross_entropy", "is for labels; the task is regression", "--loss mse"),
        (THREE, "bce", "yes/no labels; the task is multiclass", "--loss cross_entropy"),
        (np.stack([TWO, 1 - TWO], 1), "cross_entropy", "one label a row; the task is multilabel", "--loss bce"),
        (np.where(TWO, "a", "b"), "mse", "holds text, which is not a quantity", "--task multiclass"),
        (REAL, "mea", "There is no loss 'mea'.", "Did you mean 'mse'?"),
        (REAL, "hubert", "There is no loss 'hubert'.", "Did you mean 'huber'?"),
    ],
)
def test_a_loss_that_does_not_fit_says_which_does(lab, target, loss, said, hint):
    with pytest.raises(MaasError) as error:
        lab.train(X, target, loss=loss)
    assert said in error.value.message
    assert hint in error.value.hint


def test_a_loss_of_the_users_is_what_is_made_smaller(lab):
    seen = []

    def mine(outputs, target):
        seen.append((tuple(outputs.shape[1:]), tuple(target.shape[1:])))
        return (outputs - 7).square().mean()

    lab.train(X, REAL, model=nn.Linear(4, 1), loss=mine, epochs=200, lr=0.1)
    assert set(seen) == {((1,), (1,))}
    assert np.allclose(lab.predict(X), 7, atol=0.1)


def test_a_metric_of_the_users_is_told_and_can_choose_the_best_epoch(lab):
    def worst(outputs, target):
        return float((outputs - target).abs().max())

    result = lab.train(X, REAL, metrics=[worst, "mae"], monitor="mae", epochs=3, validation=(X, REAL))
    assert set(result.metrics) == {"loss", "worst", "mae"}
    assert result.metrics["worst"] == pytest.approx(np.abs(lab.predict(X) - REAL).max(), rel=1e-4)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_moves_the_learning_rate_as_it_says(lab, schedule):
    result = lab.train(X, REAL, schedule=schedule, lr=0.01, optimizer="SGD", epochs=4, batch_size=16, validation=0)
    steps = [4 * epoch - 1 for epoch in range(1, 5)]
    assert result.history["lr"] == pytest.approx([0.01 * SCHEDULES[schedule](step / 16) for step in steps])


def test_balanced_weights_are_those_of_the_training_rows(lab):
    rare = np.array([1] * 6 + [0] * 58)
    with_weights, without = (
        lab.train(X, rare, class_weights=weights, epochs=30) and lab.predict(X, probabilities=True)[:, 1].mean()
        for weights in ("balanced", None)
    )
    assert with_weights > without + 0.1


@pytest.mark.parametrize("target", [TWO, THREE])
def test_weights_by_label_move_the_answers_towards_that_label(lab, target):
    heavy = int(target.max())
    weights = {int(label): 50.0 if label == heavy else 1.0 for label in np.unique(target)}
    lab.train(X, target, class_weights=weights, epochs=20)
    as_list = lab.predict(X)
    lab.train(X, target, class_weights=list(weights.values()), epochs=20)
    assert (as_list == heavy).mean() > (target == heavy).mean()
    assert np.array_equal(as_list, lab.predict(X))


def test_label_smoothing_keeps_the_probabilities_from_the_ends(lab):
    sharp, smooth = (
        lab.train(X, THREE, label_smoothing=share, epochs=60, lr=0.3)
        and lab.predict(X, probabilities=True).max(axis=1).mean()
        for share in (0.0, 0.4)
    )
    assert smooth < sharp - 0.05


@pytest.mark.parametrize(
    ("options", "said", "hint"),
    [
        ({"optimizer": "Adem"}, "torch.optim has no optimizer 'Adem'.", "Did you mean 'Adam'?"),
        ({"optimizer_params": {"beta": 1}}, "has no argument 'beta'.", "betas"),
        ({"optimizer_params": {"betas": 3}}, "cannot be made", ""),
        ({"schedule": "cosin"}, "There is no schedule 'cosin'.", "Did you mean 'cosine'?"),
        ({"metrics": ["rmsee"]}, "There is no metric 'rmsee' for regression.", "Did you mean 'rmse'?"),
        ({"metrics": ["accuracy"]}, "There is no metric 'accuracy' for regression.", "mae, r2, rmse"),
        ({"monitor": "f1"}, "There is no metric 'f1' for regression.", "mae, r2, rmse"),
        ({"epochs": 0}, "epochs is 0; at least 1 was expected.", "--epochs 1"),
        ({"batch_size": 0}, "batch size is 0; at least 1 was expected.", "--batch-size 1"),
        ({"patience": -1}, "patience is -1; at least 0 was expected.", "--patience 0"),
        ({"threads": 0}, "threads is 0; at least 1 was expected.", "--threads 1"),
        ({"lr": -0.1}, "lr is -0.1", "--lr 0.01"),
        ({"lr": float("nan")}, "lr is nan", "--lr 0.01"),
        ({"lr": float("inf")}, "lr is inf", "--lr 0.01"),
        ({"weight_decay": -1}, "weight decay is -1", "--weight-decay 0.01"),
        ({"label_smoothing": -0.5}, "label smoothing is -0.5", "--label-smoothing"),
        ({"device": "cudda"}, "There is no device 'cudda' here.", "--device auto"),
        ({"device": "cuda:7"}, "There is no device 'cuda:7' here.", "--device auto"),
        (
            {"class_weights": "balanced"},
            "Class weights are for one label a row; the task is regression.",
            "Drop --class-weights",
        ),
        ({"label_smoothing": 0.1}, "Label smoothing is for labels; the task is regression.", "Drop --label-smoothing"),
    ],
)
def test_an_option_that_makes_no_sense_says_what_would(lab, options, said, hint):
    with pytest.raises(OptionError) as error:
        lab.train(X, REAL, **options)
    assert said in error.value.message
    assert hint in error.value.hint
    assert lab.session.model_names() == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"class_weights": {0: 1.0}}, "The class weights lack the label '1'."),
        ({"class_weights": [1.0]}, "The class weights lack the label '1'."),
        ({"class_weights": [1.0, 2.0, 3.0]}, "3 class weights were given for 2 labels"),
        ({"class_weights": {0: 1.0, 1: -2.0}}, "at least 0"),
        ({"class_weights": {0: 1.0, 1: 1.0, 7: 1.0}}, "'7', which is not a label"),
        ({"class_weights": "balancd"}, "'balancd'"),
        ({"label_smoothing": 1.5}, "label smoothing is 1.5"),
    ],
)
def test_weights_that_do_not_fit_the_labels_are_refused(lab, options, said):
    with pytest.raises(OptionError) as error:
        lab.train(X, TWO, **options)
    assert said in error.value.message
    assert error.value.hint


@pytest.mark.parametrize("model", ["linear", "mlp", "tabm", "module"])
def test_the_best_epoch_is_what_is_published(lab, model):
    noise = np.random.default_rng(1).permutation(REAL)
    held = (X[:20], noise[:20])
    net = _net() if model == "module" else model
    result = lab.train(X[20:], REAL[20:], model=net, validation=held, epochs=40, patience=5, lr=0.05, monitor="rmse")
    curve = result.history["val_rmse"]
    assert result.best_epoch == int(np.argmin(curve)) + 1
    assert result.epochs == len(curve)
    assert result.metrics["rmse"] == min(curve)
    assert result.epochs in (result.best_epoch + 5, 40)
    assert lab.evaluate(held)["rmse"] == pytest.approx(min(curve), rel=1e-5)
    best = [event.epoch for event in lab.last.events(follow=False) if isinstance(event, EpochEnd) and event.best]
    assert best[-1] == result.best_epoch


@pytest.mark.parametrize(("target", "monitor"), [(TWO, "auc"), (TWO, "accuracy"), (REAL, "r2"), (TWO, "log_loss")])
def test_what_is_watched_decides_which_way_is_better(lab, target, monitor):
    result = lab.train(X, target, monitor=monitor, epochs=8, lr=0.5, validation=(X[:20], target[:20][::-1].copy()))
    curve = result.history[f"val_{monitor}"]
    assert result.metrics[monitor] == (min(curve) if monitor == "log_loss" else max(curve))
    started = next(event for event in lab.last.events(follow=False) if isinstance(event, Started))
    assert (started.monitor, started.mode) == (monitor, "min" if monitor == "log_loss" else "max")


def test_the_published_figures_are_those_of_evaluate_on_the_held_out_rows(lab, frame):
    held = frame[::3]
    for model in ("linear", "mlp", "tabm"):
        result = lab.train(
            frame.drop(held.index),
            "label",
            model=model,
            validation=held,
            epochs=5,
            metrics=["accuracy", "auc", "log_loss"],
        )
        scored = lab.evaluate(held, metrics=["accuracy", "auc", "log_loss"])
        assert {name: scored[name] for name in scored} == pytest.approx(
            {name: result.metrics[name] for name in scored}, rel=1e-5
        )
        assert sum(map(sum, scored.confusion)) == len(held)


@pytest.mark.parametrize("model", ["linear", "mlp", "tabm", "cnn"])
def test_a_seed_gives_the_same_weights_twice_and_another_one_others(lab, model):
    data = np.random.default_rng(0).random((40, 8, 8)).astype("float32") if model == "cnn" else X
    target = THREE[: len(data)]
    runs = []
    for run, seed in enumerate((3, 3, 4)):
        torch.manual_seed(run)
        lab.train(data, target, model=model, epochs=2, seed=seed)
        runs.append(_weights(lab))
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(runs[0], runs[2], strict=True))


@pytest.mark.parametrize("ready", [True, False])
def test_a_module_of_the_users_trains_the_same_twice(lab, ready):
    def build(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(inputs, 6), nn.Dropout(0.5), nn.Linear(6, outputs))

    net = build(4, 1) if ready else build
    first, second = ((lab.train(X, REAL, model=net, epochs=2), _weights(lab))[1] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_training_leaves_the_random_numbers_of_others_alone(lab):
    torch.manual_seed(11)
    np.random.seed(11)
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()
    lab.train(X, REAL, model="mlp")
    with pytest.raises(Diverged):
        lab.train(X, REAL, loss=lambda outputs, target: outputs.sum() * float("nan"))
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(legacy, np.random.get_state()[1])
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == 1


def test_a_stop_keeps_the_best_epoch(lab):
    job = lab.start(X, REAL, **SLOW)
    _wait_for(lab, EpochEnd, 3)
    job.stop()
    result = job.result(timeout=20)
    assert job.info.state == "stopped"
    assert result.stopped
    assert 1 <= result.best_epoch <= result.epochs < SLOW["epochs"]
    assert result.history["val_loss"][result.best_epoch - 1] == min(result.history["val_loss"])
    assert lab.session.backend.models.get("m").version == 1
    assert isinstance(list(job.events(follow=False))[-1], Finished)


def test_a_stop_in_the_first_epoch_keeps_what_was_learnt_so_far(lab):
    rows = np.tile(X, (2_000, 1))
    job = lab.start(rows, np.tile(REAL, 2_000), **SLOW)
    _wait_for(lab, Step)
    job.stop()
    result = job.result(timeout=30)
    assert (result.stopped, result.epochs, result.best_epoch) == (True, 1, 1)
    assert lab.predict(X).shape == (N,)


def test_a_second_stop_is_hard_and_keeps_nothing_of_the_first_epoch(lab):
    rows = np.tile(X, (2_000, 1))
    job = lab.start(rows, np.tile(REAL, 2_000), **SLOW)
    _wait_for(lab, Step)
    job.stop()
    job.stop()
    try:
        job.result(timeout=30)
    except Stopped:
        assert lab.session.model_names() == []
    assert job.info.state == "stopped"


def test_a_stop_before_the_start_trains_nothing(lab):
    first = lab.start(X, REAL, name="first", **SLOW)
    second = lab.start(X, REAL, name="second")
    _wait_for(lab, EpochEnd, job=first)
    second.stop()
    first.stop()
    with pytest.raises(Stopped, match="before it began"):
        second.result(timeout=20)
    assert second.info.state == "stopped"
    first.result(timeout=20)
    assert "second" not in lab.session.model_names()


@pytest.mark.parametrize("lr", [1e30, 1e8])
def test_a_loss_that_is_no_number_says_where_and_what_to_try(lab, lr):
    with pytest.raises(
        Diverged, match=r"The loss became (nan|inf) in epoch \d+, step \d+, at a learning rate of"
    ) as error:
        lab.train(X, REAL * 1000, model=_net(), optimizer="SGD", lr=lr, epochs=50)
    assert f"--lr {lr / 10:g}" in error.value.hint
    assert lab.last.info.state == "failed"
    assert lab.session.model_names() == []
    assert list((lab.session.backend.models.work / "tmp").glob("*")) == []


def test_weights_that_break_only_in_validation_are_a_divergence_too(lab):
    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.dense(x) * (1.0 if self.training or len(x) == 2 else float("nan"))

    with pytest.raises(Diverged, match="The loss of the held-out rows became nan in epoch 1"):
        lab.train(X, REAL, model=Breaks())
    assert lab.session.model_names() == []


class Refuses(nn.Module):
    """Fails in its third call."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 1)
        self.error, self.calls = error, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls > 2:
            raise self.error
        return self.dense(x)


@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), RuntimeError("mine too"), KeyError("k")])
def test_an_error_in_the_users_code_comes_through_as_it_is(lab, error):
    def loss(outputs, target):
        raise error

    for options in ({"model": Refuses(error)}, {"model": _net(), "loss": loss}):
        with pytest.raises(type(error)) as raised:
            lab.train(X, REAL, **options)
        assert raised.value.args == error.args
        assert any(entry.name in ("forward", "loss") for entry in raised.traceback)
    assert lab.session.model_names() == []
    assert lab.train(X, REAL).epochs == 1


@pytest.mark.parametrize(
    ("answer", "said"), [(lambda o, t: o, r"returns \(32, 1\), not one number"), (lambda o, t: 3.0, "returns float")]
)
def test_a_loss_that_answers_no_number_is_refused(lab, answer, said):
    with pytest.raises(MaasError, match=said) as error:
        lab.train(X, REAL, model=_net(), loss=answer)
    assert ".mean()" in error.value.hint


@pytest.mark.parametrize("end", ["failed", "diverged", "stopped", "done"])
def test_nothing_of_a_run_that_is_over_is_kept_alive(lab, end):
    class Seen(nn.Linear):
        pass

    alive: list[weakref.ref] = []
    tensors: list[weakref.ref] = []

    def build(inputs: int, outputs: int) -> nn.Module:
        net = Seen(inputs, outputs)
        alive.append(weakref.ref(net))
        return net

    def loss(outputs, target):
        tensors.append(weakref.ref(outputs))
        if end == "failed":
            raise ZeroDivisionError
        return outputs.sum() * (float("nan") if end == "diverged" else 1.0)

    job = lab.start(X, REAL, model=build, loss=loss, epochs=100_000 if end == "stopped" else 1, lr=1e-9)
    if end == "stopped":
        _wait_for(lab, EpochEnd)
        job.stop()
        job.stop()
    try:
        job.result(timeout=30)
    except (ZeroDivisionError, MaasError) as error:
        assert (end == "failed") == isinstance(error, ZeroDivisionError)
    gc.collect()
    assert tensors
    assert not [ref for ref in tensors if ref() is not None]
    if end in ("failed", "diverged"):
        assert alive[0]() is None
    else:
        assert all(parameter.grad is None for parameter in alive[0]().parameters())


def test_jobs_run_one_after_another_in_the_order_they_came(lab):
    order = []
    jobs = [
        lab.start(
            X, REAL, name=name, loss=lambda o, t, name=name: order.append(name) or (o - t).square().mean(), epochs=2
        )
        for name in "abc"
    ]
    for job in jobs:
        job.result(timeout=30)
    assert order == sorted(order)
    assert len({thread.name for thread in threading.enumerate() if thread.name == "maas-magics-worker"}) == 1


def test_events_count_every_step_and_row(lab):
    lab.train(X, REAL, epochs=3, batch_size=10, validation=0)
    events = list(lab.last.events(follow=False))
    ends = [event for event in events if isinstance(event, EpochEnd)]
    started = next(event for event in events if isinstance(event, Started))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert (started.epochs, started.steps_per_epoch, started.samples) == (3, 7, N)
    assert [(end.epoch, end.step, end.samples) for end in ends] == [(1, 7, 64), (2, 14, 128), (3, 21, 192)]
