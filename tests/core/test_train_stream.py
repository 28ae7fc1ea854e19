"""A file that memory does not hold trains as one that it does: the same figures, the same answers, little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import torch

from maas_magics.api.errors import DataError, MaasError, OptionError, Stopped, Suspended
from maas_magics.api.events import Resumed, Started
from maas_magics.api.requests import TrainRequest, specs_of
from maas_magics.api.specs import DataSpec
from maas_magics.api.wire import decode_request, encode_request
from maas_magics.core.batches import streaming
from maas_magics.core.batches.batches import InMemory
from maas_magics.core.batches.layout import layout_of
from maas_magics.core.batches.prepare import prepare
from maas_magics.core.batches.rows import read
from maas_magics.core.batches.streaming import Sizes, Stream
from maas_magics.core.context import Context
from maas_magics.core.data.reservoir import Reservoir, draws
from maas_magics.core.data.sources import open_source
from maas_magics.core.data.stream import StreamSource, write_stream
from maas_magics.core.features.processor import Processor
from maas_magics.core.features.scaling import Scaling
from maas_magics.core.training.counting import Counting
from maas_magics.core.training.train import train

SMALL = Sizes(chunk=2_000, sample=10**7, sample_rows=10**6, block=1_000, window=3)
ROWS = 3_000


@pytest.fixture
def table(rng: np.random.Generator) -> pd.DataFrame:
    """Columns of every kind, of use and of none, and targets of every task."""
    n = ROWS
    size = rng.lognormal(3, 2, n)
    table = pd.DataFrame(
        {
            "size": np.where(rng.random(n) < 0.1, np.nan, size),
            "count": rng.integers(0, 1000, n),
            "flag": rng.random(n) < 0.3,
            "kind": pd.Series(rng.choice(["p", "q", "r", "s"], n, p=[0.5, 0.3, 0.199, 0.001])).mask(
                rng.random(n) < 0.1
            ),
            "when": pd.Series(
                pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900_000, n), unit="min")
            ).mask(rng.random(n) < 0.05),
            "day": pd.Series(pd.date_range("1990-01-01", periods=n).strftime("%Y-%m-%d")).mask(rng.random(n) < 0.2),
            "late": ["2020-01-01"] * (n - 1) + ["no date"],
            "id": [f"row {i}" for i in range(n)],
            "constant": 7,
            "nothing": pd.Series([None] * n, dtype=object),
        }
    )
    table["label"] = np.where(table["count"] + 200 * rng.normal(size=n) > 500, "yes", "no")
    table["grade"] = rng.integers(1, 6, n)
    table["price"] = np.log(size) + rng.normal(size=n)
    table["other"] = rng.normal(size=n) * 10
    table["a"], table["b"] = rng.integers(0, 2, n), rng.integers(0, 2, n)
    return table


TARGETS: list[Any] = ["label", "grade", "price", "count", "flag", ("a", "b"), ("price", "other")]


def files(table: pd.DataFrame, folder: Path) -> dict[str, Path]:
    """The same rows in files of each kind."""
    made = {kind: folder / f"rows.{kind}" for kind in ("parquet", "feather", "csv")}
    table.to_parquet(made["parquet"], row_group_size=700)
    pyarrow.feather.write_feather(table, str(made["feather"]), chunksize=400)
    table.to_csv(made["csv"], index=False)
    folder = made["folder"] = folder / "many"
    folder.mkdir()
    for i in range(0, len(table), 1100):
        table[i : i + 1100].to_parquet(folder / f"part{i:05}.parquet")
    return made


def streamed(data: Any, sizes: Sizes = SMALL, **options: Any) -> Stream:
    asked = specs_of(TrainRequest(name="m", data=str(data), **options))
    source: Any = open_source(str(data))
    how = asked.data, asked.model.model, asked.task.loss, asked.optimizer.seed
    return Stream(*how, source, asked.task.task, lambda text: told.append(text), sizes=sizes)


told: list[str] = []

UNWEIGHTED = Counting(None, None)


@pytest.fixture(autouse=True)
def empty() -> None:
    told.clear()


@pytest.mark.parametrize(
    ("target", "model"),
    [*((target, "mlp") for target in TARGETS), *((target, torch.nn.LazyLinear(1)) for target in ("label", "price"))],
    ids=lambda value: value if isinstance(value, str) else "flat" if isinstance(value, torch.nn.Module) else str(value),
)
def test_what_is_fitted_is_what_memory_fits(target: Any, model: Any, table: pd.DataFrame, tmp_path: Path) -> None:
    file = files(table, tmp_path)["parquet"]
    said: list[str] = []
    rows, _, names, array = read(DataSpec(data=str(file), target=target, validation=0.0), 0, None, said.append)
    expected = prepare(
        rows, None, names, layout=layout_of(model, rows.table, array)[1], scale=True, task=None, standardise=lambda head: True,
        notify=said.append,
    )  # fmt: skip
    found = streamed(file, target=target, model=model, validation=0.0)
    got = found.prepared
    assert_alike(got.processor, expected.processor)
    assert sorted(told) == sorted(said) and len(told) >= 2
    for name in ("center", "scale", "usual"):
        assert getattr(got.answers, name) == pytest.approx(getattr(expected.answers, name), rel=1e-9)
    plain = {"center": (), "scale": (), "usual": ()}
    assert msgspec.structs.replace(got.answers, **plain) == msgspec.structs.replace(expected.answers, **plain)
    # In memory the rows were put in random order by the split; the same rows are there.
    assert found.rows == len(rows)
    for mine, theirs in zip(got.train[0], expected.train[0], strict=True):
        assert torch.allclose(mine.double().sum(0), theirs.double().sum(0), rtol=1e-4, atol=1e-2)


def assert_alike(one: Processor, other: Processor) -> None:
    """The same but for the rounding of sums."""
    plain = [[msgspec.structs.replace(f, **UNSCALED.get(f.joins, {})) for f in p.features] for p in (one, other)]
    assert plain[0] == plain[1] and (one.layout, one.clip, one.indicators) == (
        other.layout,
        other.clip,
        other.indicators,
    )
    for mine, theirs in zip(one.numbers, other.numbers, strict=True):
        for name in ("fill", "center", "scale"):
            assert getattr(mine.scaling, name) == pytest.approx(getattr(theirs.scaling, name), rel=1e-9, abs=1e-12)


UNSCALED: dict[str, dict[str, Any]] = {"numbers": {"scaling": Scaling()}, "": {"scaling": None}}


@pytest.mark.parametrize("kind", ["feather", "csv", "folder"])
def test_files_of_every_kind_are_understood_alike(kind: str, table: pd.DataFrame, tmp_path: Path) -> None:
    made = files(table.drop(columns="nothing"), tmp_path)
    one, other = streamed(made["parquet"], target="label"), streamed(made[kind], target="label")
    assert (one.rows, one.held) == (other.rows, other.held)
    assert_alike(one.prepared.processor, other.prepared.processor)


def test_how_many_rows_come_at_a_time_changes_nothing(table: pd.DataFrame, tmp_path: Path) -> None:
    file = files(table, tmp_path)["parquet"]
    few = Sizes(chunk=5_000, sample_rows=1_000)
    one, other = streamed(file, few, target="label"), streamed(file, Sizes(sample_rows=1_000), target="label")
    assert (one.rows, one.held) == (other.rows, other.held) and 0.1 < one.held / ROWS < 0.2
    assert one.rows + one.held == ROWS and len(one.prepared.train[1]) == 1_000
    assert one.prepared.sample.equals(other.prepared.sample)
    assert_alike(one.prepared.processor, other.prepared.processor)
    assert one.prepared.counts is not None and one.prepared.counts.sum() == one.rows
    assert all(torch.allclose(a, b) for a, b in zip(one.prepared.train[0], other.prepared.train[0], strict=True))
    with (
        one.written(one.prepared, tmp_path, 32, torch.device("cpu"), UNWEIGHTED) as (train, held),
        other.written(other.prepared, tmp_path, 32, torch.device("cpu"), UNWEIGHTED) as (train2, held2),
    ):
        assert held is not None and held2 is not None
        for a, b in ((train, train2), (held, held2)):
            assert torch.equal(torch.cat([t for _, t in a.whole()]), torch.cat([t for _, t in b.whole()]))


def test_the_rows_on_disk_are_the_rows_of_the_file(table: pd.DataFrame, tmp_path: Path) -> None:
    stream = streamed(files(table, tmp_path)["parquet"], target="price", model="linear")
    answers = stream.prepared.answers
    with stream.written(stream.prepared, tmp_path / "new", 64, torch.device("cpu"), UNWEIGHTED) as (train, held):
        assert held is not None and train.rows + held.rows == ROWS
        both = torch.cat([t for rows in (train, held) for _, t in rows.whole()])[:, 0].double()
        found = np.sort((both * answers.scale[0] + answers.center[0]).numpy())
        assert found == pytest.approx(np.sort(table["price"].to_numpy()), abs=1e-4)
        once = torch.cat([t for _, t in train.epoch(torch.Generator())])
        assert torch.equal(once.sort(0).values, torch.cat([t for _, t in train.whole()]).sort(0).values)


@pytest.mark.parametrize("model", ["mlp", "tabm", "linear"])
def test_from_one_window_the_weights_are_those_of_memory_to_the_bit(
    model: str, lab: Any, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows, once from disk and once as tensors of all of them."""
    file = files(table, tmp_path)["parquet"]
    lab.train(str(file), "label", model=model, epochs=2, stream=True)
    expected = lab.net().state_dict()
    plain = streaming.Blocks

    def in_memory(spill: Any, size: int, device: Any, block: int, window: int, making: Any = None) -> InMemory:
        parts = list(plain(spill, size, device, block, window).whole())
        inputs = tuple(torch.cat(values) for values in zip(*(inputs for inputs, _ in parts), strict=True))
        return InMemory(inputs, torch.cat([target for _, target in parts]), size)

    monkeypatch.setattr(streaming, "Blocks", in_memory)
    lab.train(str(file), "label", model=model, epochs=2, stream=True)
    found = lab.net().state_dict()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_it_learns_as_well_from_many_windows_of_a_sorted_file(
    lab: Any, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sorted.parquet"
    table.sort_values("label").to_parquet(file)
    plain = streaming.Stream.__init__
    monkeypatch.setattr(
        streaming.Stream, "__init__", lambda self, *given, **named: plain(self, *given, **named, sizes=SMALL)
    )
    blocks = lab.train(str(file), "label", epochs=20, stream=True)
    memory = lab.train(str(file), "label", epochs=20, stream=False)
    assert blocks.info.metrics["accuracy"] > memory.info.metrics["accuracy"] - 0.05


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_a_streamed_model_answers_and_is_measured_as_any(
    lab: Any, target: Any, table: pd.DataFrame, tmp_path: Path
) -> None:
    file = files(table, tmp_path)["parquet"]
    made = lab.train(str(file), target, stream=True)
    assert "streamed from disk" in lab.messages[0]
    started = next(event for event in lab.last.events(follow=False) if isinstance(event, Started))
    assert ROWS * 0.8 < started.samples < ROWS * 0.9
    if target in ("label", "price"):
        assert lab.export().path
    from_file, from_frame = lab.evaluate(str(file)), lab.evaluate(table)
    assert from_file.rows == from_frame.rows == ROWS
    assert from_file.values == pytest.approx(from_frame.values, rel=1e-6)
    assert len(lab.predict(table)) == ROWS and made.info.lineage["data"].startswith("sha256:")


def test_rows_that_were_sent_to_a_service_are_streamed_there(lab: Any, table: pd.DataFrame, tmp_path: Path) -> None:
    with open(tmp_path / "sent", "wb") as out:
        write_stream(open_source(table.drop(columns="nothing")), out)
    sent = StreamSource(tmp_path / "sent", arrays=False)
    made = lab.train(sent, "label", stream=True)
    assert "streamed" in lab.messages[0]
    assert lab.evaluate(sent).values == pytest.approx(lab.evaluate(table).values)
    request = TrainRequest(name="m", data="rows.parquet", target="label", stream=True)
    assert decode_request(encode_request(request)) == request and made.info.task == "binary"


def test_a_module_of_the_users_is_streamed_to(lab: Any, table: pd.DataFrame, tmp_path: Path) -> None:
    file = files(table, tmp_path)["parquet"]
    two = lab.train(str(file), "label", model=lambda inputs, outputs: torch.nn.Linear(inputs, 2), stream=True)
    assert two.info.task == "multiclass" and two.info.classes == ("no", "yes")


def test_pictures_are_streamed(lab: Any, rng: np.random.Generator, tmp_path: Path) -> None:
    pictures = rng.integers(0, 255, (300, 12, 12), dtype=np.uint8)
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(pictures)
    file = tmp_path / "pictures.parquet"
    pq.write_table(pa.table({"x": column, "y": (pictures.mean((1, 2)) > 127).astype(int)}), file)
    streams = [lab.train(str(file), "y", model="auto", stream=stream, validation=0.0) for stream in (True, False)]
    assert [made.info.architecture for made in streams] == ["cnn", "cnn"]
    ours, theirs = (lab.session.backend.loader.predictor(f"m:{version}") for version in (1, 2))
    assert_alike(ours.processor, theirs.processor)
    assert lab.predict({"x": pictures}) is not None


def test_the_first_row_of_a_label_is_always_trained_on(tmp_path: Path, rng: np.random.Generator) -> None:
    n = 400
    table = pd.DataFrame({"x": rng.normal(size=n), "y": [f"label {i % 2}" for i in range(n)]})
    seed = 11
    held = np.flatnonzero(draws(0, n, seed, streaming.SPLIT) < 0.15)
    table.loc[held[0], "y"] = "rare"
    table.to_parquet(tmp_path / "t.parquet")
    stream = streamed(tmp_path / "t.parquet", target="y", seed=seed)
    assert stream.prepared.answers.classes == ("label 0", "label 1", "rare")
    assert stream.prepared.counts is not None and stream.prepared.counts[2] == 1
    assert stream.held == len(held) - 1


def test_balanced_weights_count_all_rows(lab: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    n = 1_000
    y = np.where(np.arange(n) < 30, "rare", "usual")
    pd.DataFrame({"x": rng.normal(size=n), "y": y}).to_parquet(tmp_path / "t.parquet")
    few = streamed(tmp_path / "t.parquet", Sizes(sample=1, sample_rows=1), target="y", validation=0.0)
    assert few.prepared.counts is not None and few.prepared.counts.tolist() == [30, 970]
    lab.train(str(tmp_path / "t.parquet"), "y", class_weights="balanced", stream=True)


def test_types_of_a_csv_file_that_turn_out_wider_are_read_anew(lab: Any, tmp_path: Path) -> None:
    n = 150_000  # the first megabyte tells whole numbers only
    table = pd.DataFrame({"number": np.arange(n) % 100, "code": np.arange(n) % 5, "y": np.arange(n) % 3})
    table["number"] = table["number"].astype(object)
    table.loc[n - 1, "number"] = 0.5
    table["code"], table["y"] = table["code"].astype(object), table["y"].astype(object)
    table.loc[n - 20 :, "code"], table.loc[n - 20 :, "y"] = "x", "z"
    table.to_csv(tmp_path / "t.csv", index=False)
    stream = streamed(tmp_path / "t.csv", Sizes(chunk=100_000), target="y", model="linear")
    assert stream.prepared.answers.classes == ("0", "1", "2", "z")
    kinds = {column.name: column for column in stream.prepared.processor.features}
    assert kinds["code"].values == ("0", "1", "2", "3", "4", "x")  # type: ignore[union-attr]
    with stream.written(stream.prepared, tmp_path, 32, torch.device("cpu"), UNWEIGHTED) as (train, held):
        assert held is not None and train.rows + held.rows == n
    lab.train(str(tmp_path / "t.csv"), "y", stream=True)
    assert lab.evaluate(str(tmp_path / "t.csv")).rows == n


def test_validation_rows_of_their_own(lab: Any, table: pd.DataFrame, tmp_path: Path) -> None:
    file = files(table, tmp_path)["parquet"]
    for held in (str(file), table, (table.drop(columns="label"), table["label"])):
        made = lab.train(str(file), "label", stream=True, validation=held)
        assert made.info.metrics == pytest.approx(
            lab.evaluate(str(file), metrics=()).values | {"loss": made.info.metrics["loss"]}
        )
    with pytest.raises(DataError, match="no column 'label'"):
        lab.train(str(file), "label", stream=True, validation=table.drop(columns="label"))


def test_size_decides_where_nothing_is_said(
    lab: Any, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = files(table, tmp_path)
    for kind in ("parquet", "csv", "feather", "folder"):
        size = open_source(str(made[kind])).size()
        exact = open_source(str(made[kind])).table().nbytes
        assert 0.3 < size / exact < 3
        monkeypatch.setattr(streaming, "free_memory", lambda free=size * 5.01: free)
        lab.train(str(made[kind]), "label")
        assert "streamed" not in " ".join(lab.messages)
        monkeypatch.setattr(streaming, "free_memory", lambda free=size * 4.99: free)
        lab.train(str(made[kind]), "label")
        assert "streamed" in lab.messages[0]
        lab.train(str(made[kind]), "label", stream=False)
        assert "streamed" not in " ".join(lab.messages)
    lab.train(str(made["parquet"]), "label", stream=None)
    lab.train(table, "label")
    assert "streamed" not in " ".join(lab.messages)


@pytest.mark.parametrize(
    ("change", "said", "hint"),
    [
        ({"data": {"x": [1.0, 2.0], "y": [0, 1]}}, "Only files are streamed", "Give a path"),
        ({"target": np.zeros(ROWS)}, "is a column of them", "--target COLUMN"),
        ({"target": None}, "No target was named", "size, count"),
        ({"target": "lable"}, "no column 'lable'", "'label'"),
        ({"target": "nothing"}, "missing in every row", "Give rows"),
        ({"target": "constant"}, "one class only", "two classes"),
        ({"target": "id", "task": "regression"}, "holds text", "multiclass"),
        ({"model": "cnn"}, "image-shaped", "tabm"),
        ({"validation": 1.5}, "cannot be held out", "0.2"),
        ({"stream": "yes"}, "True, False or None", "stream=True"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_streamed_says_why(
    change: dict[str, Any], said: str, hint: str, lab: Any, table: pd.DataFrame, tmp_path: Path
) -> None:
    options = {"data": str(files(table, tmp_path)["parquet"]), "target": "label", "stream": True} | change
    with pytest.raises(MaasError, match=said) as caught:
        lab.train(options.pop("data"), options.pop("target"), **options)
    assert hint in caught.value.hint and not lab.session.model_names()
    assert (
        not isinstance(caught.value, OptionError) or "stream" in str(change) or "target" in change or "data" in change
    )


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values_anywhere_are_refused(value: float, lab: Any, tmp_path: Path) -> None:
    table = pd.DataFrame({"x": np.arange(5_000.0), "y": np.arange(5_000) % 2})
    table.loc[4_900, "x"] = value
    table.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="Column 'x' holds 1 infinite value"):
        lab.train(str(tmp_path / "t.parquet"), "y", stream=True)


@pytest.mark.parametrize("damage", ["short", "middle", "no file", "empty"])
def test_a_file_that_cannot_be_read_says_so(damage: str, lab: Any, table: pd.DataFrame, tmp_path: Path) -> None:
    file = files(table, tmp_path)["parquet"]
    data = file.read_bytes()
    broken = {
        "short": data[: len(data) // 2],
        "middle": data[:2_000] + bytes(60_000) + data[62_000:],
        "empty": b"",
    }
    if damage == "no file":
        file.unlink()
    else:
        file.write_bytes(broken[damage])
    with pytest.raises(DataError, match="cannot be read|There is no file"):
        lab.train(str(file), "label", stream=True)
    assert not lab.session.model_names()


def test_a_file_that_changes_meanwhile_is_told(table: pd.DataFrame, tmp_path: Path) -> None:
    file = files(table, tmp_path)["parquet"]
    stream = streamed(file, target="label")
    table[:-10].to_parquet(tmp_path / "new.parquet")
    os.replace(tmp_path / "new.parquet", file)
    with (
        pytest.raises(DataError, match="changed while it was read|cannot be read"),
        stream.written(stream.prepared, tmp_path, 32, torch.device("cpu"), UNWEIGHTED),
    ):
        pass


def _room(store: Path) -> int:
    """Open files below the store that have no name, which hold room on the disk."""
    links = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
    targets = [os.readlink(link) for link in links if link.is_symlink()]
    return sum(str(store) in target and target.endswith("(deleted)") for target in targets)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("end", ["success", "failure", "stop", "hard stop", "refused"])
def test_nothing_is_left_on_the_disk(end: str, lab: Any, table: pd.DataFrame, tmp_path: Path, store: Path) -> None:
    file = files(table, tmp_path)["parquet"]
    seen: list[int] = []

    def loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.append(_room(store))
        if seen.count(6) == 5:
            if end == "failure":
                raise RuntimeError("as wanted")
            for _ in range({"stop": 1, "hard stop": 2}.get(end, 0)):
                lab.last.stop()
        return torch.nn.functional.binary_cross_entropy_with_logits(outputs, target)

    options = {"metrics": ("no_such",)} if end == "refused" else {}
    job = lab.start(str(file), "label", epochs=3, task="binary", loss=loss, stream=True, **options)
    wrong = {"failure": RuntimeError, "hard stop": Stopped, "refused": OptionError}
    if end in wrong:
        with pytest.raises(wrong[end]):
            job.result()
    else:
        assert job.result().stopped is (end == "stop")
    assert set(seen) <= {0, 6}  # before, where the loss is tried, and three tensors each of training and held-out rows
    assert 6 in seen or end == "refused"
    assert _room(store) == 0


def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(lab: Any, table: pd.DataFrame, tmp_path: Path) -> None:
    """The rows are read and encoded anew, the epoch goes on where it stood."""
    backend = lab.session.backend
    file = files(table, tmp_path)["parquet"]
    request = TrainRequest(name="m", data=str(file), target="label", model="mlp", epochs=2, stream=True, batch_size=50)
    events: list[Any] = []

    def run(folder: str, calls: int) -> dict[str, torch.Tensor]:
        left = iter(range(calls))
        context = Context(
            backend.models,
            backend.loader,
            events.append,
            lambda: "" if next(left, None) is not None else "suspend",
            checkpoints=tmp_path / folder,
        )
        ref = train(request, context).info
        return backend.loader.model(ref.name, ref.version).net.state_dict()

    whole = run("whole", 10_000)
    for calls in (30, 70):
        with pytest.raises(Suspended):
            run("cut", calls)
    events.clear()
    assert all(torch.equal(value, whole[name]) for name, value in run("cut", 10_000).items())
    resumed = next(event for event in events if isinstance(event, Resumed))
    assert resumed.epoch == 2 and resumed.step % 51


LIMITED = """
import resource, sys
from maas_magics.api.errors import StoreError
from maas_magics.api.requests import TrainRequest
from maas_magics.session import Session

session = Session(sys.argv[2], notify=lambda text: None)
session.backend
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from maas_magics.api.specs import DataSpec
from maas_magics.core.training.counting import Counting
from maas_magics.core.batches.streaming import Stream, streamed_source
import torch, pathlib
data = DataSpec(data=sys.argv[1], target="label", stream=True)
stream = Stream(data, "auto", "auto", 0, streamed_source(data, print), None, print)
try:
    with stream.written(stream.prepared, pathlib.Path(sys.argv[2]), 32, torch.device("cpu"), Counting(None, None)):
        print("written")
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits a file's size")
def test_a_disk_that_is_full_half_way_is_told(table: pd.DataFrame, tmp_path: Path) -> None:
    file = files(table, tmp_path)["parquet"]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(file), str(tmp_path / "store")], capture_output=True, text=True
    )
    assert "The rows cannot be written to disk: File too large.\nMake room there" in done.stdout, done.stderr


MEASURED = """
import json, resource, sys
from maas_magics.api.requests import TrainRequest
from maas_magics.session import Session

session = Session(sys.argv[1], notify=lambda text: None)
peaks = []
for file in sys.argv[2:]:
    session.run(TrainRequest(name="m", data=file, target="y", model="linear", batch_size=8192, epochs=1, stream=True))
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
print(json.dumps(peaks))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="asks for the peak of a process")
def test_memory_does_not_grow_with_the_file(tmp_path: Path, rng: np.random.Generator) -> None:
    """Twelve times the rows, 300 MB of them, take no more memory than a fraction of them; in memory it is five times."""
    group, columns = 100_000, 18

    def make(name: str, groups: int) -> str:
        values = rng.standard_normal((group, columns))
        part = pa.table({f"c{i}": values[:, i] for i in range(columns)} | {"y": values[:, 0] + values[:, 1]})
        with pq.ParquetWriter(tmp_path / name, part.schema, use_dictionary=False) as writer:
            for _ in range(groups):
                writer.write_table(part)
        return str(tmp_path / name)

    small, large = make("small.parquet", 2), make("large.parquet", 20)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "store"), small, large],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert not done.returncode, done.stderr
    peaks = json.loads(done.stdout.splitlines()[-1])
    assert peaks[1] - peaks[0] < os.path.getsize(large) / 3


def test_a_reservoir_is_the_same_sample_however_its_rows_come() -> None:
    drawn = draws(0, 5_000, 1, 2)
    assert abs(drawn.mean() - 0.5) < 0.02 and len(set(drawn)) == 5_000
    assert not np.array_equal(drawn, draws(0, 5_000, 1, 3)) and not np.array_equal(drawn, draws(0, 5_000, 2, 2))
    assert np.array_equal(drawn[1_000:1_100], draws(1_000, 100, 1, 2))
    whole = pa.table({"i": np.arange(5_000)})
    samples = []
    for size in (1, 7, 640, 5_000):
        reservoir = Reservoir(100)
        for start in range(0, 5_000, size):
            reservoir.add(whole.slice(start, size), drawn[start : start + size])
        samples.append(reservoir.table())
    expected = np.sort(np.argsort(drawn)[:100])
    assert all(sample is not None and sample.column("i").to_pylist() == expected.tolist() for sample in samples)
