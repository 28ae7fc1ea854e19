"""Modules that answer several targets, each with a head and a loss of its own; and outputs in dicts, tuples, objects."""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from maas_magics.api.errors import DataError, MaasError, ModelError, NotFound, OptionError

N = 48
RNG = np.random.default_rng(5)
X = RNG.normal(size=(N, 4)).astype("float32")
SIZE = (X[:, 0] * 2 + X[:, 1]).astype("float32")
KIND = (X[:, 2] > 0).astype(int) + (X[:, 3] > 0.5)
PLAIN: dict[str, Any] = {"validation": 0, "batch_size": N, "optimizer": "SGD", "lr": 0.1, "schedule": "constant"}


@dataclasses.dataclass
class Answer(OrderedDict[str, Any]):
    """As the outputs of transformers are: fields that are keys, and places."""

    loss: Tensor | None = None
    logits: Tensor | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) is not None:
                self[field.name] = getattr(self, field.name)


@dataclasses.dataclass
class Both:
    """An object of fields."""

    size: Tensor
    kind: Tensor


class Net(nn.Module):
    """Two heads on one layer."""

    def __init__(self, form: str = "dict", first: int = 1) -> None:
        super().__init__()
        self.body, self.first, self.second = nn.Linear(4, 8), nn.Linear(8, first), nn.Linear(8, 3)
        self.form = form

    def forward(self, rows: Tensor) -> Any:
        made = self.body(rows).relu()
        size, kind = self.first(made), self.second(made)
        match self.form:
            case "dict":
                return {"size": size.squeeze(-1), "kind": kind}
            case "more":
                return {"kind": kind, "hidden": made, "size": size}
            case "tuple":
                return size, kind
            case "fields":
                return Both(size, kind)
            case "logits":
                return Answer(logits=kind)
            case "alone":
                return (kind,)
        return {"logits": kind, "hidden": made}


def by_hand(net: Net, size: Any, kind: Any, weights: tuple[float, float] = (1, 1), epochs: int = 3) -> list[float]:
    """Losses of a bare loop over one batch of all rows."""
    optimizer, found = torch.optim.SGD(net.parameters(), lr=0.1), []
    for _ in range(epochs):
        optimizer.zero_grad()
        made = net.body(torch.from_numpy(X)).relu()
        first = size(net.first(made).squeeze(-1), torch.from_numpy(SIZE))
        second = kind(net.second(made), torch.from_numpy(KIND))
        value = weights[0] * first + weights[1] * second
        value.backward()
        optimizer.step()
        found.append(float(value.detach()))
    return found


@pytest.mark.parametrize("form", ["dict", "more", "tuple", "fields"])
def test_each_target_has_a_head_and_a_loss(lab, form):
    torch.manual_seed(0)
    net = Net(form)
    plain = copy.deepcopy(net)
    targets = (SIZE, KIND) if form == "tuple" else {"size": SIZE, "kind": KIND}
    first, second = ("y1", "y2") if form == "tuple" else ("size", "kind")
    result = lab.train(X, targets, model=net, epochs=3, **PLAIN | {"validation": (X, targets)})
    assert result.info.task == "heads" and result.info.target == (first, second)
    assert result.info.head_classes == {first: (), second: ("0", "1", "2")}
    assert result.history["loss"] == pytest.approx(by_hand(plain, functional.mse_loss, functional.cross_entropy), 1e-4)
    assert {f"{first}_rmse", f"{first}_r2", f"{second}_accuracy", f"{second}_f1"} <= set(result.info.metrics)
    assert result.info.baseline[f"{first}_rmse"] == pytest.approx(SIZE.std(), rel=1e-5)
    with torch.no_grad():
        outputs = lab.net()(torch.from_numpy(X))
    assert type(outputs) is type(net(torch.from_numpy(X)))
    parts = (
        outputs
        if isinstance(outputs, tuple)
        else (outputs["size"], outputs["kind"])
        if form != "fields"
        else (
            outputs.size,
            outputs.kind,
        )
    )
    found = lab.predict(X)
    assert list(found) == [first, second]
    assert np.allclose(found[first], parts[0].squeeze(-1).numpy(), atol=1e-5)
    assert (found[second] == parts[1].argmax(1).numpy()).all()
    told = lab.predict(X, probabilities=True)
    assert np.allclose(told[second], parts[1].softmax(1).numpy(), atol=1e-5)
    verified = lab.export().verification
    assert verified.max_abs_diff < 1e-5 and verified.metrics_after.keys() >= {f"{first}_rmse", f"{second}_accuracy"}
    scored = lab.evaluate(X, targets)
    assert scored[f"{second}_accuracy"] == pytest.approx((found[second] == KIND).mean())
    assert scored[f"{first}_rmse"] == pytest.approx(np.sqrt(((found[first] - SIZE) ** 2).mean()), rel=1e-5)


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize("form", ["logits", "alone", "hidden"])
def test_one_target_takes_the_logits_or_the_only_tensor(lab, form):
    torch.manual_seed(0)
    net = Net(form)
    result = lab.train(X, KIND, model=net, epochs=2, **PLAIN)
    assert result.info.task == "multiclass"
    with torch.no_grad():
        answered = lab.net()(torch.from_numpy(X))
    logits = answered[0] if form == "alone" else answered["logits"]
    assert (lab.predict(X) == logits.argmax(1).numpy()).all()
    assert lab.export().verification.max_abs_diff < 1e-5


