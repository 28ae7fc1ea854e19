"""A training on several processes: the weights of one process, its events, its end, whatever becomes of a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Lab
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from maas_magics.api.errors import Diverged, MaasError, ModelError, OptionError, Stopped, Suspended, TrainingError
from maas_magics.api.events import CheckpointSaved, EpochEnd, Event, Finished, Message, Resumed, Started, Step
from maas_magics.api.requests import TrainRequest
from maas_magics.core.context import Context
from maas_magics.core.inference.loader import Loader
from maas_magics.core.store.models import Store
from maas_magics.core.training.distributed import agent
from maas_magics.core.training.train import train

pytestmark = pytest.mark.usefixtures("unexported")

rng = np.random.default_rng(0)
X = rng.normal(size=(403, 6)).astype(np.float32)
Y = (X[:, 0] - 2 * X[:, 1] + np.sin(3 * X[:, 2])).astype(np.float32)
LABELS = np.where(X[:, 0] + X[:, 1] > 0.3, "a", np.where(X[:, 2] > 0, "b", "c"))
LONG = 100_000

linux = pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")


class Asked(nn.Module):
    """A module with a part that tracing cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else self.layer(-x)


def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 1))


def own_loss(outputs: Tensor, target: Tensor) -> Tensor:
    return (outputs.reshape(-1) - target.reshape(-1)).abs().pow(1.5).mean()


def own_metric(decoded: Tensor, target: Tensor) -> float:
    return float((decoded - target).abs().max())


CASES: dict[str, dict[str, Any]] = {
    "own loss and metric, one row in the last batch": {
        "target": Y,
        "model": net(),
        "loss": own_loss,
        "metrics": (own_metric,),
        "validation": (X[:60], Y[:60]),
        "batch_size": 6,
    },
    "by name, class weights": {
        "target": LABELS,
        "model": "mlp",
        "params": {"dropout": 0.0},
        "class_weights": "balanced",
        "batch_size": 37,
        "optimizer": "Adam",
    },
    "nothing held out, not by the weight, a last batch too small for three": {
        "target": Y,
        "model": net(),
        "optimizer": "Adafactor",
        "weight_decay": 0.1,
        "freeze": ("0.*",),
        "unfreeze": {"0.weight": 3},
        "lr_of": {"2.*": 3e-3},
        "validation": 0.0,
        "schedule": "cosine",
        "batch_size": 67,  # 403 rows: six batches, and one row that a seventh has
        "workers": 3,
    },
}


def weights(lab: Lab, name: str) -> dict[str, Tensor]:
    return lab.net(name).state_dict()


def near(one: dict[str, Tensor], other: dict[str, Tensor], most: float = 1e-5) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=most, rtol=0.0)


@pytest.mark.parametrize("case", CASES)
def test_several_processes_learn_what_one_does(case: str, lab: Lab) -> None:
    options = {"epochs": 3, "seed": 3, **CASES[case]}
    size = options.pop("workers", 2)
    one = lab.train(X, name="one", **options)
    told_by_one = list(lab.last.events(follow=False))
    several = lab.train(X, name="several", workers=size, **options)
    told = list(lab.last.events(follow=False))
    near(weights(lab, "one"), weights(lab, "several"))
    assert several.epochs == one.epochs and several.best_epoch == one.best_epoch
    assert several.history.keys() == one.history.keys()
    for name, values in one.history.items():
        assert several.history[name] == pytest.approx(values, abs=1e-5, rel=1e-5)
    ends, ends_of_one = ([e for e in found if isinstance(e, EpochEnd)] for found in (told, told_by_one))
    assert [(e.epoch, e.step, e.samples, e.best) for e in ends] == [
        (e.epoch, e.step, e.samples, e.best) for e in ends_of_one
    ]
    started = next(e for e in told if isinstance(e, Started))
    assert started.summary["workers"] == f"{size} processes"
    assert [e.seq for e in told] == list(range(1, len(told) + 1))
    assert lab.predict(X[:5], "several") is not None


