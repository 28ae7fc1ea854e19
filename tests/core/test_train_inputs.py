"""Modules of several inputs by name: rows as dicts, as items of datasets, and as columns of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from maas_magics.api.errors import DataError, MaasError, ModelError, OptionError

N = 48
RNG = np.random.default_rng(5)
IDS = RNG.integers(0, 9, (N, 6))
MASK = RNG.random((N, 6)) < 0.8
Y = (IDS * MASK).sum(1) % 3
PLAIN: dict[str, Any] = {"validation": 0.25, "batch_size": 8, "epochs": 2}


class Reader(nn.Module):
    """The mean of the embeddings that a mask leaves; keeps the types of what it got."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)
        self.seen: set[torch.dtype] = set()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        self.seen |= {ids.dtype, mask.dtype}
        there = mask.float()[..., None]
        return self.head((self.table(ids) * there).sum(1) / there.sum(1).clamp(min=1))


class Items(Dataset[Any]):
    """Rows as ``({"mask": …, "ids": …}, y)``, or as one dict with the target under a key."""

    def __init__(self, key: str = "", names: tuple[str, str] = ("mask", "ids"), listed: bool = False) -> None:
        self.key, self.names, self.listed = key, names, listed

    def __len__(self) -> int:
        return N

    def __getitem__(self, row: int) -> Any:
        parts = MASK[row], IDS[row]
        inputs: dict[str, Any] = {
            name: part.tolist() if self.listed else torch.from_numpy(part)
            for name, part in zip(self.names, parts, strict=True)
        }
        return {**inputs, self.key: int(Y[row])} if self.key else (inputs, int(Y[row]))


def table(**names: str) -> pd.DataFrame:
    names = {"ids": "ids", "mask": "mask"} | names
    columns = {names["ids"]: list(IDS), names["mask"]: list(MASK.astype("float32")), "y": Y, "note": "x"}
    return pd.DataFrame(columns)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (Items(), {}),
        (Items("labels"), {}),
        (Items("kind"), {"target": "kind"}),
        (Items("labels", listed=True), {}),
        (DataLoader(Items("label"), 8), {"validation": DataLoader(Items("label"), 8)}),
        (Items("labels", ("attention", "tokens")), {"inputs": {"ids": "tokens", "mask": "attention"}}),
        (Items(), {"loader_workers": 2}),
    ],
    ids=["pairs", "one dict", "target by name", "lists", "loader", "chosen", "workers"],
)
def test_items_of_a_dataset_may_be_dicts(lab, data, options):
    net = Reader()
    result = lab.train(data, model=net, **PLAIN | options)
    names = tuple(options["inputs"].values()) if "inputs" in options else ("ids", "mask")
    assert tuple(spec.name for spec in result.info.signature.inputs) == names
    assert [str(spec.shape) for spec in result.info.signature.inputs] == ["(-1, -1)"] * 2
    assert torch.int64 in lab.net().seen and result.info.task == "multiclass"
    rows = dict(zip(names, (IDS, MASK), strict=True))
    with torch.no_grad():
        expected = lab.net()(torch.from_numpy(IDS), torch.from_numpy(MASK)).argmax(1).numpy()
    assert (lab.predict(rows) == expected).all()
    assert lab.export().verification.max_abs_diff < 1e-5
    assert lab.evaluate(rows, Y)["accuracy"] == pytest.approx((expected == Y).mean())


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.int64, bool, np.float32])
def test_each_input_keeps_its_type(lab, kind):
    lab.train({"mask": MASK.astype(kind), "ids": IDS}, Y, model=Reader(), **PLAIN)
    expected = {torch.int64, torch.from_numpy(np.zeros(1, kind)).dtype}
    net = lab.net()
    net.seen.clear()
    lab.predict({"ids": IDS, "mask": MASK.astype(kind)})
    assert net.seen <= expected
    spec = lab.session.backend.models.get("m").signature.inputs[1]
    assert (spec.name, np.dtype(kind)) == ("mask", np.dtype(kind)) and spec.shape == (-1, -1)


def test_columns_of_a_table_go_to_arguments_by_name(lab):
    frame = table(ids="tokens", mask="attention")
    lab.train(frame, "y", model=Reader(), inputs={"mask": "attention", "ids": "tokens"}, **PLAIN)
    assert [spec.name for spec in lab.session.backend.models.get("m").signature.inputs] == ["tokens", "attention"]
    found = lab.predict(frame)["prediction"].to_numpy()
    with torch.no_grad():
        expected = lab.net()(torch.from_numpy(IDS), torch.from_numpy(MASK)).argmax(1).numpy()
    assert (found == expected).all()
    assert lab.evaluate(frame)["accuracy"] == pytest.approx((expected == Y).mean())