LOSSES = {
    "text": ("size=l1,kind=cross_entropy", functional.l1_loss, functional.cross_entropy),
    "names": ({"size": "huber"}, functional.huber_loss, functional.cross_entropy),
    "modules": (
        {"size": nn.SmoothL1Loss(), "kind": nn.CrossEntropyLoss(label_smoothing=0.1)},
        functional.smooth_l1_loss,
        lambda made, kind: functional.cross_entropy(made, kind, label_smoothing=0.1),
    ),
    "a function": (
        {"size": lambda made, size: ((made - size) ** 4).mean()},
        lambda made, size: ((made - size) ** 4).mean(),
        functional.cross_entropy,
    ),
}


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize("weights", [{}, {"kind": 0.25}])
def test_losses_of_heads_are_as_asked_for(lab, losses, weights):
    torch.manual_seed(0)
    asked, size, kind = LOSSES[losses]
    net = Net()
    plain = copy.deepcopy(net)
    targets = {"size": SIZE, "kind": KIND}
    result = lab.train(X, targets, model=net, epochs=3, loss=asked, loss_weights=weights, **PLAIN)
    expected = by_hand(plain, size, kind, (1, weights.get("kind", 1)))
    assert result.history["loss"] == pytest.approx(expected, rel=1e-4)


def test_columns_of_a_table_are_heads_where_the_module_answers_several(lab):
    frame = pd.DataFrame(X, columns=list("abcd")).assign(size=SIZE, kind=np.array(["x", "y", "z"])[KIND])
    result = lab.train(frame, ["size", "kind"], model=Net(), epochs=30, lr=0.03, validation=0.25)
    assert result.info.target == ("size", "kind") and result.info.head_classes["kind"] == ("x", "y", "z")
    found = lab.predict(frame)
    assert list(found) == ["size", "kind", *(f"kind_probability_{label}" for label in "xyz")]
    assert set(found["kind"]) <= {"x", "y", "z"}
    assert np.corrcoef(found["size"], SIZE)[0, 1] > 0.9  # in its own units, though learnt in standard deviations
    scored = lab.evaluate(frame)
    assert scored["kind_accuracy"] == pytest.approx((found["kind"] == frame["kind"]).mean())
    elsewhere = type(lab)(lab.session.backend.place)
    assert np.allclose(elsewhere.predict(frame)["size"], found["size"], rtol=1e-5, atol=1e-5)
    assert lab.export(format="pt2").verification.max_abs_diff < 1e-5


class Several(Dataset[Any]):
    """Rows with two targets, in a tuple, in a dict, or among the keys of the row."""

    def __init__(self, form: str) -> None:
        self.form = form

    def __len__(self) -> int:
        return N

    def __getitem__(self, row: int) -> Any:
        x, size, kind = X[row], SIZE[row], int(KIND[row])
        match self.form:
            case "tuple":
                return x, (size, kind)
            case "dict":
                return x, {"size": size, "kind": kind}
        return {"x": x, "size": size, "kind": kind}