def test_a_cell_that_tracing_cannot_follow_is_run_in_the_workers(cell: Callable[[str], Any]) -> None:
    cell("import numpy as np; X = np.random.default_rng(0).normal(size=(80, 6)).astype('float32'); y = X[:, 0]")
    source = """import torch
class Asked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(inputs, outputs)
    def forward(self, x):
        return self.layer(x) if float(x.sum()) > -1e9 else self.layer(-x)
torch.manual_seed(0)
Asked()"""
    one = cell(f"%%train one --data X y --epochs 2\n{source}")
    two = cell(f"%%train two --data X y --epochs 2 --workers 2\n{source}")
    assert two.info.metrics == pytest.approx(one.info.metrics, abs=1e-5)


# --- stop and suspend ---


def until(job: Any, kind: type[Event], count: int = 1) -> Event:
    """The event of a kind that came as the ``count``-th."""
    for event in job.events():
        if isinstance(event, kind):
            count -= 1
            if not count:
                return event
        assert not isinstance(event, Finished), event
    raise AssertionError


def test_stop_keeps_the_best_epoch_and_batch_statistics_had_two_rows_in_every_worker(lab: Lab) -> None:
    normed = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))
    options = {"batch_size": 20, "validation": 0.0, "patience": 0}  # three rows at the end of an epoch
    job = lab.start(X[:63], Y[:63], model=normed, epochs=LONG, workers=2, **options)
    until(job, EpochEnd, 3)
    if sys.platform == "linux":
        listening = addresses(workers().values())
        loopback = ("0100007F:", "00000000000000000000000001000000:", "0000000000000000FFFF00000100007F:")
        assert listening and all(address.startswith(loopback) for address in listening)
    job.stop()
    result = job.result(60)
    assert result.stopped and 3 <= result.epochs < LONG and job.info.state == "stopped"
    assert torch.isfinite(weights(lab, "m")["1.running_mean"]).all()
    assert lab.predict(X[:3]) is not None


def test_stopped_twice_before_an_epoch_is_done_nothing_is_kept(lab: Lab) -> None:
    slow = nn.Sequential(nn.Linear(6, 1500), *(nn.Linear(1500, 1500) for _ in range(3)), nn.Linear(1500, 1))
    job = lab.start(np.tile(X, (60, 1)), np.tile(Y, 60), model=slow, epochs=2, batch_size=256, workers=2)
    until(job, Step)
    job.stop()
    job.stop()
    with pytest.raises(Stopped):
        job.result(120)


class Kept:
    """A training with a folder for its checkpoints, as a service's worker runs it."""

    def __init__(self, store: Path, **options: Any) -> None:
        self.store, self.folder = Store(str(store)), store.parent / "checkpoints"
        self.request = TrainRequest(**{"name": "m", "data": X, "target": Y, "model": net()} | options)
        self.events: list[Event] = []

    def run(self, stopping: Callable[[], Any] = lambda: "") -> Any:
        context = Context(self.store, Loader(self.store), self.events.append, stopping, checkpoints=self.folder)
        return train(self.request, context)

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def test_suspended_in_mid_training_and_gone_on_with_it_ends_the_same(store: Path) -> None:
    """Another process says how it stands with shards; see `test_suspended_shards_go_on_exactly`."""
    options: dict[str, Any] = {"epochs": 12, "schedule": "one-cycle"}
    kept = Kept(store, workers=2, **options)
    with pytest.raises(Suspended):
        kept.run(lambda: "suspend" if len(kept.of(EpochEnd)) >= 2 else "")
    assert isinstance(kept.events[-1], CheckpointSaved)
    result = kept.run()
    assert kept.of(Resumed)[0].step == kept.of(CheckpointSaved)[0].step
    expected = Kept(store.parent / "alone" / "store", **options).run()
    assert result.history["loss"] == pytest.approx(expected.history["loss"], abs=1e-5)
    assert result.epochs == expected.epochs == 12