def test_a_training_on_named_inputs_goes_on_exactly(lab):
    def train(**options: Any) -> list[Tensor]:
        torch.manual_seed(0)
        lab.train(Items(), model=Reader(), **PLAIN | options)
        return [value.clone() for value in lab.net().state_dict().values()]

    whole = train(epochs=4)
    train(name="part", epochs=2)
    lab.train(Items(), model=Reader(), name="part", **PLAIN | {"epochs": 4}, resume=True)
    assert all(map(torch.equal, whole, lab.net("part").state_dict().values()))


@pytest.mark.parametrize(
    ("data", "options", "kind", "said", "hint"),
    [
        ({"ids": IDS}, {}, ModelError, "needs 'mask'", "ids"),
        ({"ids": IDS, "maks": MASK}, {}, ModelError, "takes ids, mask; the data has ids, maks", "'mask'"),
        ({"ids": IDS, "mask": MASK[:-1]}, {}, DataError, "differ in length", ""),
        (
            {"ids": IDS, "m": MASK},
            {"inputs": {"ids": "ids", "mask": "n"}},
            DataError,
            "no 'n' to be an input",
            "ids, m",
        ),
        ({"ids": IDS, "m": MASK}, {"inputs": {"ids": "ids", "msk": "m"}}, ModelError, "takes ids, mask", "'mask'"),
        (Items(), {"inputs": {"ids": "ids", "mask": "n"}}, DataError, "have no 'n'", ""),
        (Items("labels"), {"target": "lables"}, DataError, "no 'lables' to be the target", "'labels'"),
        (Items("kind"), {}, DataError, "nothing that is called labels", "--target KEY"),
        (Items("labels", ("ids", "extra")), {}, ModelError, "takes ids, mask; the data has", "mask"),
        ({"ids": IDS, "mask": MASK, "n": IDS}, {}, ModelError, "has ids, mask, n", "--inputs ids=ids,mask=mask"),
        ({"ids": IDS, "mask": MASK}, {"inputs": {"ids": "ids"}, "model": "mlp"}, OptionError, "forward", "Drop"),
    ],
)
def test_inputs_that_do_not_fit_are_told_in_two_lines(lab, data, options, kind, said, hint):
    target = None if isinstance(data, Items) else Y
    with pytest.raises(MaasError) as told:
        lab.train(data, **{"target": target, "model": Reader()} | PLAIN | options)
    assert isinstance(told.value, kind) and said in told.value.message and hint in told.value.hint


class Bag(nn.Module):
    """Ids, the mean of whose vectors counts; with ``safe`` those below 0 are 0."""

    def __init__(self, safe: bool = False) -> None:
        super().__init__()
        self.table, self.last, self.safe = nn.Embedding(9, 4), nn.Linear(4, 2), safe

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.last(self.table((ids.clamp(min=0) if self.safe else ids).long()).mean(1))
        return found


@pytest.mark.parametrize("form", ["array", "lists", "narrow"])
def test_ids_that_a_table_does_not_have_are_refused_everywhere_alike(lab, form):
    rng = np.random.default_rng(0)
    ids: Any = rng.integers(0, 9, (40, 3))
    if form == "narrow":
        ids = ids.astype("int16")
    if form == "lists":
        ids = [row[: 1 + i % 3].tolist() for i, row in enumerate(ids)]
    lab.train({"ids": ids}, rng.integers(0, 2, 40), model=Bag())

    def check() -> None:
        for wrong in (-1, 9):
            asked: Any = np.array([[0, wrong, 3]])
            asked = asked.tolist() if form == "lists" else asked.astype(np.asarray(ids).dtype)
            with pytest.raises(DataError, match=f"holds {wrong}; the network looks it up in a table of ids 0 to 8"):
                lab.predict({"ids": asked})
            with pytest.raises(DataError, match=f"holds {wrong}"):
                lab.session.backend.infer("m", {"ids": np.array([[0, wrong, 3]], dtype=np.asarray(asked).dtype)})
        assert len(lab.predict({"ids": ids[:4]})) == 4

    check()
    lab.export()
    check()


def test_ids_that_a_module_looks_at_itself_are_its_own(lab):
    ids = np.random.default_rng(0).integers(0, 9, (40, 3))
    lab.train({"ids": ids}, np.arange(40) % 2, model=Bag(safe=True))
    lab.export()
    assert len(lab.predict({"ids": np.array([[-1, 0, 3]])})) == 1


class Later(nn.Module):
    """Looks up what is computed of its ids, which nobody can check beforehand."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(10, 4), nn.Linear(4, 2)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.last(self.table(ids + 1).mean(1))
        return found


def test_what_a_graph_refuses_is_told_once(lab, capfd):
    ids = np.random.default_rng(0).integers(0, 9, (40, 3))
    lab.train({"ids": ids}, np.arange(40) % 2, model=Later())
    lab.export()
    capfd.readouterr()
    with pytest.raises(DataError, match="cannot answer this"):
        lab.predict({"ids": np.array([[9, 0, 3]])})
    assert "onnxruntime" not in capfd.readouterr().err