@pytest.mark.parametrize("form", ["tuple", "dict", "keys", "loader"])
def test_items_of_a_dataset_may_hold_several_targets(lab, form):
    torch.manual_seed(0)
    net = Net()
    plain = copy.deepcopy(net)
    data: Any = DataLoader(Several("dict"), N) if form == "loader" else Several(form)
    options = {"target": ("size", "kind")} if form == "keys" else {}
    result = lab.train(data, model=net, epochs=3, **PLAIN | {"validation": data} | options)
    assert result.info.target == ("size", "kind")
    assert result.history["loss"] == pytest.approx(by_hand(plain, functional.mse_loss, functional.cross_entropy), 1e-4)
    found = lab.predict({"x": X})
    assert list(found) == ["size", "kind"] and found["kind"].shape == (N,)
    assert lab.evaluate({"x": X}, {"size": SIZE, "kind": KIND})["size_rmse"] > 0


class Wide(nn.Module):
    """Heads of every task."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 3 + 1 + 2 + 3 * 6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        some, sure, both, mask = self.body(x).split([3, 1, 2, 18], dim=1)
        return {"some": some, "sure": sure, "both": both, "mask": mask.reshape(-1, 3, 2, 3)}


WIDE: dict[str, Any] = {
    "some": X[:, :3] * 1e3,
    "sure": np.where(X[:, 0] > 0, "yes", "no"),
    "both": (X[:, :2] > 0).astype(int),
    "mask": np.digitize(RNG.normal(size=(N, 2, 3)), [-0.5, 0.5]),
}


def test_heads_may_be_of_every_task(lab):
    result = lab.train(X, WIDE, model=Wide(), epochs=2, validation=0.25, monitor="sure_auc")
    assert [spec.name for spec in result.info.signature.outputs] == [
        *("some", "sure", "sure_probabilities", "both", "both_probabilities", "mask", "mask_probabilities")
    ]
    found = lab.predict(X)
    with torch.no_grad():
        outputs = lab.net()(torch.from_numpy(X))
    assert np.allclose(found["some"], outputs["some"].numpy(), atol=1e-3)
    assert (found["sure"] == np.where(outputs["sure"].numpy()[:, 0] >= 0, "yes", "no")).all()
    assert (found["both"] == (outputs["both"].numpy() >= 0)).all()
    assert (found["mask"] == outputs["mask"].argmax(1).numpy()).all()
    told = lab.predict(X, probabilities=True)
    assert told["mask"].shape == (N, 2, 3, 3) and told["sure"].shape == (N, 2) and told["some"].shape == (N, 3)
    assert lab.export().verification.max_abs_diff < 1e-5
    answered = lab.session.backend.infer("m", {result.info.signature.inputs[0].name: X}).outputs
    assert (answered["sure"] == found["sure"]).all() and np.allclose(answered["some"], found["some"], atol=1e-3)
    scored = lab.evaluate(X, WIDE)
    assert scored["mask_accuracy"] == pytest.approx((found["mask"] == WIDE["mask"]).mean())
    assert scored.baseline["mask_accuracy"] >= 1 / 3


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize("way", ["memory", "dataset"])
def test_a_training_of_several_heads_goes_on_exactly(lab, way):
    def train(name: str, **options: Any) -> None:
        torch.manual_seed(0)
        data = (X, {"size": SIZE, "kind": KIND}) if way == "memory" else Several("dict")
        lab.train(data, name=name, model=Net(), batch_size=8, validation=0.25, **options)

    train("whole", epochs=4)
    train("part", epochs=2)
    train("part", epochs=4, resume=True)
    whole, part = (lab.net(name).state_dict().values() for name in ("whole", "part"))
    assert all(map(torch.equal, whole, part))


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize(
    "asked",
    [{"accumulate": 2}, {"ema": 0.9}, {"clip": 1.0}, {"precision": "bf16"}, {"workers": 2}, {"batch_size": "auto"}],
    ids=str,
)
def test_steps_of_every_kind_take_several_heads(lab, asked):
    result = lab.train(X, {"size": SIZE, "kind": KIND}, model=Net(), **{"batch_size": 8, "validation": 0.25} | asked)
    assert result.info.metrics["size_rmse"] > 0 and result.info.task == "heads"


@pytest.mark.usefixtures("unexported")
def test_rows_of_several_targets_may_count_differently(lab):
    frame = pd.DataFrame(X, columns=list("abcd")).assign(size=SIZE, kind=KIND, weight=1.0)
    options: dict[str, Any] = {"model": Net(), "epochs": 2, "validation": 0.25, "preprocess": "none"}
    plain = lab.train(frame.drop(columns="weight"), ("size", "kind"), **options)
    same = lab.train(frame, ("size", "kind"), weights="weight", **options)
    assert same.history["loss"] == pytest.approx(plain.history["loss"], rel=1e-5)
    assert same.info.metrics["kind_accuracy"] == pytest.approx(plain.info.metrics["kind_accuracy"])
    frame.loc[KIND == 2, "weight"] = 0.0
    assert lab.train(frame, ("size", "kind"), weights="weight", **options).history["loss"] != same.history["loss"]


class Counts(Dataset[Any]):
    """The same targets, an item at a time."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, place: int) -> Any:
        return X[place], {"size": int(KIND[place]), "kind": int(KIND[place])}