def test_what_was_told_before_a_state_is_written_down_before_it(store: Path) -> None:
    """Else a process that is killed between the two leaves a state whose epochs nobody has heard of."""
    kept = Kept(store, workers=2, epochs=4, schedule="constant", batch_size=64, checkpoint_every="5")
    told: list[int] = []

    def written() -> None:
        if not told:
            assert not list(kept.folder.glob("checkpoint-*")), "the state was there first"
        told.append(len(kept.events))

    context = Context(
        kept.store, Loader(kept.store), kept.events.append, lambda: "", checkpoints=kept.folder, written=written
    )
    train(kept.request, context)
    saved = [place for place, event in enumerate(kept.events) if isinstance(event, CheckpointSaved)]
    assert len(saved) == len(told) >= 4
    for place, before in zip(saved, told, strict=True):
        assert not any(isinstance(event, EpochEnd) for event in kept.events[before:place])


# --- death ---


def workers() -> dict[int, int]:
    """Process ids of the workers of this process by rank, and of those it left behind."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes()
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
            env = dict(part.partition(b"=")[::2] for part in (place / "environ").read_bytes().split(b"\0"))
        except OSError:
            continue
        if b"training.distributed" in line and state != "Z" and env.get(b"MARK") == os.environ["MARK"].encode():
            found[int(env[b"RANK"])] = int(place.name)
    return found


def addresses(pids: Iterable[int]) -> list[str]:
    """Where some processes listen, as the kernel writes it."""
    inodes = set()
    for pid in pids:
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                if (target := os.readlink(handle)).startswith("socket:["):
                    inodes.add(target[8:-1])
    lines = [
        line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]
    ]
    return [fields[1] for fields in lines if fields[3] == "0A" and fields[9] in inodes]


@pytest.fixture(autouse=True)
def marked(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """No worker outlives its training."""
    monkeypatch.setenv("MARK", f"{os.getpid()}-{request.node.name}")
    yield
    if sys.platform == "linux":
        assert not gone()


def gone(patience: float = 20.0) -> dict[int, int]:
    """Workers that are still there after a while."""
    until = time.monotonic() + patience
    while (left := workers()) and time.monotonic() < until:
        time.sleep(0.1)
    return left


@linux
def test_a_killed_worker_costs_nothing_but_time(lab: Lab) -> None:
    """The first one; `test_train_workers_asked` kills the second."""
    options = {"target": Y, "model": net(), "epochs": 30, "batch_size": 16, "schedule": "cosine"}
    lab.train(X, name="one", **options)
    killed = Killing(0)
    job = lab.start(X, name="two", workers=2, metrics=(killed,), checkpoint_every="40", **options)
    result = job.result(120)
    warnings = [e.text for e in job.events(follow=False) if isinstance(e, Message) and e.level == "warning"]
    assert len(warnings) == 1 and "Worker process 0 died (signal 9)" in warnings[0]
    assert any(isinstance(e, Resumed) for e in job.events(follow=False))
    assert result.epochs == 30
    near(weights(lab, "one"), weights(lab, "two"))


class Killing:
    """A metric that kills a worker when it is asked for the eighth time; it runs in the job's own process."""

    __name__ = "killing"

    def __init__(self, rank: int) -> None:
        self.rank, self.calls = rank, 0

    def __call__(self, decoded: Tensor, target: Tensor) -> float:
        self.calls += 1
        if self.calls == 8:
            os.kill(workers()[self.rank], signal.SIGKILL)
        return 0.0


@linux
def test_workers_that_die_again_and_again_are_given_up(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "RESTARTS", 1)

    def deadly(outputs: Tensor, target: Tensor) -> float:
        for pid in workers().values():
            os.kill(pid, signal.SIGKILL)
        return 0.0

    job = lab.start(X, Y, model=net(), epochs=LONG, metrics=(deadly,), workers=2)
    with pytest.raises(TrainingError, match=r"died \(signal 9\) 2 times"):
        job.result(180)
    assert len(lab.messages) == 1
    assert not any(lab.session.backend.models.list())


