"""A torch Dataset read by worker processes: the same rows, no process left, and trials that leave nothing behind."""

from __future__ import annotations

import copy
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    default_collate,
    get_worker_info,
)

from maas_magics.api.errors import DataError, MaasError, OptionError
from maas_magics.api.events import EpochEnd, Started
from maas_magics.core.batches import loader_errors
from maas_magics.core.batches.batches import FromLoader
from maas_magics.core.batches.from_dataset import FromDataset
from maas_magics.core.batches.loader_errors import death
from maas_magics.core.batches.loader_workers import Readers
from maas_magics.core.batches.loaders import tensors_of
from maas_magics.core.compat.loaders import end_workers
from maas_magics.core.training.steps.lr_schedule import make_lr_schedule
from maas_magics.core.training.steps.optimizers import Optimizer
from maas_magics.core.training.steps.step_config import StepConfig
from maas_magics.core.training.tuning import fast, loader_trials
from maas_magics.core.training.tuning.loader_trials import numbers, told

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.usefixtures("unexported"),
]

N = 70
CPU = torch.device("cpu")
made = np.random.default_rng(0)
X = made.normal(size=(N, 6)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)


class Noisy(Dataset):
    """Rows with noise of every generator that a dataset may draw from."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = torch.randn(6) + float(np.random.normal()) + random.random()
        return torch.from_numpy(X[index]) + 0.1 * noise, int(LABELS[index])


class Broken(Noisy):
    """One row cannot be read."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == 33:
            raise ValueError("not a picture")
        return super().__getitem__(index)


class Deadly(Noisy):
    """The system kills the worker that reads it, once some time has passed."""

    def __init__(self) -> None:
        self.reads = 0

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.reads += 1
        if get_worker_info() is not None and self.reads > 80:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


