"""Networks by name and modules of the user's: what they get, what is checked, what is left alone."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import maas_magics as maas
from maas_magics.api.errors import DataError, MaasError, ModelError, NotFound, OptionError
from maas_magics.core.architectures import architectures

pytestmark = pytest.mark.usefixtures("unexported")

N = 48
X = np.sin(np.arange(N * 4.0)).reshape(N, 4).astype("float32")
TWO = (X[:, 0] > 0).astype(int)
THREE = np.arange(N) % 3
REAL = X.sum(axis=1)


def _net(inputs: int = 4, outputs: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))


class Flat(nn.Module):
    """Answers (n,) rather than (n, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(x).squeeze(1)


class Words(nn.Module):
    """Mean of word vectors."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 6)
        self.head = nn.Linear(6, outputs)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(tokens).mean(dim=1))


class Two(nn.Module):
    """Takes an image and a row of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Flatten(), nn.Linear(9, 4))
        self.row = nn.Linear(4, 4)
        self.head = nn.Linear(8, 1)

    def forward(self, image: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.image(image), self.row(row)], dim=1))


@pytest.mark.parametrize("target", [TWO, THREE, REAL, np.stack([TWO, 1 - TWO], 1), np.stack([REAL, -REAL], 1)])
@pytest.mark.parametrize("model", ["linear", "mlp", "tabm"])
def test_tables_of_numbers_train_every_task(lab, model, target):
    result = lab.train(X, target, model=model, epochs=3)
    assert result.epochs == 3
    assert np.isfinite(result.history["loss"]).all()
    assert lab.predict(X).shape == (target.shape if target.ndim == 2 else (N,))


@pytest.mark.parametrize("target", [TWO, THREE, REAL])
@pytest.mark.parametrize("shape", [(8, 8), (3, 8, 8), (8, 8, 3), (1, 9, 7), (6, 6, 4)])
@pytest.mark.parametrize("dtype", ["float32", "uint8", "float64"])
def test_images_of_any_layout_train_the_cnn(lab, shape, target, dtype):
    images = (np.abs(np.sin(np.arange(12 * np.prod(shape)))).reshape(12, *shape) * 200).astype(dtype)
    result = lab.train(images, target[:12], model="auto", params={"channels": (4, 8)}, epochs=1)
    assert result.info.architecture == "cnn"
    assert lab.predict(images).shape == (12,)
    assert np.allclose(
        lab.predict(images[:1], probabilities=target is not REAL),
        lab.predict(images, probabilities=target is not REAL)[:1],
        atol=1e-5,
    )


def test_the_cnn_refuses_tables_and_rows_of_numbers(lab, frame):
    for data, target in ((frame, "label"), (X, TWO)):
        with pytest.raises(MaasError, match="image") as error:
            lab.train(data, target, model="cnn")
        assert "--model tabm" in error.value.hint


def test_the_model_that_fits_the_data_is_chosen(lab, frame):
    assert lab.train(frame, "label", model="auto").info.architecture == "tabm"
    assert lab.train(X, REAL, model="auto").info.architecture == "tabm"


@pytest.mark.parametrize(
    ("model", "target", "task"),
    [
        (_net(), REAL, "regression"),
        (Flat(), TWO, "binary"),
        (_net(outputs=3), THREE, "multiclass"),
        (_net(outputs=2), np.stack([REAL, -REAL], 1), "regression"),
        (_net(outputs=2), np.stack([TWO, 1 - TWO], 1), "multilabel"),
    ],
)
def test_a_module_in_a_variable_trains_and_stays_as_it_was(lab, model, target, task):
    before = copy.deepcopy(model.state_dict())
    mode = model.training
    result = lab.train(X, target, model=model, epochs=3)
    assert result.info.task == task
    assert model.training is mode
    for name, values in model.state_dict().items():
        assert torch.equal(values, before[name])
    assert all(parameter.grad is None for parameter in model.parameters())
    trained = lab.net()
    assert any(not torch.equal(values, before[name]) for name, values in trained.state_dict().items())
    assert lab.predict(X).shape == target.shape