@linux
def test_workers_end_with_the_process_that_asked_for_them(store: Path) -> None:
    code = f"""
import numpy as np
from maas_magics.api.requests import TrainRequest
from maas_magics.local.backend import LocalBackend
X = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
job = LocalBackend({str(store)!r}).submit(
    TrainRequest(name="m", data=X, target=X[:, 0], model="linear", epochs={LONG}, workers=2))
for event in job.events():
    if type(event).__name__ == "EpochEnd":
        print("training", flush=True)
        break
job.result()
"""
    asking = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert asking.stdout is not None and asking.stdout.readline() == "training\n"
    assert set(workers()) == {0, 1}
    asking.kill()
    asking.wait()
    asking.stdout.close()
    assert not gone()
    assert not list((store / "tmp").iterdir())


# --- what goes wrong ---


def test_a_loss_that_is_no_number_ends_the_job_once(lab: Lab) -> None:
    with pytest.raises(Diverged, match="epoch"):
        lab.train(X, Y * 1e18, model=net(), lr=1e15, optimizer="SGD", epochs=50, workers=2)
    assert not lab.messages


def test_an_error_of_the_users_metric_is_the_users(lab: Lab) -> None:
    def wrong(outputs: Tensor, target: Tensor) -> float:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        lab.train(X, Y, model=net(), metrics=(wrong,), workers=2)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"workers": 0}, "workers is 0; at least 1"),
        ({"workers": 9, "batch_size": 8}, "A step has 8 rows, too few for 9 workers"),
        ({"shard": True}, "there is one"),
        ({"workers": 2, "shard": True, "optimizer": "LBFGS"}, "LBFGS looks at several weights at once"),
        ({"workers": 2, "device": "cuda:7"}, "There is no device|takes a GPU of its own"),
    ],
)
def test_what_cannot_be_shared_is_refused_before_anything_starts(
    options: dict[str, Any], told: str, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maas_magics.core.training.run.fit_in_workers", lambda *_: pytest.fail("started"))
    with pytest.raises(OptionError, match=told) as caught:
        lab.train(X, Y, model=net(), **options)
    assert caught.value.hint
    assert not any(isinstance(e, Started) for e in lab.last.events(follow=False))


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: DataLoader(rows, 16)], ids=["dataset", "loader"])
def test_a_loader_is_refused(wrap: Callable[[Any], Any], lab: Lab) -> None:
    rows = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)[:, None])
    with pytest.raises(OptionError, match="cannot be shared between workers"):
        lab.train(wrap(rows), model=net(), workers=2)


def test_a_module_that_tracing_cannot_follow_is_refused(lab: Lab) -> None:
    with pytest.raises(ModelError, match="The module cannot go to workers"):
        lab.train(X, Y, model=Asked(), workers=2)


def test_a_loss_that_tracing_cannot_follow_is_refused(lab: Lab) -> None:
    def asks(outputs: Tensor, target: Tensor) -> Tensor:
        return (outputs - target).square().mean() if outputs.sum() > 0 else outputs.square().mean()

    with pytest.raises(MaasError, match="The loss cannot go to workers"):
        lab.train(X, Y, model=net(), loss=asks, workers=2)


def test_workers_go_on_where_workers_ended(lab: Lab, store: Path) -> None:
    same = {"target": Y, "model": net(), "schedule": "StepLR", "schedule_params": {"step_size": 2}, "patience": 0}
    lab.train(X, name="one", epochs=4, **same)
    lab.train(X, name="two", epochs=2, workers=2, checkpoint_every="3", **same)
    assert not list((store / "tmp").iterdir())
    found = lab.train(X, name="two", epochs=4, workers=2, resume=True, **same)
    assert found.ref == "two:2" and found.epochs == 4
    near(weights(lab, "one"), weights(lab, "two"))
