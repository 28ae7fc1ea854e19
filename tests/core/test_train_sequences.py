"""Rows of different length: stored as they are, put into batches by length, and padded to the longest of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from maas_magics.api.errors import DataError
from maas_magics.api.requests import PredictRequest, TrainRequest
from maas_magics.core.batches.from_dataset import by_length
from maas_magics.core.batches.training_rows import module_and_rows
from maas_magics.core.graphs.rebuild import pack, unpack
from maas_magics.session import Session

RNG = np.random.default_rng(4)
IDS = [RNG.integers(1, 20, RNG.integers(2, 14)).tolist() for _ in range(240)]
SHARE = np.array([float(np.mean(np.array(row) > 10)) for row in IDS], dtype=np.float32)
WEIGHTS = [[1.0 + (value > 10) for value in row] for row in IDS]


class Mean(nn.Module):
    """A figure of the mean of the embeddings of what is no padding."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(20, 6, padding_idx=0), nn.Linear(6, 1)
        self.longest: list[int] = []

    def forward(self, ids: Tensor) -> Tensor:
        there = (ids != 0).unsqueeze(-1)
        found: Tensor = self.head((self.table(ids) * there).sum(1) / there.sum(1))
        return found


class Weighted(nn.Module):
    """The same, with a weight at each place."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(20, 6, padding_idx=0), nn.Linear(6, 1)

    def forward(self, ids: Tensor, weights: Tensor) -> Tensor:
        found: Tensor = self.head((self.table(ids) * weights[..., None]).sum(1) / weights.sum(1, keepdim=True))
        return found


FORMS = {
    "dict": {"ids": IDS},
    "frame": pd.DataFrame({"ids": IDS}),
    "arrow": pa.table({"ids": IDS}),
    "arrays": {"ids": [np.array(row) for row in IDS]},
    "tensors": {"ids": [torch.tensor(row) for row in IDS]},
}


def asked(lab: Any, rows: Any, model: str = "m") -> np.ndarray:
    return np.asarray(lab.predict({"ids": rows}, model)).ravel()


def trained(lab: Any, data: Any, net: nn.Module, **options: Any) -> Any:
    torch.manual_seed(0)
    return lab.train(data, SHARE, model=net, **{"epochs": 15, "lr": 0.02, "seed": 3, **options})


@pytest.mark.parametrize("form", FORMS)
def test_lists_of_any_length_are_learnt_however_they_are_given(lab: Any, form: str) -> None:
    torch.manual_seed(0)
    found = trained(lab, FORMS[form], Mean())
    assert found.metrics["r2"] > 0.95
    assert [(spec.datatype, spec.shape) for spec in found.info.signature.inputs] == [("INT64", (-1, -1))]
    together = asked(lab, IDS[:50])
    alone = np.concatenate([asked(lab, [row]) for row in IDS[:50]])
    assert together == pytest.approx(alone, abs=1e-5) and together == pytest.approx(SHARE[:50], abs=0.2)


def test_exports_take_any_length(lab: Any) -> None:
    trained(lab, FORMS["frame"], Mean(), epochs=3)
    import onnxruntime

    artifact = lab.export(format="onnx")
    assert artifact.verification.max_abs_diff < 1e-5
    session = onnxruntime.InferenceSession(f"{artifact.path}/model.onnx", providers=["CPUExecutionProvider"])
    for length in (1, 2, 7, 40):
        rows = RNG.integers(1, 20, (3, length))
        found = session.run(None, {"ids": rows})[0].ravel()
        assert found == pytest.approx(asked(lab, rows.tolist()), abs=1e-5)
    assert lab.export(format="pt2").verification.max_abs_diff < 1e-5


def test_another_process_answers_by_the_published_graph(lab: Any, store: Path) -> None:
    trained(lab, FORMS["dict"], Mean(), epochs=2)
    expected = asked(lab, IDS[:9])
    other = Session(str(store), notify=lambda text: None)
    found = other.predict(PredictRequest(model="m", data={"ids": IDS[:9]}))
    assert np.asarray(found).ravel() == pytest.approx(expected, abs=1e-5)


def test_columns_that_are_as_long_as_each_other_go_together(lab: Any) -> None:
    found = trained(lab, {"weights": WEIGHTS, "ids": IDS}, Weighted())
    assert [spec.name for spec in found.info.signature.inputs] == ["ids", "weights"]
    assert [spec.datatype for spec in found.info.signature.inputs] == ["INT64", "FP32"]
    assert found.metrics["r2"] > 0.8
    assert lab.export(format="onnx").verification.max_abs_diff < 1e-5
    assert lab.evaluate({"weights": WEIGHTS, "ids": IDS}, SHARE)["r2"] > 0.8


def test_a_resumed_training_ends_where_one_without_a_break_does(lab: Any) -> None:
    whole = trained(lab, FORMS["dict"], Mean(), epochs=6)
    trained(lab, FORMS["dict"], Mean(), epochs=3, name="half", checkpoint_every="1")
    resumed = trained(lab, FORMS["dict"], Mean(), epochs=6, name="half", resume=True)
    assert resumed.history["loss"] == whole.history["loss"]
    weights = [lab.net(name).state_dict() for name in ("m", "half")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_workers_that_encode_change_nothing(lab: Any) -> None:
    one = trained(lab, FORMS["dict"], Mean(), epochs=2)
    two = trained(lab, FORMS["dict"], Mean(), epochs=2, loader_workers=2)
    assert one.history["loss"] == two.history["loss"]


def test_a_batch_holds_rows_of_about_one_length() -> None:
    lengths = torch.from_numpy(RNG.integers(1, 100, 4_001))
    orders = []
    for seed in (0, 0, 1):
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randperm(len(lengths), generator=generator)
        orders.append(by_length(drawn, lengths, 16, generator))
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])
    assert torch.equal(orders[0].sort()[0], torch.arange(len(lengths)))
    sorted_, drawn = (
        sum(int(lengths[part].max()) * len(part) for part in torch.split(order, 16)) / int(lengths.sum())
        for order in (orders[0], torch.randperm(len(lengths)))
    )
    assert sorted_ < 1.15 < 1.5 < drawn


def test_a_module_that_takes_any_length_is_sent_as_its_graphs() -> None:
    net, rows, names, open_axes, _ = module_and_rows(
        TrainRequest(name="m", data=FORMS["dict"], target=SHARE, model=Mean())
    )
    assert names == ("ids",) and open_axes == ((1,),)
    made = unpack(pack(net, rows, open_axes)).eval()
    few = torch.from_numpy(RNG.integers(1, 20, (3, 31)))
    assert torch.allclose(made(few), net.eval()(few))


def test_a_module_that_takes_one_length_only_says_so_and_answers_here(lab: Any) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(13, 1)

        def forward(self, ids: Tensor) -> Tensor:
            found: Tensor = self.head(nn.functional.pad(ids.float(), (0, 13 - ids.shape[1])))
            return found

    found = trained(lab, FORMS["dict"], Fixed(), epochs=1)
    assert len(found.history["loss"]) == 1


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        ({"ids": [[1, None], *IDS[1:]]}, {}, "missing"),
        ({"ids": IDS}, {"model": "mlp"}, "lists of several lengths"),
        ({"ids": [["a", "b"], *([["c"]] * 239)]}, {}, "which no module takes"),
    ],
    ids=["gaps", "an architecture for tables", "texts"],
)
def test_lists_that_no_network_takes_are_told(lab: Any, data: Any, options: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        lab.train(pd.DataFrame(data), SHARE, **{"model": Mean(), **options})


def test_lists_of_other_numbers_are_told_when_a_model_is_asked(lab: Any) -> None:
    trained(lab, FORMS["dict"], Mean(), epochs=1)
    with pytest.raises(DataError, match="lists of float64.*trained on lists of int64"):
        lab.predict({"ids": [[0.5, 1.0], [2.5]]})
    with pytest.raises(DataError, match="trained on lists of numbers"):
        lab.predict({"ids": ["a", "b"]})
    assert len(asked(lab, [[3, 4], [5, 6]])) == 2, "rows of one length are lists as well"


def test_lists_of_any_length_are_not_read_from_disk(lab: Any, tmp_path: Any) -> None:
    pq.write_table(pa.table({"ids": IDS, "y": SHARE}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="not read from disk") as error:
        lab.train(str(tmp_path / "rows.parquet"), "y", model=Mean(), stream=True)
    assert "--stream" in error.value.hint
    assert lab.train(str(tmp_path / "rows.parquet"), "y", model=Mean(), epochs=1).info.signature.inputs[0].shape == (
        -1,
        -1,
    )