class Slow(Noisy):
    """Rows that are waited for."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        time.sleep(0.004)
        return super().__getitem__(index)


class Counting(Dataset):
    """Rows that depend on how many were read before, by this object."""

    def __init__(self) -> None:
        self.reads = 0

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.reads += 1
        return torch.from_numpy(X[index]) + self.reads / 1000, int(LABELS[index])


class Turning:
    """A sampler with a state of its own."""

    def __init__(self) -> None:
        self.turn = 0

    def __len__(self) -> int:
        return N

    def __iter__(self) -> Iterator[int]:
        self.turn += 1
        return iter([(self.turn * 31 + 7 * i) % N for i in range(N)])


class Stream(IterableDataset):
    """Rows one after another."""

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return ((torch.from_numpy(X[i]), int(LABELS[i])) for i in range(N))


def network(seed: int = 5) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 3))


def started(lab: Any) -> dict[str, str]:
    return next(event for event in lab.last.events(follow=False) if isinstance(event, Started)).summary


def weights(lab: Any) -> dict[str, Tensor]:
    return copy.deepcopy(lab.net().state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


def batches_of(dataset: Any, workers: int, size: int = 16) -> FromDataset:
    rows = torch.arange(len(dataset))
    return FromDataset(Readers((dataset,), default_collate, workers), 0, rows, size, lambda y: y, CPU)


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


# --- the same rows ---


@pytest.mark.parametrize("data", [Noisy(), Subset(Noisy(), range(5, 60))], ids=["dataset", "subset"])
def test_weights_are_the_same_whatever_the_number_of_workers(lab: Any, data: Any) -> None:
    found = []
    for workers in (None, 0, 1, 3):
        history = lab.train(data, model=network(), epochs=3, batch_size=8, loader_workers=workers).history
        found.append((history, weights(lab)))
    assert all(history == found[0][0] and same(state, found[0][1]) for history, state in found)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_at_any_batch_and_draws_anew_in_the_next(workers: int) -> None:
    batches, before = batches_of(Noisy(), workers), (torch.get_rng_state(), random.getstate(), np.random.get_state()[1])
    order = torch.Generator().manual_seed(1)
    whole = [x for (x,), _ in batches.epoch(order)]
    rest = [x for (x,), _ in batches.epoch(torch.Generator().manual_seed(1), start=3)]
    other = [x for (x,), _ in batches.epoch(order)]
    held = [[x for (x,), _ in batches.whole()] for _ in range(2)]
    batches.readers.close()
    assert len(whole) == batches.steps == 5
    assert [(a - b).abs().max().item() for a, b in zip(whole[3:], rest, strict=True)] == [0.0, 0.0]
    assert not any(torch.equal(a, b) for a, b in zip(whole, other, strict=True))
    assert torch.equal(torch.cat(held[0]), torch.cat(held[1]))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert np.array_equal(before[2], np.random.get_state()[1])


def test_a_last_batch_of_one_row_is_left_out() -> None:
    batches = batches_of(Noisy(), 0, 23)
    assert [len(y) for _, y in batches.epoch(torch.Generator())] == [23, 23, 23]
    assert sum(len(y) for _, y in batches.whole()) == N


def test_an_epoch_that_was_broken_off_leaves_nothing_in_the_next() -> None:
    batches = batches_of(Noisy(), 2)
    expected = [y for _, y in batches.epoch(torch.Generator().manual_seed(3))]
    cut = batches.epoch(torch.Generator().manual_seed(2))
    next(cut)
    found = [y for _, y in batches.epoch(torch.Generator().manual_seed(3))]
    batches.readers.close()
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_paused_training_goes_on_to_the_same_weights(lab: Any, workers: int) -> None:
    usual = {"model": network(), "epochs": 4, "batch_size": 8, "checkpoint_every": "3"}
    lab.train(Slow(), name="whole", **usual)
    job = lab.start(Slow(), loader_workers=workers, **(usual | {"model": network()}))
    for event in job.events():
        if isinstance(event, EpochEnd):
            job.pause()
            break
    while job.info.state != "paused":
        time.sleep(0.01)
    assert multiprocessing.active_children() == []
    job.resume()
    job.result()
    assert same(lab.net("whole").state_dict(), lab.net().state_dict())


def test_numbers_of_64_bits_are_taken_as_32(lab: Any) -> None:
    class Double(Noisy):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return torch.from_numpy(X[index]).double(), int(LABELS[index])

    for data in (Double(), DataLoader(Double(), 16)):
        assert lab.train(data, model=network(), epochs=1).history["loss"][0] > 0


def test_a_dataset_of_tensors_is_trained_on_in_memory(lab: Any) -> None:
    whole = TensorDataset(torch.from_numpy(X).double(), torch.from_numpy(LABELS))
    part = tensors_of(Subset(whole, [3, 1]))
    assert part is not None and torch.equal(part[1], whole.tensors[1][[3, 1]])
    assert tensors_of(Noisy()) is None
    lab.train(Subset(whole, range(N)), model=network(), epochs=1, fast="auto", compile=False)
    assert "it takes rows in memory" not in started(lab)["fast"]
    assert started(lab)["batch size"] == "32"


def test_an_architecture_by_name_gets_its_rows_through_workers(lab: Any) -> None:
    curves = [lab.train(Noisy(), epochs=2, loader_workers=workers).history for workers in (0, 2)]
    assert curves[0] == curves[1]


# --- failures ---


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (Broken(), {}),
        (Broken(), {"loader_workers": 2}),
        (DataLoader(Broken(), 16), {}),
        (DataLoader(Broken(), 16, num_workers=2), {}),
    ],
    ids=["here", "workers", "loader", "loader's workers"],
)
def test_an_error_of_a_dataset_is_told_in_a_sentence(lab: Any, data: Any, options: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"^Broken raised ValueError: not a picture \(__getitem__, line \d+") as error:
        lab.train(data, model=network(), **options)
    assert ("row 33" in error.value.message) == isinstance(data, Broken)
    assert error.value.hint == (
        "dataset[33] shows it." if isinstance(data, Broken) else "Iterate over it in a cell to see it."
    )
    assert lab.session.model_names() == []


def test_rows_of_different_shapes_are_an_error_of_the_dataset(lab: Any) -> None:
    class Ragged(Noisy):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return torch.ones(6 + index % 2), 0

    with pytest.raises(DataError, match="Ragged raised RuntimeError: stack expects each tensor to be equal size"):
        lab.train(Ragged(), model=network(), loader_workers=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "options"),
    [(Deadly(), {"loader_workers": 2}), (DataLoader(Deadly(), 16, num_workers=2, persistent_workers=True), {})],
    ids=["ours", "theirs"],
)
def test_a_worker_that_is_killed_ends_the_training_with_a_reason(lab: Any, data: Any, options: dict[str, Any]) -> None:
    list(DataLoader(Noisy(), 16, num_workers=1))  # from here on torch watches workers from this, the main thread
    with pytest.raises(DataError, match=r"ended by SIGKILL; most often memory has run out\.") as error:
        lab.train(data, model=network(), epochs=20, **options)
    assert "fewer workers" in error.value.hint
    assert lab.session.model_names() == []


@pytest.mark.parametrize("killed", [True, False])
def test_memory_that_a_killed_worker_shared_is_told_as_its_end(killed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_errors, "PATIENCE", 30.0 if killed else 0.1)
    workers = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    if killed:
        threading.Timer(0.5, workers[1].kill).start()
    try:
        for error in (EOFError(), ConnectionResetError("Connection reset by peer")):
            told = loader_errors.loader_error("The loader", error, workers).message
            assert ("ended by SIGKILL" if killed else type(error).__name__) in told
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


@pytest.mark.parametrize(
    ("codes", "said"),
    [([0, -7], "SIGBUS; most often shared memory"), ([-11], "compiled code"), ([3], "exit code 3"), ([], "by itself.")],
)
def test_what_the_end_of_a_worker_means(codes: list[int], said: str) -> None:
    assert said in death(codes).message


def test_stopping_keeps_the_best_epoch_and_ends_the_workers(lab: Any) -> None:
    job = lab.start(Slow(), model=network(), epochs=1000, loader_workers=2, patience=0)
    for event in job.events():
        if isinstance(event, EpochEnd):
            assert len(multiprocessing.active_children()) == 2
            job.stop()
            break
    assert job.result().stopped
    assert lab.session.model_names() == ["m"]


SCRIPT = """
import os, sys, time
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, get_worker_info
import maas_magics as maas

