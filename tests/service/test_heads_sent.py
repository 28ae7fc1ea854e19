"""Several targets, learnt, answered and scored over a service as in a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
import pytest
import torch
from serving import Service  # type: ignore[import-not-found]
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from maas_magics.api.errors import DataError
from maas_magics.api.requests import EvaluateRequest, ExportRequest, PredictRequest, TrainRequest
from maas_magics.api.wire import Uploaded, encode_request
from maas_magics.local.backend import LocalBackend
from maas_magics.remote.backend import RemoteBackend
from maas_magics.remote.client import Client

N = 60
RNG = np.random.default_rng(5)
X = RNG.normal(size=(N, 4)).astype("float32")
SIZE = (X[:, 0] * 2 + X[:, 1]).astype("float32")
KIND = np.array(["low", "mid", "top"])[(X[:, 2] > 0).astype(int) + (X[:, 3] > 0.5)]
MASK = (X[:, :2] > 0).astype(int)


class Net(nn.Module):
    def __init__(self, form: str = "dict") -> None:
        super().__init__()
        self.body, self.size, self.kind, self.mask = nn.Linear(4, 8), nn.Linear(8, 1), nn.Linear(8, 3), nn.Linear(8, 4)
        self.form = form

    def forward(self, rows: Tensor) -> Any:
        made = self.body(rows).relu()
        size, kind, mask = self.size(made).squeeze(-1), self.kind(made), self.mask(made).reshape(-1, 2, 2)
        match self.form:
            case "dict":
                return {"hidden": made, "kind": kind, "size": size}
            case "tuple":
                return size, kind
        return {"size": size, "kind": kind, "mask": mask}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalBackend, RemoteBackend]]:
    service = Service(tmp_path_factory.mktemp("service"))
    yield (
        LocalBackend(str(tmp_path_factory.mktemp("kernel"))),
        RemoteBackend(Client(service.url, lambda: service.token)),
    )
    service.stop()


TABLE = pa.table({**{f"x{i}": X[:, i] for i in range(4)}, "size": SIZE, "kind": KIND})


class Rows(Dataset[Any]):
    def __len__(self) -> int:
        return N

    def __getitem__(self, place: int) -> Any:
        return X[place], {"size": SIZE[place], "kind": int(MASK[place].sum())}


WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "a dict of arrays": ("dict", {"data": X, "target": {"size": SIZE, "kind": KIND}}),
    "a tuple of arrays": ("tuple", {"data": X, "target": (SIZE, np.unique(KIND, return_inverse=True)[1])}),
    "columns": ("dict", {"data": TABLE, "target": ["size", "kind"], "loss": {"kind": "cross_entropy"}}),
    "labels at positions": ("mask", {"data": X, "target": {"size": SIZE, "kind": KIND, "mask": MASK}}),
    "a task each": ("tuple", {"data": X, "target": (MASK.sum(1), MASK.sum(1)), "task": "y1=regression"}),
    "a pair": ("dict", {"data": (X, {"size": SIZE, "kind": KIND}), "loss_weights": {"size": 0.5}}),
    "held-out rows": (
        "dict",
        {
            "data": X[:40],
            "target": {"size": SIZE[:40], "kind": KIND[:40]},
            "validation": (X[40:], {"size": SIZE[40:], "kind": KIND[40:]}),
        },
    ),
    "a loader": ("dict", {"data": DataLoader(Rows(), batch_size=20)}),
}


@pytest.mark.parametrize("way", WAYS)
def test_several_targets_are_learnt_by_a_service_as_in_a_kernel(
    both: tuple[LocalBackend, RemoteBackend], way: str
) -> None:
    form, given = WAYS[way]
    found = []
    name = f"m-{list(WAYS).index(way)}"
    for backend in both:
        torch.manual_seed(0)
        here = given
        if way == "a loader" and backend is both[0]:  # a service gets its rows, not its batches
            here = {"data": X, "target": {"size": SIZE, "kind": MASK.sum(1)}}
        request = TrainRequest(name=name, model=Net(form), epochs=4, lr=0.05, batch_size=20, **here)
        found.append(backend.submit(request).result(600))
    one, two = found
    assert one.history["loss"] == pytest.approx(two.history["loss"], rel=1e-4)
    assert one.info.target == two.info.target and one.info.head_classes == two.info.head_classes
    assert one.info.signature == two.info.signature
    rows = TABLE.drop_columns(["size", "kind"]) if way == "columns" else X
    answers = [backend.predict(PredictRequest(model=name, data=rows)).columns for backend in both]
    assert answers[0].keys() == answers[1].keys() >= {*one.info.target}
    for column, values in answers[0].items():
        here, there = np.asarray(values), np.asarray(answers[1][column])
        assert here.tolist() == there.tolist() if here.dtype.kind in "Oiu" else here == pytest.approx(there, abs=1e-4)


def test_a_model_of_several_targets_is_scored_and_exported_by_a_service(
    both: tuple[LocalBackend, RemoteBackend],
) -> None:
    _, remote = both
    request = TrainRequest(name="s", data=X, target={"size": SIZE, "kind": KIND}, model=Net(), epochs=4)
    remote.submit(request).result(600)
    first = remote.submit(EvaluateRequest(model="s", data=X, target={"size": SIZE, "kind": KIND})).result(600)
    assert {"size_rmse", "kind_accuracy"} <= first.values.keys()
    for data, target in (
        (X, {"kind": KIND, "size": SIZE}),
        (X, (SIZE, KIND)),
        ((X, {"size": SIZE, "kind": KIND}), None),
        ((X, (SIZE, KIND)), None),
    ):
        found = remote.submit(EvaluateRequest(model="s", data=data, target=target)).result(600)
        assert found.values == first.values
    assert remote.submit(ExportRequest(model="s")).result(600).verification.max_abs_diff < 1e-4
    with pytest.raises(DataError, match="The data has one target; those learnt are size, kind"):
        remote.submit(EvaluateRequest(model="s", data=X, target=SIZE)).result(600)


def test_a_service_looks_at_every_part_of_what_is_sent(tmp_path: Path) -> None:
    lost = Uploaded("0" * 64)
    service = Service(tmp_path)
    try:
        for given, status in (
            ({"data": (lost, {"a": lost, "b": lost})}, 400),
            ({"data": ("/etc/hosts", {"a": lost})}, 403),
        ):
            request = TrainRequest(name="t", model="mlp", target="a", **given)
            headers = {"authorization": f"Bearer {service.token}", "content-type": "application/msgpack"}
            answer = httpx2.post(f"{service.url}/maas/v1/jobs", content=encode_request(request), headers=headers)
            assert answer.status_code == status, answer.text
    finally:
        service.stop()
