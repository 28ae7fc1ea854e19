"""Metrics against those of scikit-learn and torchmetrics."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as peer

from maas_magics.api.errors import OptionError
from maas_magics.core.tasks.binary import Binary
from maas_magics.core.tasks.class_weights import balanced_weights, class_counts
from maas_magics.core.tasks.metric_names import make_metrics
from maas_magics.core.tasks.metrics import LABELS, QUANTITIES, confusion
from maas_magics.core.tasks.multiclass import Multiclass
from maas_magics.core.tasks.multilabel import Multilabel
from maas_magics.core.tasks.regression import Regression

QUICK = settings(deadline=None, max_examples=60)


@st.composite
def labelled(draw, classes: int | None = None):
    """Probabilities (n, k), some of them equal, and labels (n,)."""
    k = classes or draw(st.integers(2, 5))
    n = draw(st.integers(1, 40))
    weights = draw(hnp.arrays("int64", (n, k), elements=st.integers(1, 6)))
    target = draw(hnp.arrays("int64", n, elements=st.integers(0, k - 1)))
    return (weights / weights.sum(axis=1, keepdims=True)).astype("float32"), target


def _ours(name: str, decoded: np.ndarray, target: np.ndarray) -> float:
    return {**LABELS, **QUANTITIES}[name](torch.from_numpy(decoded), torch.from_numpy(target))


@QUICK
@given(labelled())
def test_labels_are_scored_as_scikit_learn_scores_them(rows):
    decoded, target = rows
    answered, k = decoded.argmax(axis=1), decoded.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        balanced = peer.balanced_accuracy_score(target, answered)
        f1 = peer.f1_score(target, answered, zero_division=0, average="binary" if k == 2 else "macro")
    assert _ours("accuracy", decoded, target) == pytest.approx(peer.accuracy_score(target, answered))
    assert _ours("balanced_accuracy", decoded, target) == pytest.approx(balanced)
    assert _ours("f1", decoded, target) == pytest.approx(f1)
    expected = -np.log(decoded.astype(float)[np.arange(len(target)), target]).mean()
    assert _ours("log_loss", decoded, target) == pytest.approx(expected, rel=1e-5)
    matrix = confusion(torch.from_numpy(decoded), torch.from_numpy(target))
    assert np.array_equal(matrix, peer.confusion_matrix(target, answered, labels=range(k)))


@QUICK
@given(labelled(classes=2))
def test_the_area_under_the_curve_counts_ties_half(rows):
    decoded, target = rows
    assume(len(set(target)) == 2)
    assert _ours("auc", decoded, target) == pytest.approx(peer.roc_auc_score(target, decoded[:, 1]))


@QUICK
@given(labelled(classes=3))
def test_the_area_of_several_classes_is_the_mean_of_one_against_the_rest(rows):
    decoded, target = rows
    assume(len(set(target)) == 3)
    expected = np.mean([peer.roc_auc_score(target == i, decoded[:, i]) for i in range(3)])
    assert _ours("auc", decoded, target) == pytest.approx(expected)


@QUICK
@given(st.data())
def test_several_labels_a_row_are_scored_as_scikit_learn_scores_them(data):
    shape = (data.draw(st.integers(1, 30)), data.draw(st.integers(2, 4)))
    decoded = data.draw(hnp.arrays("float32", shape, elements=st.sampled_from([0.125, 0.25, 0.5, 0.75, 0.875])))
    target = data.draw(hnp.arrays("float32", shape, elements=st.sampled_from([0.0, 1.0])))
    answered = decoded >= 0.5
    assert _ours("accuracy", decoded, target) == pytest.approx((answered == target.astype(bool)).mean())
    assert _ours("f1", decoded, target) == pytest.approx(
        peer.f1_score(target, answered, average="macro", zero_division=0)
    )


@QUICK
@given(st.data())
def test_quantities_are_scored_as_scikit_learn_scores_them(data):
    shape = (data.draw(st.integers(2, 40)), data.draw(st.integers(1, 3)))
    numbers = hnp.arrays("float32", shape, elements=st.floats(-1000, 1000, width=32))
    decoded, target = data.draw(numbers), data.draw(numbers)
    exact = decoded.astype(float), target.astype(float)
    assert _ours("rmse", decoded, target) == pytest.approx(peer.mean_squared_error(exact[1], exact[0]) ** 0.5)
    assert _ours("mae", decoded, target) == pytest.approx(peer.mean_absolute_error(exact[1], exact[0]))
    assume((exact[1].std(axis=0) > 1e-3).all())
    assert _ours("r2", decoded, target) == pytest.approx(peer.r2_score(exact[1], exact[0]), rel=1e-6, abs=1e-9)


def test_what_cannot_be_told_of_one_class_or_one_value_is_no_number():
    assert np.isnan(_ours("auc", np.array([[0.2, 0.8]] * 3, "float32"), np.array([1, 1, 1])))
    assert np.isnan(_ours("r2", np.ones((3, 1), "float32"), np.ones((3, 1), "float32")))


@QUICK
@given(hnp.arrays("int64", st.integers(3, 40), elements=st.integers(0, 2)))
def test_balanced_weights_are_those_of_scikit_learn(target):
    from sklearn.utils.class_weight import compute_class_weight

    assume(len(set(target)) == 3)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=target)
    assert balanced_weights(class_counts(torch.from_numpy(target), 3)).numpy() == pytest.approx(expected)


BINARY = Binary(("y",), (0, 1))
THREE = Multiclass(("y",), (0, 1, 2))
SEVERAL = Multilabel(("a", "b"), (False, True), flat=False)
REAL = Regression(("y",), (), (0.0,), (1.0,))


@pytest.mark.parametrize(
    ("answers", "theirs", "ours"),
    [
        (BINARY, "AUROC", "auc"),
        (BINARY, "Accuracy", "accuracy"),
        (THREE, "CohenKappa", None),
        (SEVERAL, "Accuracy", "accuracy"),
        (REAL, "MeanAbsoluteError", "mae"),
        (REAL, "R2Score", "r2"),
    ],
)
def test_a_metric_of_torchmetrics_goes_by_its_name(answers, theirs, ours):
    draw = torch.Generator().manual_seed(0)
    decoded = torch.rand(30, max(len(answers.labels), 1), generator=draw)
    if answers.task in ("binary", "multiclass"):
        decoded = decoded / decoded.sum(1, keepdim=True)
        target = torch.randint(len(answers.classes), (30,), generator=draw)
    else:
        target = torch.rand(decoded.shape, generator=draw)
        target = target.round() if answers.task == "multilabel" else target
    found = make_metrics([theirs], answers)[theirs]
    expected = (
        make_metrics([ours], answers)[ours](decoded, target)
        if ours
        else peer.cohen_kappa_score(target, decoded.argmax(1))
    )
    assert found(decoded, target) == pytest.approx(expected, rel=1e-5)
    assert found(decoded, target) == found(decoded, target)


@pytest.mark.parametrize(
    ("name", "answers", "said", "hint"),
    [
        ("AUROCC", BINARY, "torchmetrics has no metric 'AUROCC'.", "Did you mean 'AUROC'?"),
        ("Dice_", REAL, "torchmetrics has no metric 'Dice_'.", ""),
        ("MeanSquaredError", BINARY, "The metric 'MeanSquaredError' does not fit binary", ""),
        ("rmse", BINARY, "There is no metric 'rmse' for binary.", "There is: accuracy"),
        ("balanced_accuracy", SEVERAL, "There is no metric 'balanced_accuracy' for multilabel.", "accuracy"),
    ],
)
def test_a_metric_that_is_not_there_says_which_are(name, answers, said, hint):
    with pytest.raises(OptionError) as error:
        make_metrics([name], answers)
    assert said in error.value.message
    assert hint in error.value.hint


def test_a_metric_of_torchmetrics_may_be_an_object_a_class_or_a_collection():
    from torchmetrics import MetricCollection
    from torchmetrics.classification import BinaryF1Score, MulticlassAccuracy, MulticlassF1Score
    from torchmetrics.regression import MeanAbsoluteError

    draw = torch.Generator().manual_seed(0)
    decoded = torch.rand(40, 2, generator=draw).softmax(1)
    target = torch.randint(2, (40,), generator=draw)
    strict = BinaryF1Score(threshold=0.6)
    both = MetricCollection({"all": MulticlassAccuracy(2, average="micro"), "middle": BinaryF1Score()})
    found = make_metrics([strict, both], BINARY)
    assert list(found) == ["BinaryF1Score", "all", "middle"]
    assert found["BinaryF1Score"](decoded, target) == pytest.approx(peer.f1_score(target, decoded[:, 1] > 0.6))
    assert found["middle"](decoded, target) == pytest.approx(peer.f1_score(target, decoded.argmax(1)))
    assert found["all"](decoded, target) == pytest.approx(peer.accuracy_score(target, decoded.argmax(1)))
    assert found["middle"](decoded, target) == found["middle"](decoded, target), (
        "nothing is left over from the call before"
    )
    assert not strict.update_called, "the user's own object stays as it was"
    assert make_metrics([BinaryF1Score], BINARY)["BinaryF1Score"](decoded, target) == found["middle"](decoded, target)
    three = make_metrics([MulticlassF1Score], THREE)["MulticlassF1Score"]
    thirds, labels = torch.rand(40, 3, generator=draw), torch.randint(3, (40,), generator=draw)
    assert three(thirds, labels) == pytest.approx(peer.f1_score(labels, thirds.argmax(1), average="macro"))
    real = make_metrics([MeanAbsoluteError()], REAL)["MeanAbsoluteError"]
    assert real(decoded[:, :1], thirds[:, :1]) == pytest.approx(float((decoded[:, :1] - thirds[:, :1]).abs().mean()))


def test_a_metric_that_does_not_fit_the_task_is_told_shortly():
    from torchmetrics.classification import MulticlassAccuracy

    metric = make_metrics([MulticlassAccuracy(num_classes=5)], THREE)["MulticlassAccuracy"]
    with pytest.raises(OptionError, match="The metric MulticlassAccuracy does not fit multiclass"):
        metric(torch.rand(4, 3), torch.tensor([0, 1, 2, 0]))


@pytest.mark.parametrize(
    ("name", "mode"), [("HammingDistance", "min"), ("Accuracy", "max"), ("f1", "max"), ("loss", "min")]
)
def test_the_best_epoch_is_chosen_in_the_direction_that_the_metric_tells(lab, frame, name, mode):
    job = lab.start(frame, "label", epochs=5, monitor=name)
    model = job.result()
    assert next(iter(job.events())).mode == mode
    curve = model.history[f"val_{name}"]
    assert curve[model.best_epoch - 1] == (min if mode == "min" else max)(curve)


@pytest.mark.parametrize(
    ("name", "task", "hint"),
    [
        ("precision", "binary", "--metrics Precision"),
        ("recall", "multiclass", "--metrics MulticlassRecall"),
        ("average_precision", "binary", "--metrics AveragePrecision"),
        ("mcc", "multiclass", "--metrics MatthewsCorrCoef"),
        ("mean_squared_error", "regression", "--metrics MeanSquaredError"),
        ("roc_auc", "binary", "Did you mean 'auc'?"),
        ("AUC", "binary", "Did you mean 'auc'?"),
        ("r2_score", "regression", "Did you mean 'r2'?"),
        ("r2_score", "binary", "There is: accuracy"),
        ("nonsense", "multiclass", "Or a class of torchmetrics by its name, such as MulticlassPrecision"),
    ],
)
def test_figures_that_others_name_otherwise_are_found(lab, name, task, hint):
    y = {"binary": np.arange(60) % 2, "multiclass": np.arange(60) % 3, "regression": np.linspace(0, 1, 60)}[task]
    x = np.random.default_rng(0).normal(size=(60, 2))
    with pytest.raises(OptionError) as error:
        lab.train(x, y, metrics=(name,))
    assert hint in error.value.hint
    if "--metrics" in hint:
        word = hint.split()[-1]
        assert word in lab.train(x, y, metrics=(word,)).metrics


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"metrics": ("auc", "log_loss")}, {"auc", "log_loss"}),
        ({"metrics": ("Precision",)}, {"Precision"}),
        ({"monitor": "log_loss"}, {"accuracy", "balanced_accuracy", "f1", "auc", "log_loss"}),
        ({}, {"accuracy", "balanced_accuracy", "f1", "auc"}),
    ],
)
def test_a_model_is_evaluated_by_the_figures_it_was_trained_with(lab, options, told):
    rows = pd.DataFrame({"x": np.linspace(-1, 1, 60), "y": np.arange(60) % 2})
    trained = lab.train(rows, "y", **options)
    found = lab.evaluate(rows).values
    assert set(found) == told == set(trained.metrics) - {"loss"}
    assert set(lab.evaluate(rows, metrics=("f1",)).values) == {"f1"}