class Rows(Dataset):
    def __len__(self):
        return 40
    def __getitem__(self, index):
        if get_worker_info() is not None:
            open(f"{sys.argv[1]}/{os.getpid()}", "w").close()
            if sys.argv[2] == "hang" and len(os.listdir(sys.argv[1])) == 2:
                time.sleep(600)
        time.sleep(0.001)
        return torch.randn(6), index % 3

def told(event):
    if type(event).__name__ == "EpochEnd":
        print("epoch", flush=True)

data, options = (DataLoader(Rows(), 8, num_workers=2), {}) if sys.argv[3] == "theirs" else (Rows(), {"loader_workers": 2})
try:
    maas.train("m", data, model=nn.Linear(6, 3), epochs=100000, patience=0, callbacks=[told], **options)
except KeyboardInterrupt:
    print("interrupted", maas.models()[0].name, flush=True)
"""


def script(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    (tmp_path / "pids").mkdir()
    env = os.environ | {"MAAS_STORE": str(tmp_path / "store"), "MAAS_UI": "static", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "pids"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
    )


def gone(folder: Path) -> bool:
    """Whether every process that left its number in a folder has ended, within half a minute."""
    pids = [int(file.name) for file in folder.iterdir()]
    assert len(pids) >= 2
    for _ in range(300):
        if not any(_runs(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_ctrl_c_to_the_whole_group_keeps_the_best_epoch(tmp_path: Path, whose: str) -> None:
    with script(tmp_path, "go", whose) as running:
        assert running.stdout is not None
        assert any(line.startswith("epoch") for line in running.stdout)
        os.killpg(running.pid, signal.SIGINT)
        said, failed = running.communicate(timeout=120)
    assert "interrupted m" in said, failed
    assert gone(tmp_path / "pids")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_process_takes_workers_with_it_that_hang(tmp_path: Path) -> None:
    with script(tmp_path, "hang", "ours") as running:
        while len(list((tmp_path / "pids").iterdir())) < 2:
            assert running.poll() is None
            time.sleep(0.05)
        running.kill()
    assert gone(tmp_path / "pids")


# --- trials ---


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets trials run however short the training is, with a margin."""

    def set_up(margin: float) -> None:
        for module in (fast, loader_trials):
            monkeypatch.setattr(module, "SHARE", 1e9)
            monkeypatch.setattr(module, "MARGIN", margin)
        monkeypatch.setattr(fast, "MOST", 3)
        monkeypatch.setattr(loader_trials, "LONG", 0.0)
        monkeypatch.setattr(loader_trials, "STEP_SHARE", 0.0)
        monkeypatch.setattr(loader_trials, "cores", lambda: 2)

    return set_up