def test_a_module_answers_what_it_answers_by_hand(lab):
    lab.train(X, REAL, model=_net(), epochs=5)
    with torch.no_grad():
        by_hand = lab.net()(torch.from_numpy(X)).numpy()[:, 0]
    assert np.allclose(by_hand, lab.predict(X), atol=1e-5)


def test_two_outputs_for_two_labels_are_a_softmax(lab):
    info = lab.train(X, np.where(TWO, "yes", "no"), model=_net(outputs=2), epochs=2).info
    assert info.classes == ("no", "yes")
    with torch.no_grad():
        expected = torch.softmax(lab.net()(torch.from_numpy(X)), dim=1).numpy()
    assert np.allclose(expected, lab.predict(X, probabilities=True), atol=1e-5)
    assert set(lab.predict(X)) <= {"no", "yes"}


def test_a_factory_is_asked_for_a_network_of_the_right_size(lab):
    asked = []

    def build(inputs: int, outputs: int) -> nn.Module:
        asked.append((inputs, outputs))
        return _net(inputs, outputs)

    lab.train(X, THREE, model=build)
    lab.train(
        np.ones((N, 2, 3)) * np.arange(N)[:, None, None],
        REAL,
        model=lambda i, o: nn.Sequential(nn.Flatten(), build(i, o)),
    )
    assert asked == [(4, 3), (6, 1)]


def test_lazy_layers_take_their_size_from_the_data(lab, frame):
    lab.train(X, THREE, model=nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3)), epochs=2)
    assert lab.predict(X).shape == (N,)
    images = np.ones((N, 1, 8, 8), "float32") * np.arange(N)[:, None, None, None]
    lab.train(images, THREE, model=nn.Sequential(nn.LazyConv2d(2, 3), nn.Flatten(), nn.LazyLinear(3)))
    assert lab.predict(images).shape == (N,)
    lab.train(_tensors(THREE), model=nn.LazyLinear(3))
    assert lab.predict(X).shape == (N,)


def test_batch_statistics_need_no_row_beside_the_last(lab):
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
    for rows, size in ((33, 32), (41, 8)):
        result = lab.train(X[:rows], REAL[:rows], model=model, batch_size=size, validation=0, epochs=2)
        assert np.isfinite(result.history["loss"]).all()
    assert lab.predict(X[:1]).shape == (1,)


def test_several_arrays_are_several_inputs(lab):
    arrays = {"image": np.ones((N, 3, 3), "float32") * REAL[:, None, None], "row": X}
    result = lab.train(arrays, REAL, model=Two(), epochs=2)
    assert [spec.name for spec in result.info.signature.inputs] == ["image", "row"]
    answers = lab.predict(arrays)
    assert answers.shape == (N,)
    assert np.array_equal(answers, lab.predict(dict(reversed(arrays.items()))))
    with pytest.raises(DataError, match="The data lacks column 'image'"):
        lab.predict({"row": X})