@pytest.mark.parametrize(
    "asked", [{"size": "regression"}, "size=regression", {"size": "regression", "kind": "multiclass"}]
)
def test_each_target_may_have_a_task_of_its_own(lab, asked):
    targets = {"size": KIND, "kind": KIND}
    made = lab.train(X, targets, model=Net(), task=asked, epochs=2)
    assert made.info.head_classes == {"size": (), "kind": ("0", "1", "2")}
    frame = pd.DataFrame(X, columns=list("abcd")).assign(**targets)
    table = lab.train(frame, ("size", "kind"), model=Net(), task=asked, epochs=2)
    assert table.info.head_classes == made.info.head_classes
    loader = lab.train(Counts(), None, model=Net(), task=asked, epochs=2)
    assert not loader.info.head_classes["size"] and loader.info.head_classes["kind"] == ("0", "1", "2")
    with pytest.raises(ModelError, match="The target 'size'"):  # by itself it is labels, and the head has one output
        lab.train(X, targets, model=Net(), epochs=2)


GAPS = SIZE.copy()
GAPS[0] = np.nan


@pytest.mark.parametrize(
    ("target", "options", "kind", "said", "hint"),
    [
        (KIND, {"model": Net("tuple")}, ModelError, "a tuple of 2 tensors; the target is one", "ys = (y1, y2)"),
        (KIND, {"model": Net()}, ModelError, "a dict of 'size', 'kind'; the target is one", "'logits'"),
        ({"size": SIZE, "kinds": KIND}, {}, ModelError, "no 'kinds' among them", "'kind'"),
        ((SIZE, KIND, KIND), {}, ModelError, "2 tensors; there are 3 targets", "one target for each"),
        ({"size": SIZE, "kind": KIND}, {"model": nn.Linear(4, 4)}, ModelError, "returns one tensor", "'size': …"),
        ({"size": SIZE, "kind": KIND}, {"model": "trees"}, OptionError, "trees answers one target", "--model auto"),
        ({"a": SIZE, "b": SIZE + 1}, {"model": "mlp", "balance": True}, OptionError, "no target has any", "--balance"),
        ({"size": SIZE, "kind": KIND}, {"loss": {"sise": "mse"}}, OptionError, "no target 'sise'", "'size'"),
        ({"size": SIZE, "kind": KIND}, {"loss": "size=mes"}, OptionError, "no loss 'mes'", "'mse'"),
        (
            {"size": SIZE, "kind": KIND},
            {"loss": "size=mse,kind"},
            OptionError,
            "'kind' is not of the form target=loss",
            "a=mse",
        ),
        (
            {"size": SIZE, "kind": KIND},
            {"loss": {"kind": "mse"}, "task": "multiclass"},
            OptionError,
            "'mse' is for quantities",
            "--loss",
        ),
        ({"size": SIZE, "kind": KIND}, {"loss_weights": {"kin": 1}}, OptionError, "no target 'kin'", "'kind'"),
        ({"size": SIZE, "kind": KIND}, {"loss_weights": {"kind": -1}}, OptionError, "cannot weigh -1", "b=0.5"),
        ({"size": GAPS, "kind": KIND}, {}, DataError, "'size' is missing in 1 of 48 rows", "model for each"),
        ({"size": SIZE, "kind": KIND[:-1]}, {}, DataError, "48 rows and the target 47", ""),
        ({"size": SIZE, "kind": KIND + 7}, {"model": Net(first=2)}, ModelError, "The target 'size'", ""),
        ({"kind": KIND}, {"model": nn.Linear(4, 3)}, ModelError, "a dict of 'kind'", "array by itself"),
        (KIND, {"loss": {"size": "mse"}}, OptionError, "there is one", "--target a,b"),
        (KIND, {"task": {"size": "regression"}}, OptionError, "there is one", "--target a,b"),
        ({"size": SIZE, "kind": KIND}, {"task": {"sise": "regression"}}, OptionError, "no target 'sise'", "'size'"),
        ({"size": SIZE, "kind": KIND}, {"task": "size=regresion"}, NotFound, "no task 'regresion'", "'regression'"),
        (
            {"size": SIZE, "kind": KIND},
            {"task": "size=regression,kind"},
            OptionError,
            "'kind' is not of the form target=task",
            "a=regression",
        ),
        ({"size": SIZE, "kind": KIND}, {"metrics": ("rmse",)}, OptionError, "no metric 'rmse'", "size_rmse"),
        ({"size": SIZE, "kind": KIND}, {"class_weights": {"size": "balanced"}}, OptionError, "has no labels", "'kind'"),
        ({"size": SIZE, "kind": KIND}, {"class_weights": {"kin": "balanced"}}, OptionError, "not a target", "'kind'"),
        ({"size": SIZE, "kind": KIND}, {"class_weights": {"kind": {"0": 1}}}, OptionError, "'kind': The", "Labels: 0"),
        ({"size": SIZE, "kind": KIND}, {"class_weights": [1, 2, 3]}, OptionError, "for each by its name", "'kind'"),
        (
            {"size": SIZE, "kind": KIND},
            {"class_weights": {"kind": {"0": "big", "1": 1, "2": 1}}},
            OptionError,
            "not",
            "",
        ),
        (
            {"size": SIZE, "kind": KIND},
            {"validation": (X, {"size": SIZE})},
            DataError,
            "the targets size; those learnt are size, kind",
            "'kind': …",
        ),
    ],
)
def test_targets_that_do_not_fit_are_told_in_two_lines(lab, target, options, kind, said, hint):
    with pytest.raises(MaasError) as told:
        lab.train(X, target, **{"model": Net(), "validation": 0.25} | options)
    assert isinstance(told.value, kind) and said in told.value.message and hint in told.value.hint, told.value
    assert not lab.session.backend.models.list()


