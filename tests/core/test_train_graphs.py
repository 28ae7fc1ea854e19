"""Modules sent as graphs: they train and answer as they did, and nothing that somebody else made of one is executed."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maas_magics.api.errors import ModelError
from maas_magics.core.graphs import filter as graph_filter
from maas_magics.core.graphs import format as graph_format
from maas_magics.core.graphs import operators as graph_operators
from maas_magics.core.graphs import rebuild as graphs
from maas_magics.core.graphs.rebuild import ExportedModule, pack, unpack
from maas_magics.core.tracing import suppress_torch_logging

SIZES = (1, 2, 7, 64)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.take = nn.Linear(4, 16)
        self.encode = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 1)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encode(self.take(x)).mean(1))


class Two(nn.Module):
    """Two inputs, a frozen part, shapes that are computed, lists of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(3, 6)
        self.scale = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            fixed = self.a(x).mean(1, keepdim=True)
        first, second = torch.cat([self.a(x), self.b(y)], 1).view(x.shape[0], -1, 2).unbind(-1)
        highest, _ = first.max(1, keepdim=True)
        return (first[:, :3] + second[:, [0, 2, 4]]) * self.scale + highest - fixed + torch.zeros(len(x), 1)


class Tied(nn.Module):
    """Shared weights, a buffer that is not saved, a constant of the class and one of the graph, unused weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 3)
        self.out = nn.Linear(3, 10, bias=False)
        self.out.weight = self.embed.weight
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(10, 3)
        self.register_buffer("place", torch.randn(5, 3), persistent=False)
        self.constant = torch.randn(3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embed(x) + self.place * self.constant + torch.tensor([1.0, 2.0, 3.0])
        return self.head(self.out(hidden.mean(1).view(len(x), -1)))


class Noisy(nn.Module):
    """Noise of its own, statistics moved without gradients, infinite fills, strings, dtypes."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 3)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.map(x)
        if self.training:
            with torch.no_grad():
                self.mean.mul_(0.9).add_(hidden.mean(0), alpha=0.1)
            keep = x.new_empty(x.shape[0], 1).bernoulli_(0.9)
            hidden = hidden * keep + 0.1 * torch.randn_like(hidden)
        weights = hidden.masked_fill(hidden > 1, float("-inf")).softmax(-1).nan_to_num()
        return (hidden - self.mean) * torch.einsum("bi,bi->bi", weights.double(), weights.double()).float()


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.read = nn.LSTM(4, 6, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.read(x)[0][:, -1])


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


def cnn() -> nn.Module:
    first = (nn.Conv2d(1, 4, 3, padding="same"), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    return nn.Sequential(*first, nn.Dropout2d(0.2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))


MODULES: dict[str, tuple[Callable[[], nn.Module], Callable[[int], tuple[Tensor, ...]]]] = {
    "mlp": (mlp, lambda n: (torch.randn(n, 4),)),
    "cnn": (cnn, lambda n: (torch.randn(n, 1, 8, 8),)),
    "encoder": (Encoder, lambda n: (torch.randn(n, 5, 4),)),
    "two": (Two, lambda n: (torch.randn(n, 4), torch.randn(n, 3))),
    "tied": (Tied, lambda n: (torch.randint(0, 10, (n, 5)),)),
    "noisy": (Noisy, lambda n: (torch.randn(n, 4),)),
    "lstm": (Recurrent, lambda n: (torch.randn(n, 6, 4),)),
}
_packed: dict[str, bytes] = {}


def packed(name: str) -> tuple[nn.Module, bytes]:
    """A module with seeded weights, and its archive."""
    torch.manual_seed(0)
    make, example = MODULES[name]
    net = make()
    if name not in _packed:
        _packed[name] = pack(net, example(3))
    return net, _packed[name]


@pytest.fixture(params=MODULES)
def pair(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module, Callable[[int], tuple[Tensor, ...]]]:
    """A module, the same from its graphs, and what makes rows for them."""
    net, data = packed(request.param)
    return net, unpack(data), MODULES[request.param][1]


# --- what a module is, it stays ---


def test_state_and_answers(pair: Any) -> None:
    net, opened, rows = pair
    assert isinstance(opened, ExportedModule) and opened.training
    assert list(opened.state_dict()) == list(net.state_dict())
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in opened.state_dict().items())
    mine, theirs = dict(net.named_parameters()), dict(opened.named_parameters())
    assert list(mine) == list(theirs)
    assert all(mine[name].requires_grad == theirs[name].requires_grad for name in mine)
    for size in SIZES:
        inputs = rows(size)
        assert torch.allclose(net.eval()(*inputs), opened.eval()(*inputs), atol=1e-6)