class Seeing(nn.Module):
    """A line through the origin, or a layer, that keeps what it was handed."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.weight = layer, nn.Parameter(torch.ones(1))

    def forward(self, x):
        SEEN.append(x)
        return x * self.weight if self.layer is None else self.layer(x) * self.weight


SEEN: list[torch.Tensor] = []


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize("shape", [(N,), (N, 1), (N, 4)])
@pytest.mark.parametrize("layer", [None, 1])
@pytest.mark.parametrize("form", ["dict", "pair", "with its target"])
def test_one_array_by_name_is_to_a_module_what_the_array_is(lab, shape, layer, form):
    x = (np.arange(np.prod(shape)).reshape(shape) * 100).astype("float32")
    if layer is None and len(shape) == 2 and shape[1] > 1:
        return
    handed = []
    data = {"dict": ({"x": x}, REAL), "pair": (({"x": x}, REAL), None), "with its target": ({"x": x, "y": REAL}, "y")}
    for features, target in ((x, REAL), data[form]):
        SEEN.clear()
        net = Seeing(nn.Linear(shape[-1] if len(shape) > 1 else 1, 1) if layer else None)
        info = lab.train(features, target, model=net, loss=nn.MSELoss()).info
        handed.append((SEEN[-1].shape[1:], float(SEEN[-1].abs().max()), str(info.signature)))
        assert np.shape(lab.predict({"x": x})) == np.shape(lab.predict(x)) or len(shape) == 1
        assert np.allclose(np.asarray(_answers(lab.predict({"x": x}))), np.asarray(_answers(lab.predict(x))))
    assert handed[0] == handed[1]


def _answers(found):
    return next(iter(found.values())) if isinstance(found, dict) else found


@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_tokens_reach_an_embedding_as_whole_numbers(lab, dtype):
    tokens = (np.arange(N * 5).reshape(N, 5) % 50).astype(dtype)
    lab.train(tokens, THREE, model=Words(), epochs=2)
    assert lab.predict(tokens).shape == (N,)
    assert np.array_equal(lab.predict(tokens), lab.predict(tokens.astype("int64")))
    with pytest.raises(DataError, match="holds float32; the model was trained on int") as error:
        lab.predict(tokens.astype("float32"))
    assert ".astype('int" in error.value.hint


def test_a_module_on_a_table_gets_scaled_numbers_and_indicators(lab, frame):
    width = []
    lab.train(frame, "label", model=lambda inputs, outputs: width.append(inputs) or _net(inputs, outputs))
    assert len(width) == 1
    assert list(lab.predict(frame)["prediction"].unique()) in (["yes"], ["no"], ["yes", "no"], ["no", "yes"])


def test_without_preprocessing_a_module_gets_the_numbers_as_they_are(lab):
    frame = pd.DataFrame(X * 1000, columns=list("abcd")).assign(y=REAL)
    lab.train(frame, "y", model=_net(), preprocess="none", validation=0, epochs=2)
    with torch.no_grad():
        by_hand = lab.net()(torch.from_numpy(X * 1000)).numpy()[:, 0]
    decode = lab.session.backend.loader.model("m", 1).manifest.answers
    assert np.allclose(
        by_hand * decode.scale[0] + decode.center[0], lab.predict(frame)["prediction"], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("model", "data", "target", "said", "hint"),
    [
        (_net(inputs=5), X, REAL, "cannot take the features, float32 (n, 4)", "Its first layer should take 4 inputs."),
        (_net(outputs=2), X, REAL, "returns (2, 2) for 2 rows; the target (regression) wants (2, 1)", "should have 1 outputs"),
        (_net(outputs=1), X, THREE, "the target (multiclass) wants (2, 3)", "Its last layer should have 3 outputs."),
        (_net(outputs=3), X, TWO, "the target (binary) wants (2, 1)", "Its last layer should have 1 outputs."),
        (nn.Linear(4, 3), np.ones((N, 6, 4), "float32"), THREE, "returns (2, 6, 3) for 2 rows", "an axis too many: answer x[:, -1]"),
        (nn.LSTM(4, 2), X, REAL, "returns a tuple; one tensor was expected", "Return one tensor."),
        (nn.Linear, X, REAL, "Linear is a class; a module was expected", "Make one: net = Linear(…)"),
        (lambda i, o: "net", X, REAL, "is of type str; an nn.Module was expected", "End the cell with the module"),
        (nn.Conv2d(3, 1, 3), np.ones((N, 4, 5, 5), "float32"), REAL, "cannot take the features, float32 (n, 4, 5, 5)", "Match its first layer"),
        (Words(1), X.astype("uint8"), REAL, "Long, Int; but got torch.ByteTensor", "to that shape and type."),
        (nn.Identity(), X[:, :1], REAL, "no trainable parameter", "requires_grad"),
    ],
)  # fmt: skip
def test_a_module_that_does_not_fit_says_what_would(lab, model, data, target, said, hint):
    with pytest.raises(MaasError) as error:
        lab.train(data, target, model=model)
    assert said in error.value.message
    assert hint in error.value.hint
    assert isinstance(error.value, OptionError if isinstance(model, nn.Identity) else ModelError)
    assert lab.session.model_names() == []


class Force(nn.Module):
    """Slope of an energy, which it takes itself."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))

    def forward(self, x):
        with torch.enable_grad():
            at = x.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(self.energy(at).sum(), at, create_graph=self.training)
        return -slope[:, :1]