def test_balanced_classes_of_a_head_weigh_its_loss_alone(lab):
    torch.manual_seed(0)
    net = Net()
    plain = copy.deepcopy(net)
    target = {"size": SIZE, "kind": KIND}
    result = lab.train(X, target, model=net, epochs=3, class_weights="balanced", **PLAIN | {"validation": (X, target)})
    weights = torch.from_numpy(N / (3 * np.bincount(KIND))).float()

    def kind(outputs: Tensor, labels: Tensor) -> Tensor:
        return (functional.cross_entropy(outputs, labels, reduction="none") * weights[labels]).mean()

    assert result.history["loss"] == pytest.approx(by_hand(plain, functional.mse_loss, kind), 1e-4)
    # A constant that says each label alike is the best that a balanced loss has.
    assert result.info.baseline["loss"] == pytest.approx(float(np.var(SIZE)) + np.log(3), rel=1e-3)


def test_weights_of_classes_and_of_rows_go_together(lab):
    rows = pd.DataFrame(X, columns=list("abcd")).assign(size=SIZE, kind=KIND, w=np.where(X[:, 0] > 0, 2.0, 0.5))
    torch.manual_seed(0)
    net = Net()
    plain = copy.deepcopy(net)
    options = PLAIN | {"weights": "w", "class_weights": {"kind": {"0": 1, "1": 2, "2": 3}}, "preprocess": "none"}
    result = lab.train(rows, {"size": "size", "kind": "kind"}, model=net, epochs=1, **options)
    mine = torch.tensor([1.0, 2.0, 3.0])
    mine = mine * N / mine[torch.from_numpy(KIND)].sum()
    row = torch.tensor(rows.w.tolist())
    with torch.no_grad():
        made = plain.body(torch.from_numpy(X)).relu()
        size = (plain.first(made).squeeze(-1) - torch.from_numpy((SIZE - SIZE.mean()) / SIZE.std())) ** 2
        labels = torch.from_numpy(KIND)
        kind = functional.cross_entropy(plain.second(made), labels, reduction="none") * mine[labels]
        expected = float(((size + kind) * row).mean() / row.mean())
    assert result.history["loss"][0] == pytest.approx(expected, rel=1e-3)