def with_generator() -> DataLoader[Any]:
    return DataLoader(Noisy(), 16, shuffle=True, generator=torch.Generator().manual_seed(9))


LOADERS: dict[str, Callable[[], Any]] = {
    "dataset": Noisy,
    "loader": lambda: DataLoader(Noisy(), 16, shuffle=True),
    "generator": with_generator,
    "sampler": lambda: DataLoader(Noisy(), 16, sampler=Turning()),
    "workers": lambda: DataLoader(Noisy(), 16, shuffle=True, num_workers=1, persistent_workers=True),
    "counting": lambda: DataLoader(Counting(), 16, shuffle=True),
}


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_trials_leave_the_training_as_it_is_to_the_bit(
    lab: Any, make: Callable[[], Any], trials: Callable[[float], None]
) -> None:
    found = []
    for options in ({}, {"fast": "auto"}):
        trials(float("inf"))
        random.seed(1)  # a loader of the user's draws from them in this process
        np.random.seed(1)
        data = make()
        history = lab.train(data, model=network(), epochs=2, **options).history
        found.append((history, weights(lab)))
        end_workers(getattr(data, "_iterator", None))  # workers that are to persist are the user's
    summary = started(lab)["fast"]
    assert "fp32 (bf16 " in summary
    assert found[0][0] == found[1][0]
    assert same(found[0][1], found[1][1])