def test_training_is_the_same(pair: Any) -> None:
    net, opened, rows = pair
    batches = [(rows(size), torch.randint(0, 3, (size,))) for size in (2, 7, 64, 2, 7)]
    losses = []
    for module in (net, opened):
        torch.manual_seed(1)
        optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-2)
        module.train()
        told = []
        for inputs, target in batches:
            loss = F.cross_entropy(module(*inputs), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            told.append(loss.item())
        losses.append(told)
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    for name, value in opened.state_dict().items():
        assert torch.allclose(value, net.state_dict()[name], atol=1e-5), name
    inputs = rows(7)
    assert torch.allclose(net.eval()(*inputs), opened.eval()(*inputs), atol=1e-5)


def test_modes_share_one_state() -> None:
    _, data = packed("mlp")
    opened, x = unpack(data), torch.randn(9, 4) + 3
    before = opened.eval()(x)
    assert torch.equal(before, opened.eval()(x))
    opened.train()
    assert not torch.equal(opened(x), opened(x))
    assert opened.state_dict()["1.num_batches_tracked"] == 2
    assert not torch.allclose(opened.eval()(x), before, atol=1e-3)


def test_copies_and_weights_from_elsewhere() -> None:
    net, data = packed("tied")
    opened, rows = unpack(data), MODULES["tied"][1](5)
    assert opened.get_parameter("out.weight") is opened.get_parameter("embed.weight")
    other = copy.deepcopy(opened)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    assert other.get_parameter("out.weight") is other.get_parameter("embed.weight")
    assert torch.allclose(opened.eval()(*rows), net.eval()(*rows), atol=1e-6)
    opened.load_state_dict(other.state_dict())
    assert torch.equal(opened.eval()(*rows), other.eval()(*rows))
    net.load_state_dict(other.state_dict())
    assert torch.allclose(net(*rows), other(*rows), atol=1e-5)


def test_a_device_of_its_own() -> None:
    _, data = packed("two")
    opened = unpack(data).to("meta")
    assert opened(*(x.to("meta") for x in MODULES["two"][1](5))).device.type == "meta"
    assert {tensor.device.type for tensor in (*opened.parameters(), *opened.buffers())} == {"meta"}


@pytest.mark.slow
def test_exports_again(pair: Any) -> None:
    net, opened, rows = pair
    names = [f"x{i}" for i in range(len(rows(1)))]
    with suppress_torch_logging():
        program = torch.onnx.export(
            opened.eval(),
            rows(3),
            dynamo=True,
            dynamic_shapes=(tuple({0: "batch"} for _ in names),),
            input_names=names,
            verbose=False,
        )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    for size in SIZES:
        inputs = rows(size)
        feed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        assert np.allclose(session.run(None, feed)[0], net.eval()(*inputs).detach(), atol=1e-5)


def test_trains_and_exports_as_a_model(lab: Any) -> None:
    x = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    results = []
    for model in (packed("mlp")[0], unpack(packed("mlp")[1])):
        lab.train(x, y, model=model, epochs=4, lr=0.01)
        results.append((lab.evaluate(x, y).values, lab.predict(x)))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    assert np.array_equal(results[0][1], results[1][1])
    assert lab.export(format="onnx").verification.max_abs_diff < 1e-5


# --- what goes on the wire ---


def test_packing_leaves_no_trace() -> None:
    net = packed("noisy")[0]
    net.map.eval()
    few, more = MODULES["noisy"][1](3), MODULES["noisy"][1](7)
    state, noise = copy.deepcopy(net.state_dict()), torch.random.get_rng_state()
    data = pack(net, few)
    assert net.training and not net.map.training
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert torch.equal(noise, torch.random.get_rng_state())
    assert data == pack(copy.deepcopy(net), more)
    for secret in (b"stack_trace", b"File ", b".py", b"nn_module_stack", b"Noisy", b"/", b"forward", b"guards"):
        found = [name for name, content in _records(data).items() if secret in content and name.endswith("json")]
        assert not found, secret


def test_torch_knows_the_archive() -> None:
    from torch.export.pt2_archive._package import PT2ArchiveReader, is_pt2_package

    payload = _entries(packed("mlp")[1])["train.pt2"]
    assert is_pt2_package(io.BytesIO(payload))
    reader = PT2ArchiveReader(io.BytesIO(payload))
    assert json.loads(reader.read_string("models/model.json"))["schema_version"]["major"] == 8


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return -slope


class Does(nn.Module):
    """A layer, and then what is asked."""

    def __init__(self, what: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.map = nn.Linear(4, 4)
        self.what = what
        self.calls = 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return self.what(self.map(x))


def under_autocast(x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return x @ x.T


@pytest.mark.parametrize(
    ("net", "rows", "message"),
    [
        (Does(lambda x: x if x.sum() > 0 else -x), 3, "cannot trace Does: Could not guard on data-dependent"),
        (Does(lambda x: x * x.sum().item()), 3, "Does"),
        (Does(lambda x: x.view(3, 4)), 3, "cannot trace Does: it fixes the number of rows"),
        (Does(lambda x: (x, x)), 3, "something else than one tensor"),
        (Does(under_autocast), 3, "wrap_with_autocast is not among the operators"),
        (Does(Reversal.apply), 3, "train.pt2 computes something else"),
        (
            Does(lambda x: x[:, :4, None].expand(-1, 4, 4).cholesky_inverse()[:, 0]),
            3,
            "aten.cholesky_inverse.default is not among the operators",
        ),
        (nn.ModuleDict({"a": nn.Linear(4, 4)}), 3, "cannot trace ModuleDict"),
        (nn.LazyLinear(4), 3, "uninitialized parameter"),
        (nn.Linear(5, 4), 3, "cannot trace Linear"),
        (nn.Linear(4, 4), 1, "too few rows"),
        (nn.Sequential(nn.Linear(4, 4)).append(Does(lambda x: x)), 3, ""),
    ],
)
def test_what_cannot_be_sent(net: nn.Module, rows: int, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    if not message:
        assert pack(net, (torch.randn(rows, 4),))
        assert net[1].calls == 0
        return
    with pytest.raises(ModelError, match=message) as caught:
        pack(net, (torch.randn(rows, 4),))
    assert "\n" not in caught.value.message and len(caught.value.message) < 300
    assert capfd.readouterr() == ("", "")


class Careful(nn.Module):
    """Answers without gradients in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 3)

    def forward(self, *x: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.training):
            return self.map(torch.cat(x, 1))


@pytest.mark.parametrize("net", [Careful(), nn.Flatten(), nn.Linear(4, 3).requires_grad_(False)])
def test_what_can_be_sent(net: nn.Module) -> None:
    x = torch.randn(5, 4)
    opened = unpack(pack(net, (x[:2],)))
    for mode in (True, False):
        answer = opened.train(mode)(x)
        assert torch.equal(answer, net.train(mode)(x)) and answer.requires_grad == net(x).requires_grad


def test_names_that_cannot_be_keys() -> None:
    net = nn.Sequential()
    net.add_module('x"]', nn.Linear(4, 4))
    with pytest.raises(ModelError, match="cannot be a key of a state"):
        pack(net, (torch.randn(3, 4),))


# --- what comes off the wire ---


def _entries(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


def _records(data: bytes) -> dict[str, bytes]:
    return {
        f"{name}:{record}": content
        for name, payload in _entries(data).items()
        if name.endswith("pt2")
        for record, content in _entries(payload).items()
    }


def _changed(data: bytes, record: str, change: Callable[[Any], Any], graph: str = "train.pt2") -> bytes:
    """The archive with the JSON of a record changed, written as it is expected."""
    entries = _entries(data)
    inner = _entries(entries[graph])
    value = json.loads(inner[record])
    made = change(value)
    inner[record] = msgspec.json.encode(value if made is None else made)
    return graph_format.archive({**entries, graph: graph_format.archive(inner)})


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = str(place)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.place,)


def _saved(harm: bytes, code: str, attack: str) -> bytes:
    """An archive as ``torch.export.save`` writes it, with something in it that ``torch.export.load`` executes."""
    program = torch.export.export(
        nn.Linear(4, 3), (torch.randn(3, 4),), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
    )
    stream = io.BytesIO()
    torch.export.save(program, stream)
    records = _entries(stream.getvalue())
    model, weights = json.loads(records[graph_format.MODEL]), json.loads(records[graph_format.WEIGHTS])
    if attack == "sample inputs":
        records["archive/data/sample_inputs/model.pt"] = harm
    elif attack == "pickled weights":
        weights["config"]["weight"]["use_pickle"] = True
        records["archive/data/weights/weight_0"] = harm
    elif attack == "expression":
        model["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][0]["as_expr"]["expr_str"] = code
    else:
        model["guards_code"] = [code]
    records |= {
        graph_format.MODEL: json.dumps(model).encode(),
        graph_format.WEIGHTS: json.dumps(weights).encode(),
    }
    return graph_format.archive(records)


@pytest.mark.parametrize("attack", ["sample inputs", "pickled weights", "expression", "guards"])
def test_attacks_on_torch_are_refused(attack: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "harm"
    stream = io.BytesIO()
    torch.save(Harm(place), stream)
    harm, code = stream.getvalue(), f"__import__('os').mkdir({str(place)!r})"
    saved = _saved(harm, code, attack)
    with contextlib.suppress(Exception):
        torch.export.load(io.BytesIO(saved)).module()(torch.randn(3, 4))
    assert place.is_dir(), "the attack is one"
    place.rmdir()

    net, data = nn.Linear(4, 3), packed("mlp")[1]
    entries = _entries(pack(net, (torch.randn(3, 4),)))
    crafted = [
        saved,
        harm,
        pickle.dumps(Harm(place)),
        graph_format.archive({**entries, "train.pt2": saved}),
        graph_format.archive({**entries, "eval.pt2": saved, "train.pt2": saved}),
        graph_format.archive({**entries, "train.pt2": harm}),
        graph_format.archive({**entries, "weights.safetensors": harm}),
        graph_format.archive({**entries, "weights.pt": harm}),
    ]
    for name in ("train.pt2", "eval.pt2"):
        inner = {**_entries(entries[name]), "archive/data/sample_inputs/model.pt": harm}
        crafted.append(graph_format.archive({**entries, name: graph_format.archive(inner)}))
    graph = ("graph_module", "graph")

    def sized(model: Any, value: Any) -> None:
        model[graph[0]][graph[1]]["tensor_values"]["input"]["sizes"] = value

    def named(model: Any) -> None:
        model[graph[0]][graph[1]]["nodes"][0]["metadata"] = {"stack_trace": code}

    crafted += [
        _changed(data, graph_format.WEIGHTS, lambda table: table["config"]["0.weight"].update(use_pickle=True)),
        _changed(
            data, graph_format.MODEL, lambda model: sized(model, [{"as_expr": {"expr_str": code}}, {"as_int": 4}])
        ),
        _changed(data, graph_format.MODEL, lambda model: sized(model, [{"as_expr": {"expr_str": "9**9**9"}}])),
        _changed(data, graph_format.MODEL, lambda model: model.update(guards_code=[code])),
        _changed(data, graph_format.MODEL, named),
    ]
    for archive in crafted:
        with pytest.raises(ModelError, match="^The uploaded graph was refused: "):
            unpack(archive)
        assert not place.exists()


def _call(target: str, *args: Any) -> Callable[[Any], None]:
    """A change that puts a call into a graph."""

    def change(model: Any) -> None:
        inputs = [{"name": name, "arg": arg, "kind": 1} for name, arg in args]
        node = {"target": target, "inputs": inputs, "outputs": [{"as_tensor": {"name": "new"}}]}
        model["graph_module"]["graph"]["nodes"].append(node)

    return change


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.set_.source_Storage",
        "torch.ops.aten.as_strided.default",
        "torch.ops.aten._print.default",
        "torch.ops.aten.save.default",
        "torch.ops.aten.linear.__class__",
        "torch.ops.aten.linear.no",
        "torch.ops.aten.__class__.default",
        "torch.ops.prim.device.default",
        "torch.ops.higher_order.cond",
        "torch.ops.load_library",
        "torch.load",
        "_operator.attrgetter",
        "_operator.pow",
        "_operator.call",
        "builtins.eval",
        "os.system",
        "#ns:op",
        "",
    ],
)
def test_other_operators_are_refused(target: str) -> None:
    bad = _changed(packed("mlp")[1], graph_format.MODEL, _call(target, ("filename", {"as_string": "x"})))
    with pytest.raises(ModelError, match="operator"):
        unpack(bad)


def test_listed_operators_exist_and_touch_only_tensors() -> None:
    for name in graph_operators.OPERATORS:
        for overload in getattr(torch.ops.aten, name).overloads():
            found: Any = graph_operators.find_operator(f"torch.ops.aten.{name}.{overload}")
            assert not any(word in str(found._schema) for word in ("file", "Storage", "Stream", "__torch__")), found
    assert not graph_operators.OPERATORS & {"from_file", "set", "resize", "as_strided", "item", "record_stream"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_call("torch.ops.aten.relu.default", ("self", {"as_tensor": {"name": "nothing"}})), "is not defined"),
        (_call("torch.ops.aten.relu.default", ("other", {"as_tensor": {"name": "input"}})), "has no argument"),
        (_call("torch.ops.aten.relu.default", ("self", {"as_string": "__import__('os')"})), "text"),
        (_call("torch.ops.aten.relu.default", ("self", {"as_none": True, "as_int": 1})), "2 values"),
        (_call("torch.ops.aten.relu.default", ("self", {"as_int": 2**63})), "Expected `int`"),
        (_call("torch.ops.aten.relu.default", ("self", {"as_device": {"type": "cuda"}})), "Invalid enum"),
        (
            _call("torch.ops.aten.max.default", ("self", {"as_tensor": {"name": "input"}}), ("x", {"as_int": 1})),
            "argument",
        ),
        (_call("torch.ops.aten.unbind.int", ("self", {"as_tensor": {"name": "input"}})), "does not answer that"),
        (_call("_operator.mul", ("a", {"as_string": "x"}), ("b", {"as_int": 2**40})), "numbers only"),
        (_call("_operator.mul", ("a", {"as_int": 2}), ("b", {"as_int": 2**40})), "does not answer that"),
        (_call("torch.ops.aten.cat.default", ("tensors", {"as_tensors": []})), "refused"),
        (lambda model: model["graph_module"]["graph"]["nodes"].__delitem__(0), "is not defined"),
        (lambda model: model["graph_module"]["graph"]["nodes"].reverse(), "is not defined"),
        (lambda model: model["graph_module"]["graph"].update(outputs=[]), "output is not one tensor"),
        (lambda model: model["schema_version"].update(major=9), "Invalid enum"),
        (lambda model: model.update(new=1), "something unknown"),
        (lambda model: [model], "Expected `object`"),
    ],
)
def test_malformed_graphs_are_refused(change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        unpack(_changed(packed("mlp")[1], graph_format.MODEL, change))
    assert "\n" not in caught.value.message and len(caught.value.message) < 300


def test_numbers_do_not_grow_without_end() -> None:
    def change(model: Any) -> None:
        nodes = model["graph_module"]["graph"]["nodes"]
        for i in range(60):
            arg = {"as_sym_int": {"as_name": f"n{i - 1}"} if i else {"as_int": 2**60}}
            inputs = [{"name": name, "arg": arg, "kind": 1} for name in "ab"]
            outputs = [{"as_sym_int": {"as_name": f"n{i}"}}]
            nodes.insert(i, {"target": "_operator.mul", "inputs": inputs, "outputs": outputs})

    with pytest.raises(ModelError, match="grow without end"):
        unpack(_changed(packed("mlp")[1], graph_format.MODEL, change))


def _zip(*contents: tuple[str, bytes], compressed: bool = False) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as file:
        for name, data in contents:
            file.writestr(name, data)
    return out.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_other_archives_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = packed("mlp")[1]
    entries = _entries(data)
    state = safetensors.torch.load(entries["weights.safetensors"])

    def stored(**changes: Tensor | None) -> bytes:
        kept = {name: value for name, value in (state | changes).items() if value is not None}
        return graph_format.archive({**entries, "weights.safetensors": safetensors.torch.save(kept)})

    bomb = _zip(*entries.items(), ("bomb", b"0" * 10**7), compressed=True)
    for archive, message in (
        (b"", "not a zip file"),
        (b"PK\5\6" + bytes(18), "each should be there once"),
        (data + b"x", "not a zip file"),
        (_zip(*entries.items(), ("../../etc/passwd", b"")), "unknown entry"),
        (_zip(*entries.items(), ("/root", b"")), "unknown entry"),
        (_zip(*entries.items(), ("train.pt2", entries["train.pt2"])), "there once"),
        (_zip(*list(entries.items())[1:]), "there once"),
        (_zip(*entries.items(), compressed=True), "compressed"),
        (bomb, "unknown entry|compressed"),
        (_zip(*((f"{i}", b"") for i in range(5000))), "too many entries"),
        (
            _zip(("train.pt2", entries["eval.pt2"]), *list(entries.items())[1:2], ("weights.safetensors", b"")),
            "",
        ),
        (_zip(*((name, entries["weights.safetensors"]) for name in entries)), ""),
        (stored(**{"0.weight": torch.zeros(8, 5)}), "do not fit"),
        (stored(**{"0.weight": torch.zeros(8, 4, dtype=torch.float64)}), "do not fit"),
        (stored(**{"0.weight": None}), "do not fit"),
        (stored(more=torch.zeros(1)), "do not fit"),
        (graph_format.archive({**entries, "eval.pt2": _entries(packed("cnn")[1])["eval.pt2"]}), "not of one module"),
    ):
        with pytest.raises(ModelError, match=f"The uploaded graph was refused: .*({message})"):
            unpack(archive)
    assert unpack(_zip(*entries.items()))
    for place, limit, message in (
        (graphs, "MAX_BYTES", "larger than"),
        (graph_filter, "MAX_GRAPH_BYTES", "larger than"),
        (graph_filter, "MAX_NODES", "more than"),
        (graph_filter, "MAX_TENSORS", "more than"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, limit, 5)
            with pytest.raises(ModelError, match=message):
                unpack(data)


def test_names_of_the_module_itself_are_refused() -> None:
    def change(value: Any) -> Any:
        return json.loads(json.dumps(value).replace('"4.bias"', json.dumps(name)))

    for name in (
        "forward",
        "training",
        "__class__",
        "_graphs",
        "0.weight.x",
        "a..b",
        "",
        'x"]',
        "a.__dict__",
        "4.bias\n",
    ):
        data = packed("mlp")[1]
        for graph in ("train.pt2", "eval.pt2"):
            for record in (graph_format.MODEL, graph_format.WEIGHTS):
                data = _changed(data, record, change, graph)
        entries = _entries(data)
        state = safetensors.torch.load(entries["weights.safetensors"])
        state[name] = state.pop("4.bias")
        with pytest.raises(ModelError, match="The uploaded graph was refused"):
            unpack(graph_format.archive({**entries, "weights.safetensors": safetensors.torch.save(state)}))


# --- what nobody thought of ---


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of what evaluates or unpickles, when it is called."""
    import sympy

    told: list[str] = []
    for place, name in (
        (pickle, "loads"),
        (pickle, "load"),
        (torch, "load"),
        (torch.export, "load"),
        (sympy, "sympify"),
        (sympy, "parse_expr"),
        (os, "system"),
    ):
        monkeypatch.setattr(place, name, lambda *args, name=name, **kwargs: told.append(name))
    yield told
    assert not told


def _opens(data: bytes) -> bool:
    """Whether it is a module that answers, and not refused; anything else fails."""
    try:
        opened = unpack(data)
    except ModelError as error:
        assert error.message.startswith("The uploaded graph was refused: ")
        return False
    assert opened.eval()(torch.randn(2, 4)).ndim
    return True


def test_broken_bytes(watched: list[str]) -> None:
    chance = random.Random(0)
    data = packed("mlp")[1]
    assert not any(_opens(data[:size]) for size in range(0, len(data), len(data) // 60))
    opened = 0
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(chance.choice((1, 1, 4))):
            broken[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        opened += _opens(bytes(broken))
    assert opened < 30


WILD = [None, True, -1, 0, 2, 2**62, 1e308, "NaN", "", "x", "relu", [], {}, [1], {"as_int": 1}, {"name": "linear"}]


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from _paths(value[key], (*path, key))


def test_broken_json(watched: list[str]) -> None:
    chance = random.Random(0)
    data = packed("mlp")[1]

    def change(value: Any) -> None:
        *path, last = chance.choice(list(_paths(value)))
        for key in path:
            value = value[key]
        kind = chance.random()
        if kind < 0.3 and isinstance(value[last], int):
            value[last] += chance.choice((-1, 1, 5))
        elif kind < 0.5:
            del value[last]
        elif kind < 0.6 and isinstance(value, list):
            value.insert(chance.randrange(len(value)), value[last])
        else:
            value[last] = chance.choice(WILD)

    opened = 0
    for _ in range(400):
        record = chance.choice((graph_format.MODEL,) * 6 + (graph_format.WEIGHTS, graph_format.CONSTANTS))
        opened += _opens(_changed(data, record, change, chance.choice(("train.pt2", "eval.pt2"))))
    assert opened < 100


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[" * 100_000, b"{" * 100_000, b'{"a":' * 50_000, b"null", b"\xff", b"1e999"]
)
def test_no_json(text: bytes, watched: list[str]) -> None:
    entries = _entries(packed("mlp")[1])
    for record in (graph_format.MODEL, graph_format.WEIGHTS):
        inner = {**_entries(entries["train.pt2"]), record: text}
        assert not _opens(graph_format.archive({**entries, "train.pt2": graph_format.archive(inner)}))
