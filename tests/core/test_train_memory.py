"""Batches as large as memory takes, and steps that are taken in parts where it is too small."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from maas_magics.api.errors import Diverged, MaasError, OptionError
from maas_magics.api.events import Started
from maas_magics.core.batches.accumulate import GradientAccumulation
from maas_magics.core.batches.batches import InMemory
from maas_magics.core.batches.blocks import Blocks, Spill, TensorLayout
from maas_magics.core.tasks.multiclass import Multiclass
from maas_magics.core.training import assemble
from maas_magics.core.training.checkpoint import Checkpoints
from maas_magics.core.training.loop import fit
from maas_magics.core.training.measure import outputs_in_parts
from maas_magics.core.training.plan import Plan, TrainingHistory
from maas_magics.core.training.steps.lr_schedule import ProgressSchedule
from maas_magics.core.training.steps.optimizers import Optimizer
from maas_magics.core.training.steps.out_of_memory import MicroBatching, is_out_of_memory
from maas_magics.core.training.steps.schedules import constant
from maas_magics.core.training.steps.step_config import StepConfig
from maas_magics.core.training.tuning import batch_size
from maas_magics.core.training.tuning.batch_size import BatchSizeResult, find_batch_size

pytestmark = pytest.mark.usefixtures("unexported")

TOO_MUCH = 2**60
"""Bytes that no machine gives."""


class Hungry(nn.Module):
    """A network that asks for more memory than there is when it gets more than so many rows."""

    def __init__(self, limit: int = 10**9, patient: int = 0, extra: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.extra, self.last = nn.Linear(6, 12), extra or nn.Identity(), nn.Linear(12, 3)
        self.limit, self.patient, self.calls = limit, patient, 0
        self.failed: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if len(x) > self.limit and self.calls > self.patient:
            self.failed.append(len(x))
            torch.empty(TOO_MUCH, dtype=torch.uint8)
        return self.last(self.extra(self.first(x)).tanh())


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(1)
    return torch.randn(960, 6, generator=made), torch.randint(0, 3, (960,), generator=made)


def regime_of(net: nn.Module, **more: Any) -> StepConfig:
    optimizer = Optimizer(net, "Adam", 0.01, None, {})
    return StepConfig(net, optimizer, ProgressSchedule(optimizer, constant, 1), **more)


def found(net: nn.Module, rows: tuple[Tensor, Tensor], usual: int = 16, **more: Any) -> BatchSizeResult:
    batches = InMemory((rows[0],), rows[1], usual)
    options = {"threads": lambda size: nullcontext(), "stopping": lambda: "", **more}
    return find_batch_size(regime_of(net), functional.cross_entropy, batches, **options)


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speed is no reason to end, whatever this machine does meanwhile."""
    monkeypatch.setattr(batch_size, "SLOWER", 0.0)
    monkeypatch.setattr(batch_size, "FALLEN", 0.0)
    monkeypatch.setattr(batch_size, "SECONDS", 0.0)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
)
def test_a_lack_of_memory_is_told_from_other_failures(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_what_this_machine_says_is_known() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(TOO_MUCH, dtype=torch.uint8)
    assert is_out_of_memory(error.value)


@pytest.mark.parametrize("limit", [100, 97, 5, 1])
def test_the_largest_batch_that_fits_is_found_to_an_eighth(
    rows: tuple[Tensor, Tensor], faster: None, limit: int
) -> None:
    net = Hungry(limit)
    made = found(net, rows)
    assert limit - max(1, limit // 8) <= made.size <= limit
    assert "do not fit into memory" in made.reason
    assert min(net.failed) > limit


def test_an_epoch_keeps_eight_steps(rows: tuple[Tensor, Tensor], faster: None) -> None:
    assert found(Hungry(), rows) == BatchSizeResult(120, "an epoch has 8 steps")
    assert found(Hungry(), rows, group=4).size == 30
    assert found(Hungry(), rows, usual=500).size == 500


def test_a_larger_batch_that_is_slower_is_not_taken(
    rows: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = {16: 100.0, 32: 150.0, 64: 148.0, 120: 90.0}
    monkeypatch.setattr(batch_size._Trials, "_speed", lambda self, inputs, target: speeds[len(target)])
    assert found(Hungry(), rows) == BatchSizeResult(64, "120 are 0.61 × as fast")


def test_not_even_one_row_is_an_error(rows: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(MaasError, match="Not even one row fits into memory: .*allocate memory"):
        found(Hungry(0), rows)


def test_bytes_of_a_step_are_counted_where_the_system_would_kill(rows: tuple[Tensor, Tensor], faster: None) -> None:
    wide = nn.Sequential(nn.Linear(12, 4000), nn.Tanh(), nn.Linear(4000, 12))
    free = 4_000_000  # a row takes three times 16 kB at least: outputs, their tanh, a gradient
    net = Hungry(extra=wide)
    made = found(net, rows, usual=4, free=lambda: free)
    assert 4 <= made.size <= 0.8 * free / (2 * 4 * 4000)
    assert "would take" in made.reason
    assert not net.failed
    with batch_size._Counted() as counted:
        kept = torch.zeros(1000)
        for _ in range(3):
            torch.zeros(500).add_(kept[:500])
    assert counted.most == 4 * 1500


def test_rows_on_disk_are_tried_as_well(tmp_path: Path, rows: tuple[Tensor, Tensor], faster: None) -> None:
    with Spill(
        tmp_path, [TensorLayout(torch.float32, torch.float32, (6,)), TensorLayout(torch.int64, torch.int64, ())]
    ) as spill:
        spill.append(rows)
        batches = Blocks(spill, 16, torch.device("cpu"), block=50, window=2)
        made = find_batch_size(
            regime_of(Hungry(60)),
            functional.cross_entropy,
            batches,
            threads=lambda size: nullcontext(),
            stopping=lambda: "",
        )
        again = batches.sized(made.size)
        assert 53 <= made.size <= 60 and again.batch_size == made.size
        order = torch.Generator().manual_seed(0)
        assert sum(len(target) for _, target in again.epoch(order)) == len(rows[1])


def test_the_search_leaves_nothing_behind(rows: tuple[Tensor, Tensor], faster: None) -> None:
    net = Hungry(70, extra=nn.Sequential(nn.BatchNorm1d(12), nn.Dropout(0.5)))
    before, drawn = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    found(net, rows)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    assert torch.equal(drawn, torch.get_rng_state())


def test_somebody_who_wants_an_end_gets_it(rows: tuple[Tensor, Tensor], faster: None) -> None:
    assert found(Hungry(), rows, stopping=lambda: "soft").size == 16


# --- a whole training ---


def started(lab: Any) -> Started:
    return next(event for event in lab.last.events(follow=False) if isinstance(event, Started))


def test_a_training_takes_what_was_found_and_tells_why(lab: Any, rows: tuple[Tensor, Tensor], faster: None) -> None:
    x, y = (values.numpy() for values in rows)
    lab.train(x, y, model=Hungry(50), batch_size="auto")
    summary = started(lab).summary["batch size"]
    size, found_as = summary.split(", found: ")
    assert 43 <= int(size) <= 50 and "do not fit into memory" in found_as
    assert not [text for text in lab.messages if "parts" in text]


def test_going_on_takes_the_batch_size_that_was_found_before(
    lab: Any, rows: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = (values.numpy() for values in rows)
    given: dict[str, Any] = {"model": "linear", "patience": 0, "schedule": "constant"}
    sizes = iter([24, 48])
    monkeypatch.setattr(assemble, "find_batch_size", lambda *a, **k: BatchSizeResult(next(sizes), "told"))
    lab.train(x, y, batch_size="auto", epochs=2, **given)
    more = lab.train(x, y, resume=True, batch_size="auto", epochs=4, **given)
    assert started(lab).summary["batch size"] == "24"
    whole = lab.train(x, y, name="whole", batch_size=24, epochs=4, **given)
    assert more.history == whole.history
    assert next(sizes) == 48, "it was not asked again"


def test_going_on_keeps_what_the_fast_way_was(
    lab: Any, rows: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    from maas_magics.core.training.tuning import fast

    x, y = (values.numpy() for values in rows)
    given: dict[str, Any] = {"model": Hungry(), "patience": 0, "schedule": "constant", "compile": False, "threads": 1}
    choices = iter(["bf16"])
    monkeypatch.setattr(fast, "SHARE", 1e9)
    monkeypatch.setattr(fast, "_best", lambda found, usual: next(choices))
    torch.manual_seed(0)
    lab.train(x, y, fast="auto", epochs=2, **given)
    more = lab.train(x, y, resume=True, fast="auto", epochs=4, **given)
    assert started(lab).summary["precision"] == "bf16"
    assert "as before" in started(lab).summary["fast"]
    assert more.epochs == 4


def test_what_cannot_be_sized_is_refused(lab: Any, rows: tuple[Tensor, Tensor]) -> None:
    x, y = (values.numpy() for values in rows)
    with pytest.raises(OptionError, match="batch size is 'many'; a number was expected"):
        lab.train(x, y, batch_size="many")
    with pytest.raises(OptionError, match="epochs is 'auto'; a number was expected"):
        lab.train(x, y, epochs="auto")
    with pytest.raises(OptionError, match="not on a loader's"):
        lab.train(torch.utils.data.TensorDataset(*rows), model=Hungry(), batch_size="auto")
    assert not lab.session.backend.models.list()


# --- steps in parts ---

ANSWERS = Multiclass(("y",), (0, 1, 2))


def trained(
    net: nn.Module, rows: tuple[Tensor, Tensor], *, group: int = 1, folder: Path | None = None, **more: Any
) -> tuple[TrainingHistory, list[str]]:
    """Three epochs in batches of 64; and what was told of memory."""
    torch.manual_seed(5)
    told: list[str] = []
    regime = regime_of(net, division=MicroBatching(notify=told.append), grouped=group > 1)
    regime = replace(regime, **more)
    batches: Any = InMemory((rows[0],), rows[1], 64)
    plan = Plan(functional.cross_entropy, ANSWERS, {}, "loss", "min", 3, 0, constant, 2, regime)
    held = InMemory((rows[0][:200],), rows[1][:200], 64)
    checkpoints = Checkpoints(folder, "3") if folder is not None else None
    batches = GradientAccumulation(batches, group) if group > 1 else batches
    history = fit(net, regime.optimizer, batches, held, plan, lambda event: None, lambda: "", checkpoints)
    return history, told


def twins(**more: Any) -> tuple[Hungry, Hungry]:
    torch.manual_seed(0)
    whole = Hungry()
    parted = copy.deepcopy(whole)
    for name, value in more.items():
        setattr(parted, name, value)
    return whole, parted


@pytest.mark.parametrize(("limit", "parts"), [(40, 2), (20, 4), (1, 64)])
@pytest.mark.parametrize("group", [1, 2])
def test_a_step_that_does_not_fit_is_taken_in_parts(
    rows: tuple[Tensor, Tensor], limit: int, parts: int, group: int
) -> None:
    whole, parted = twins(limit=limit, patient=20)
    expected, none = trained(whole, rows, group=group)
    history, told = trained(parted, rows, group=group)
    assert not none
    assert len(told) == parts.bit_length() - 1 and f"in {parts} parts" in told[-1] and "allocate memory" in told[-1]
    assert history.curves["loss"] == pytest.approx(expected.curves["loss"], rel=1e-4)
    assert history.curves["val_loss"] == pytest.approx(expected.curves["val_loss"], rel=1e-4)
    assert parted.failed.count(64) <= 1 + 3 * 4, "what failed once is not tried in every step"


def test_parts_of_a_weighted_loss_count_what_they_weigh(lab: Any, rows: tuple[Tensor, Tensor]) -> None:
    x, y = (values.numpy() for values in rows)
    weights = {0: 1.0, 1: 7.0, 2: 0.1}
    torch.manual_seed(0)
    net = Hungry()
    given: dict[str, Any] = {"class_weights": weights, "batch_size": 64, "epochs": 3, "compile": False}
    whole = lab.train(x, y, model=copy.deepcopy(net), name="whole", **given)
    net.limit = 20
    parted = lab.train(x, y, model=net, name="parted", **given)
    assert [text for text in lab.messages if "in 4 parts" in text]
    assert parted.history["loss"] == pytest.approx(whole.history["loss"], rel=1e-4)


@pytest.mark.parametrize("more", [{"clip": 0.1}, {"clip": None}])
def test_parts_go_with_other_rules_and_over_a_resume(
    tmp_path: Path, rows: tuple[Tensor, Tensor], more: dict[str, Any]
) -> None:
    whole, parted = twins(limit=40, patient=20)
    other = copy.deepcopy(parted)
    trained(whole, rows, **more)
    expected, told = trained(parted, rows, folder=tmp_path / "one", **more)
    assert len(told) == 1

    state, _ = Checkpoints(tmp_path / "one").newest()
    assert state is not None and state["regime"]["parts"] == 2
    Checkpoints(tmp_path / "two").save({**state, "ended": True})
    resumed = regime_of(other, division=MicroBatching())
    resumed.load(state["regime"])
    assert resumed.division is not None and resumed.division.parts == 2
    assert expected.epochs == 3


def test_rows_that_do_not_fit_one_by_one_end_the_training(lab: Any, rows: tuple[Tensor, Tensor]) -> None:
    x, y = (values.numpy() for values in rows)
    with pytest.raises(MaasError, match="Not even 1 rows? at a time"):
        lab.train(x, y, model=Hungry(0, patient=5), compile=False)
    with pytest.raises(MaasError, match="Not even 2 rows at a time"):
        lab.train(x, y, model=Hungry(0, patient=5, extra=nn.BatchNorm1d(12)), batch_size=64)


def test_a_step_that_failed_in_its_update_is_not_taken_twice(
    lab: Any, rows: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = (values.numpy() for values in rows)
    updates: list[int] = []

    class Greedy(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            updates.append(1)
            if len(updates) > 3:
                torch.empty(TOO_MUCH, dtype=torch.uint8)
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "SGD", Greedy)
    with pytest.raises(MaasError, match="Memory is too small for the training: .*allocate memory") as error:
        lab.train(x, y, model=Hungry(), optimizer="SGD", lr=0.1)
    assert "--resume" in error.value.hint
    assert len(updates) == 4


def test_another_failure_is_passed_on(lab: Any, rows: tuple[Tensor, Tensor]) -> None:
    class Broken(Hungry):
        def forward(self, x: Tensor) -> Tensor:
            if self.training and torch.is_grad_enabled() and self.calls > 5:
                raise RuntimeError("the network is broken")
            return super().forward(x)

    with pytest.raises(Exception, match="the network is broken"):
        lab.train(rows[0].numpy(), rows[1].numpy(), model=Broken())


def test_figures_are_made_in_halves_where_memory_is_small(rows: tuple[Tensor, Tensor]) -> None:
    whole, parted = twins(limit=30)
    batches = InMemory((rows[0],), rows[1], 16)
    for inputs, _ in batches.whole():
        with torch.no_grad():
            expected, found = (outputs_in_parts(net.eval(), inputs) for net in (whole, parted))
        assert torch.allclose(found, expected, atol=1e-6)
    parted.limit = 0
    with pytest.raises(RuntimeError, match="allocate memory"):
        outputs_in_parts(parted, inputs)


# --- losses that stay on their device ---


@pytest.mark.parametrize("more", [{}, {"clip": 1.0}])
def test_losses_that_are_read_later_are_the_same(
    tmp_path: Path, rows: tuple[Tensor, Tensor], more: dict[str, Any]
) -> None:
    at_once, later = twins()
    expected, _ = trained(at_once, rows, **more)
    history, _ = trained(later, rows, deferred=True, folder=tmp_path, **more)
    assert history.curves == expected.curves
    assert all(
        torch.equal(a, b) for a, b in zip(at_once.state_dict().values(), later.state_dict().values(), strict=True)
    )


def test_a_step_waits_for_nothing(rows: tuple[Tensor, Tensor]) -> None:
    step = regime_of(Hungry(), deferred=True).step(functional.cross_entropy)
    loss = step((rows[0][:8],), rows[1][:8])
    assert isinstance(loss, Tensor) and not loss.requires_grad


@pytest.mark.parametrize("deferred", [True, False])
def test_divergence_names_its_step_however_late_it_is_read(rows: tuple[Tensor, Tensor], deferred: bool) -> None:
    calls: list[int] = []

    def loss(outputs: Tensor, target: Tensor) -> Tensor:
        calls.append(1)
        return functional.cross_entropy(outputs, target) * (float("nan") if len(calls) == 4 else 1.0)

    net = Hungry()
    regime = regime_of(net, deferred=deferred)
    plan = Plan(loss, ANSWERS, {}, "loss", "min", 1, 0, constant, 2, regime)
    with pytest.raises(Diverged, match="The loss became nan in epoch 1, step 4"):
        fit(net, regime.optimizer, InMemory((rows[0],), rows[1], 64), None, plan, lambda event: None, lambda: "")


def test_an_array_of_one_row_a_batch_works(lab: Any) -> None:
    lab.train(np.zeros((20, 2), np.float32), np.arange(20, dtype=np.float32) / 7, batch_size="auto")
    assert int(started(lab).summary["batch size"].split(",")[0]) >= 1