def test_what_is_read_faster_is_used_and_told(
    lab: Any, trials: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    trials(1.1)
    monkeypatch.setattr(loader_trials._Trial, "step", lambda self: 0.001)  # whatever else this machine does
    monkeypatch.setattr(loader_trials._Trial, "_with", lambda self, batches, number: 0.03 / number)
    plain = lab.train(Slow(), model=network(), epochs=2, batch_size=8).history
    quick = lab.train(Slow(), model=network(), epochs=2, batch_size=8, fast="auto", precision="bf16", threads=1)
    assert started(lab)["fast"].startswith("2 loader workers (")
    assert len(quick.history["loss"]) == len(plain["loss"])
    lab.train(Slow(), model=network(), epochs=1, fast="auto", loader_workers=1, precision="bf16", threads=1)
    assert "loader worker" not in started(lab).get("fast", "")


@pytest.mark.parametrize(
    ("seconds", "number", "said"),
    [
        ({2: 1.5}, 0, "0 loader workers (2: 0.7×)"),
        ({2: 0.6, 4: 0.5, 8: 0.48}, 4, "4 loader workers (2.0×)"),
        ({2: 0.6, 4: 0.59}, 2, "2 loader workers (1.7×)"),
        ({2: 0.11}, 2, "2 loader workers (9.1×)"),
    ],
)
def test_the_number_follows_from_the_figures(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], number: int, said: str
) -> None:
    """Reading takes 0.95 s and a step 0.05 s, so a single worker cannot bring a tenth."""
    monkeypatch.setattr(loader_trials, "cores", lambda: 8)
    monkeypatch.setattr(loader_trials._Trial, "_with", lambda self, batches, number: seconds[number])
    net = network()
    optimizer = Optimizer(net, "Adam", 0.01, None, {})
    rates = make_lr_schedule(optimizer, "constant", {}, epochs=1, steps=9, warmup=0, mode="min")
    trial = loader_trials._Trial(
        StepConfig(net, optimizer, rates), nn.MSELoss(), loader_trials.Few([], 0.95), lambda: ""
    )
    batches = batches_of(Noisy(), 0)
    found = trial.choose(batches, 0.05, 10_000, 0.0)
    assert (found[0], found[2]) == (number, said)
    assert trial.choose(batches, 0.05, 10, 0.0)[2] == "0 loader workers (no time to try others)"
    assert trial.choose(batches, 9.9, 10_000, 0.0)[2] == "0 loader workers (the data takes 9% of a step)"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (Stream(), "an IterableDataset cannot be read ahead and put back"),
        (DataLoader(Stream(), 16), "an IterableDataset cannot be read ahead and put back"),
        (DataLoader(Noisy(), batch_sampler=[[0, 1], [2, 3]]), "the loader does not say how its batches are made"),
        (Noisy(), "the training is too short"),
    ],
)
def test_where_nothing_can_be_tried_it_says_so(lab: Any, data: Any, said: str) -> None:
    lab.train(data, model=network(), epochs=1, fast="auto")
    assert started(lab)["fast"] == f"nothing tried: {said}"


def test_numbers_of_workers_double_up_to_the_processors() -> None:
    assert [numbers(most) for most in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]
    assert told(2, {1: 1.2, 2: 1.84}) == "2 loader workers (1.8×)"
    assert told(1, {1: 1.2, 2: 1.1}) == "1 loader worker (1.2×)"
    assert told(0, {2: 0.7}) == "0 loader workers (2: 0.7×)"


# --- what makes no sense ---


@pytest.mark.parametrize(
    ("data", "workers", "said", "hint"),
    [
        (Noisy(), -1, "loader workers is -1; at least 0 was expected.", "--loader-workers 0"),
        (DataLoader(Noisy(), 16), 2, "A DataLoader has workers of its own.", "num_workers=2"),
        (Stream(), 2, "would read all rows of an IterableDataset", "Drop --loader-workers"),
        (TensorDataset(torch.ones(9, 6), torch.ones(9)), 2, "these rows need none", "Drop --loader-workers."),
        ((X, LABELS), 2, "these rows need none", "Drop --loader-workers."),
    ],
)
def test_workers_that_would_have_nothing_to_read_are_refused(
    lab: Any, data: Any, workers: int, said: str, hint: str
) -> None:
    with pytest.raises(OptionError) as error:
        lab.train(data, model=network(), loader_workers=workers)
    assert said in error.value.message
    assert hint in error.value.hint
    assert lab.session.model_names() == []


def test_a_dataset_of_the_notebook_cannot_go_to_workers_that_are_started_anew(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maas_magics.core.batches.loader_workers.context", lambda: None)
    monkeypatch.setattr(Noisy, "__module__", "__main__")
    with pytest.raises(MaasError, match="cannot see Noisy of the notebook"):
        lab.train(Noisy(), model=network(), loader_workers=2)


def test_a_loader_that_is_tried_on_is_read_in_its_own_way() -> None:
    def collate(items: list[Any]) -> list[Tensor]:
        x, y = default_collate(items)
        return [10 * x, y]

    batches = FromLoader(DataLoader(Noisy(), 16, collate_fn=collate), lambda y: y, CPU, pace=1.0)
    few = loader_trials.few_batches(batches, 1000)
    assert not isinstance(few, str)
    assert few.rows[0][0][0].abs().mean() > 3