def test_a_module_that_takes_gradients_itself_is_measured_and_answers(lab):
    net = Force()
    result = lab.train(X, REAL, model=net, loss=nn.MSELoss(), optimizer="SGD", lr=0.1, epochs=40)
    assert len(result.history["val_loss"]) == result.epochs
    with torch.no_grad():
        assert np.allclose(lab.predict(X), lab.net()(torch.from_numpy(X)).numpy()[:, 0], atol=1e-6)
    lab.evaluate(X, REAL)
    assert type(net) is Force


class Pair(nn.Module):
    """Takes an image and a table of other widths, by name, and answers a number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 1), nn.Linear(2, 1)

    def forward(self, image, table):
        return self.first(image) + self.second(table)


class Keywords(Pair):
    def forward(self, *, image, table):
        return super().forward(image, table)


class Spare(Pair):
    def forward(self, image, table=None):
        return self.first(image) if table is None else super().forward(image, table)


@pytest.mark.parametrize(
    ("net", "data", "said", "hint"),
    [
        (Pair(), {"p": 2, "q": 4}, "It got 'p' as image, 'q' as table, by their order.", "arguments: image, table"),
        (Spare(), {"Image": 2, "Table": 4}, "It got 'Image' as image, 'Table' as table", "arguments: image, table"),
        (Pair(), {"p": 4, "q": 2, "r": 2}, "of Pair takes image, table; the data has p, q, r.", "{'image': …, 'table': …}"),
        (Pair(), {"p": 4}, "of Pair takes image, table; the data has p.", "{'image': …, 'table': …}"),
        (Keywords(), {"p": 4, "q": 2}, "of Keywords takes image, table; the data has p, q.", "{'image': …, 'table': …}"),
        (Pair(), {"image": 4, "tabel": 2}, "of Pair takes image, table; the data has image, tabel.", "Did you mean 'table'?"),
        (_net(), {"p": 4, "q": 2}, "of Sequential takes one array, input; the data has p, q.", "forward(self, p, q)"),
        (Pair(), {"image": 2, "table": 4}, "cannot take the features", "Its layer 'first' should take 2 inputs."),
    ],
)  # fmt: skip
def test_arrays_that_have_no_name_of_an_argument_are_told_beside_the_names(lab, net, data, said, hint):
    arrays = {name: X[:, :width] for name, width in data.items()}
    with pytest.raises(ModelError) as error:
        lab.train(arrays, REAL, model=net, loss=nn.MSELoss())
    assert said in error.value.message and hint in error.value.hint
    assert lab.session.model_names() == []


def test_arrays_without_a_name_that_fit_in_their_order_are_taken_and_told(lab):
    lab.train({"p": X, "q": X[:, :2]}, REAL, model=Pair(), loss=nn.MSELoss())
    assert "The arrays 'p', 'q' go to forward's image, table in this order: no name is one of its." in lab.messages


def test_a_wrong_width_on_a_table_names_the_columns(lab, frame):
    with pytest.raises(ModelError, match="size, count, flag"):
        lab.train(frame, "label", model=_net(inputs=2))


@pytest.mark.parametrize(
    ("options", "kind", "said", "hint"),
    [
        ({"model": "mpl"}, NotFound, "There is no architecture 'mpl'.", "Did you mean 'mlp'?"),
        ({"model": "mlp", "params": {"hiden": 3}}, OptionError, "no hyperparameter 'hiden'", "Did you mean 'hidden'?"),
        ({"model": _net(), "params": {"hidden": 3}}, OptionError, "this model is a module", "Drop --set."),
        ({"model": 3}, MaasError, "The model is of type int.", "architecture's name"),
    ],
)
def test_a_model_that_cannot_be_made_says_what_can(lab, options, kind, said, hint):
    with pytest.raises(kind) as error:
        lab.train(X, REAL, **options)
    assert said in error.value.message
    assert hint in error.value.hint


class Pairs(Dataset):
    """Rows one at a time, with names for the classes."""

    classes = ("low", "mid", "high")

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(X[index]), torch.tensor(THREE[index])


class Endless(IterableDataset):
    """Rows without a length."""

    def __iter__(self):
        return iter(Pairs()[i] for i in range(N))


def _tensors(target: np.ndarray) -> TensorDataset:
    return TensorDataset(torch.from_numpy(X), torch.from_numpy(target))


@pytest.mark.parametrize(
    ("data", "outputs", "task"),
    [
        (_tensors(THREE), 3, "multiclass"),
        (_tensors(TWO == 1), 1, "binary"),
        (_tensors(np.stack([REAL, -REAL], 1)), 2, "regression"),
        (_tensors(np.stack([TWO, 1 - TWO], 1).astype("float32")), 2, "multilabel"),
        (Pairs(), 3, "multiclass"),
        (DataLoader(Pairs(), batch_size=7), 3, "multiclass"),
        (DataLoader(Endless(), batch_size=7), 3, "multiclass"),
    ],
)
def test_torch_datasets_and_loaders_train_a_module_as_they_are(lab, data, outputs, task):
    result = lab.train(data, model=_net(outputs=outputs), epochs=2)
    assert result.info.task == task
    assert len(result.history["loss"]) == 2
    answers = lab.predict(X)
    assert answers.shape == ((N,) if outputs != 2 else (N, 2))
    if isinstance(data, Pairs):
        assert set(answers) <= set(Pairs.classes)


@pytest.mark.parametrize("data", [_tensors(THREE), Pairs(), DataLoader(Pairs(), batch_size=7)])
def test_torch_datasets_train_architectures_by_name(lab, data):
    result = lab.train(data, model="linear", validation=Pairs(), epochs=2)
    assert result.info.task == "multiclass"
    assert lab.predict(X).shape == (N,)


def test_a_loader_of_its_own_validates(lab):
    result = lab.train(
        DataLoader(Pairs(), batch_size=8), model=_net(outputs=3), validation=DataLoader(Pairs(), batch_size=5)
    )
    assert result.metrics["accuracy"] == lab.evaluate((X, np.array(Pairs.classes)[THREE]))["accuracy"]


def test_a_loader_without_a_length_trains_as_long_as_no_schedule_needs_one(lab):
    with pytest.raises(OptionError, match="'cosine' has no end") as error:
        lab.train(Endless(), model=_net(outputs=3), schedule="cosine")
    assert error.value.hint == "--schedule constant"


@pytest.mark.parametrize(
    ("data", "validation", "said"),
    [
        (DataLoader(Pairs()), 0.2, "No share of a loader's rows can be held out."),
        (Endless(), 0.2, "No share of a loader's rows can be held out."),
        (Pairs(), 1.5, "A share of 1.5 cannot be held out."),
        (Pairs(), (X, THREE), "The validation data of a dataset is a dataset or a loader."),
    ],
)
def test_validation_rows_that_cannot_be_had_of_a_dataset_are_refused(lab, data, validation, said):
    with pytest.raises(DataError) as error:
        lab.train(data, model=_net(outputs=3), validation=validation)
    assert error.value.message == said
    assert "--validation" in error.value.hint


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (TensorDataset(torch.ones(0, 4), torch.ones(0)), "no rows|no batch"),
        ([{"x": 1}], "No target"),
        (DataLoader([(1, 2, 3)]), "pair \\(x, y\\) of tensors|cannot take the features"),
        (DataLoader([torch.ones(3)]), "pair \\(x, y\\) of tensors"),
    ],
)
def test_a_dataset_of_something_else_says_what_was_expected(lab, data, said):
    with pytest.raises(MaasError, match=said):
        lab.train(data, model=_net())


def test_every_architecture_by_name_trains_through_the_public_functions(lab, frame, capsys):
    image = np.random.default_rng(0).random((N, 8, 8))
    every = [name for name in architectures if architectures.get(name).pretrained is None]
    for name in [name for name in every if architectures.get(name).layout not in ("prose", "captioned")]:
        layout = architectures.get(name).arrays or architectures.get(name).layout
        answers = np.repeat(THREE, 64).reshape(image.shape) if architectures.get(name).of_pixels else THREE
        data, target = (image, answers) if layout == "image" else (frame, "label")
        result = maas.train("m", data, target, model=name, epochs=1)
        assert result.info.architecture == name
        assert len(maas.predict("m", data)) == len(data)
        assert maas.evaluate("m", data if layout != "image" else (image, answers)).rows == len(data)
    capsys.readouterr()