@pytest.fixture
def file(tmp_path):
    """A table of numbers and two targets."""
    rng = np.random.default_rng(3)
    rows = pd.DataFrame(rng.normal(size=(3000, 4)), columns=list("abcd"))
    rows["size"] = rows.a * 200 + 1000
    rows["kind"] = np.where(rows.c > 2.2, "rare", np.where(rows.d > 0, "some", "many"))
    rows.to_parquet(tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


@pytest.mark.parametrize("weights", [None, "balanced"])
def test_heads_learn_from_rows_that_are_read_from_disk(lab, file, weights):
    options = {"model": Net(), "epochs": 15, "class_weights": weights, "batch_size": 32, "lr": 0.01}
    result = lab.train(file, {"size": "size", "kind": "kind"}, stream=True, **options)
    assert result.info.head_classes == {"size": (), "kind": ("many", "rare", "some")}
    assert result.info.metrics["size_r2"] > 0.9 and result.info.metrics["kind_accuracy"] > 0.8
    answer = lab.predict(pd.read_parquet(file).head(5))
    assert list(answer.columns)[:2] == ["size", "kind"] and 300 < answer["size"].mean() < 1700
    assert lab.evaluate(file)["size_r2"] > 0.9


def test_streamed_heads_are_fitted_as_those_in_memory(lab, file):
    rows = pd.read_parquet(file)
    options = {"model": Net(), "epochs": 1, "validation": rows}
    target = {"size": "size", "kind": "kind"}
    streamed = lab.train(file, target, stream=True, **options).info
    whole = lab.train(rows, target, **options).info
    assert streamed.head_classes == whole.head_classes and streamed.baseline == pytest.approx(whole.baseline, rel=1e-4)


def test_a_streamed_row_without_a_target_is_named(lab, file, tmp_path):
    rows = pd.read_parquet(file)
    rows.loc[7, "kind"] = None
    rows.to_parquet(tmp_path / "gap.parquet")
    with pytest.raises(DataError, match="'kind' is missing in 1 of 3,000 rows"):
        lab.train(tmp_path / "gap.parquet", {"size": "size", "kind": "kind"}, model=Net(), stream=True)
    with pytest.raises(OptionError, match="are columns of them"):
        lab.train(file, {"size": np.zeros(3000), "kind": "kind"}, model=Net(), stream=True)


def mixed(n: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = pd.DataFrame({"a": rng.normal(size=n), "b": rng.normal(size=n), "c": rng.choice(["p", "q"], n)})
    rows["kind"] = np.where(rows.a > 0.4, "high", np.where(rows.c == "p", "low", "none"))
    rows["price"] = 100 + 30 * rows.a - 20 * rows.b
    rows["late"] = rows.b > 1
    return rows


@pytest.mark.parametrize("model", ["linear", "tabm", "mlp"])
def test_a_network_by_name_answers_targets_of_several_kinds(lab, model):
    rows = mixed()
    target = ["kind", "price", "late"]
    trained = lab.train(rows, target, model=model, epochs=60, lr=0.01, patience=0)
    assert trained.info.task == "heads" and trained.info.target == tuple(target)
    assert trained.info.head_classes["kind"] == ("high", "low", "none")
    found = lab.predict(rows.drop(columns=target))
    assert (found["kind"] == rows["kind"]).mean() > 0.8 and (found["late"] == rows["late"]).mean() > 0.85
    assert np.corrcoef(found["price"], rows["price"])[0, 1] > 0.9
    assert found["price"].between(rows["price"].min(), rows["price"].max()).all() or model == "linear"
    scored = lab.evaluate(rows)
    assert scored.values["kind_accuracy"] == pytest.approx((found["kind"] == rows["kind"]).mean())
    artifact = lab.export()
    assert artifact.verification.max_abs_diff < 1e-4
    after = lab.predict(rows.drop(columns=target))
    assert (after["kind"] == found["kind"]).all() and np.allclose(after["price"], found["price"], rtol=1e-4)


def test_heads_of_a_network_by_name_are_the_targets_alone_where_they_share_nothing(lab):
    """A linear network shares no weight between targets, so each head is what a model of it alone is."""
    rows = mixed().drop(columns="c")
    options: dict[str, Any] = {"validation": 0, "optimizer": "SGD", "lr": 0.1, "schedule": "constant", "epochs": 4}
    whole = lab.train(rows, {"kind": "kind", "price": "price"}, name="both", batch_size=120, **options)
    alone = {
        name: lab.train(rows[["a", "b", "late", name]], name, name=name, batch_size=120, **options)
        for name in ("kind", "price")
    }
    losses = np.add(alone["kind"].history["loss"], alone["price"].history["loss"])
    assert np.allclose(whole.history["loss"], losses, rtol=1e-5)
    both = lab.predict(rows, "both")
    assert np.allclose(both["price"], lab.predict(rows, "price")["prediction"], rtol=1e-4)
    assert (both["kind"] == lab.predict(rows, "kind")["prediction"]).all()


def test_losses_and_weights_of_heads_hold_for_a_network_by_name(lab):
    rows = mixed()
    options: dict[str, Any] = {"loss": {"price": "l1"}, "loss_weights": {"price": 0.5}, "epochs": 2}
    before = lab.train(rows, ["kind", "price"], **options)
    assert before.history["loss"] != lab.train(rows, ["kind", "price"], epochs=2).history["loss"]
    assert before.history == lab.train(rows, {"kind": "kind", "price": "price"}, **options).history
    with pytest.raises(DataError, match="'kind' holds text, which is not a quantity"):
        lab.train(rows, ["kind", "price"], loss={"kind": "mse"})
    with pytest.raises(OptionError, match="no target 'prize'"):
        lab.train(rows, ["kind", "price"], loss={"prize": "mse"})


def test_balance_of_several_targets_weighs_the_labels_of_each(lab):
    rows = mixed()
    balanced = lab.train(rows, ["late", "price", "kind"], balance=True, epochs=3)
    assert "cannot be drawn in balance" in " ".join(lab.messages)
    weighed = lab.train(rows, ["late", "price", "kind"], class_weights="balanced", epochs=3)
    assert balanced.history["loss"] == weighed.history["loss"]
    plain = lab.train(rows, ["late", "price", "kind"], epochs=3)
    assert plain.history["loss"] != weighed.history["loss"]
    own = {"late": {"False": 1, "True": 1}}
    some = lab.train(rows, ["late", "price", "kind"], balance=True, class_weights=own, epochs=3)
    assert some.history["loss"] not in (plain.history["loss"], weighed.history["loss"])
    lab.train(X, {"size": SIZE, "kind": KIND}, model=Net(), balance=True)


@pytest.mark.parametrize("target", [["kind", "price"], {"kind": "kind", "price": "price"}])
def test_a_network_by_name_streams_several_targets(lab, target, tmp_path):
    rows = mixed()
    rows.to_parquet(tmp_path / "rows.parquet")
    data = str(tmp_path / "rows.parquet")
    lab.train(data, target, model="tabm", stream=True, epochs=3)
    found = lab.predict(rows)
    assert set(found["kind"]) <= set(rows["kind"])
    assert found["price"].between(rows["price"].min(), rows["price"].max()).all()
