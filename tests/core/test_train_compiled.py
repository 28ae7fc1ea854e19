"""Compiled steps do what plain ones do, and a training that cannot have them goes on without."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from maas_magics.api.events import Message
from maas_magics.core.batches.batches import InMemory
from maas_magics.core.tasks.multiclass import Multiclass
from maas_magics.core.training.compiling import compiled as compiling
from maas_magics.core.training.compiling import compiler
from maas_magics.core.training.compiling.compiled import Compiled, FusedBatch, GroupStep, why_not
from maas_magics.core.training.compiling.compiler import CannotCompile, Compilation, find_compiler
from maas_magics.core.training.compiling.group_graph import Untraceable, trace
from maas_magics.core.training.loop import fit
from maas_magics.core.training.plan import Plan, TrainingHistory
from maas_magics.core.training.steps.ema import EMA
from maas_magics.core.training.steps.lr_schedule import ProgressSchedule, make_lr_schedule
from maas_magics.core.training.steps.optimizers import Optimizer
from maas_magics.core.training.steps.precision import Precision
from maas_magics.core.training.steps.schedules import constant
from maas_magics.core.training.steps.step_config import StepConfig

pytestmark = pytest.mark.usefixtures("unexported")

BATCH, SEED, RATE = 8, 3, 0.01
CPU = torch.device("cpu")


def has_compiler() -> bool:
    try:
        return bool(find_compiler())
    except CannotCompile:
        return False


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")


class Net(nn.Module):
    """Batch statistics, a frozen parameter, and a weight that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8)
        self.second, self.third, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.third.weight = self.second.weight
        self.last.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.third(self.second(self.norm(self.first(x)).relu()).tanh()))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One cache for all tests of a run: what one has compiled another may find."""
    place = tmp_path_factory.getbasetemp() / "compiled"
    monkeypatch.setattr(compiler, "cache", lambda: place.mkdir(exist_ok=True) or place)
    return place


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(1)
    return torch.randn(60, 6, generator=made), torch.randint(0, 3, (60,), generator=made)


def made(net: nn.Module, name: str = "Adam", schedule: str = "constant", total: int = 100, **params: Any) -> StepConfig:
    net.train()
    optimizer = Optimizer(net, name, RATE, params.pop("weight_decay", None), params)
    rates = make_lr_schedule(optimizer, schedule, {}, epochs=1, steps=total, warmup=0, mode="min")
    return StepConfig(net, optimizer, rates)


def seeded(kind: Callable[[], nn.Module] = Net) -> nn.Module:
    torch.manual_seed(SEED)
    return kind()


def graph_step(
    regime: StepConfig, rows: tuple[Tensor, Tensor], steps: int = 2, loss: Any = functional.cross_entropy
) -> GroupStep:
    """The steps of a graph as torch's interpreter runs them: what is compiled, without the compiler."""
    few = steps * BATCH
    autocast = regime.precision.autocast if regime.precision is not None else None
    group = trace(regime.net, regime.optimizer, loss, (rows[0][:few],), rows[1][:few], steps, autocast)
    return GroupStep(group, lambda given: list(group.graph(*given)), regime)


def pieces(rows: tuple[Tensor, Tensor], steps: int) -> Iterator[tuple[tuple[Tensor], Tensor]]:
    for start in range(0, 48, steps * BATCH):
        yield (rows[0][start : start + steps * BATCH],), rows[1][start : start + steps * BATCH]


def eager(regime: StepConfig, rows: tuple[Tensor, Tensor], rounds: int, start: int = 0) -> list[float]:
    step, losses, at = regime.step(functional.cross_entropy), [], start
    for _ in range(rounds):
        for inputs, target in pieces(rows, 1):
            if regime.rates.before is not None:
                regime.rates.before(at)
            losses.append(step(inputs, target))
            at += 1
    return losses


def same(one: nn.Module, other: nn.Module, rtol: float = 1e-4) -> None:
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("schedule", ["constant", "cosine", "OneCycleLR"])
@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("Adam", {}),
        ("Adam", {"weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-6}),
        ("AdamW", {"weight_decay": 0.1}),
        ("SGD", {}),
        ("SGD", {"momentum": 0.9, "weight_decay": 0.01}),
        ("SGD", {"momentum": 0.9, "nesterov": True}),
        ("SGD", {"momentum": 0.9, "dampening": 0.5}),
    ],
)
def test_a_graph_of_steps_is_the_steps(
    rows: tuple[Tensor, Tensor], name: str, params: dict[str, Any], schedule: str
) -> None:
    if schedule == "OneCycleLR" and (name, params.get("momentum")) == ("SGD", None):
        pytest.skip("it moves a momentum that there is none of")
    net = seeded()
    twin = copy.deepcopy(net)
    one, other = made(net, name, schedule, **params), made(twin, name, schedule, **params)
    eager(one, rows, 1), eager(other, rows, 1)
    begun = copy.deepcopy(net.state_dict())
    expected = eager(one, rows, 4, start=6)
    step, losses, at = graph_step(other, rows), [], 6
    for _ in range(4):
        for inputs, target in pieces(rows, 2):
            mean = step(inputs, target, at)
            losses += step.losses
            assert mean == pytest.approx(sum(step.losses) / 2)
            at += 2
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-6)
    same(net, twin)
    assert (net.first.weight - begun["first.weight"]).abs().max() > 1e-3
    assert torch.equal(net.last.bias, begun["last.bias"])
    assert one.optimizer.lr == other.optimizer.lr
    # Plain steps go on from compiled ones: the optimizer's count and moments are torch's own.
    torch.testing.assert_close(eager(one, rows, 1, start=at), eager(other, rows, 1, start=at), rtol=1e-4, atol=1e-6)


def test_tracing_leaves_network_and_random_numbers_as_they_are(rows: tuple[Tensor, Tensor]) -> None:
    net = seeded(lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 3)))
    regime = made(net)
    eager(regime, rows, 1)
    before, drawn = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    step = graph_step(regime, rows)
    assert torch.equal(drawn, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    step((rows[0][:16],), rows[1][:16])
    assert not torch.equal(drawn, torch.get_rng_state())


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: Odd(lambda x: x * (1 if random.random() < 2 else 2)), "Python"),
        (lambda: Odd(lambda x: x * float(np.random.rand() > -1)), "numpy"),
        (lambda: Odd(lambda x: x if x.sum() > 0 else -x), "data-dependent|unbacked|symbol|item"),
    ],
)
def test_a_network_that_no_graph_can_be_is_refused(rows: tuple[Tensor, Tensor], build: Any, told: str) -> None:
    regime = made(seeded(build))
    eager(regime, rows, 1)
    with pytest.raises(Untraceable, match=told):
        graph_step(regime, rows)


class Odd(nn.Module):
    def __init__(self, twist: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.line, self.twist = nn.Linear(6, 3), twist

    def forward(self, x: Tensor) -> Tensor:
        return self.line(self.twist(x))


@pytest.mark.parametrize(("name", "params"), [("RMSprop", {}), ("Adam", {"amsgrad": True}), ("LBFGS", {})])
def test_other_optimizers_have_no_graph(rows: tuple[Tensor, Tensor], name: str, params: dict[str, Any]) -> None:
    regime = made(seeded(), name, **params)
    eager(regime, rows, 1)
    with pytest.raises(Untraceable, match=name):
        graph_step(regime, rows)


def test_bf16_is_in_the_graph(rows: tuple[Tensor, Tensor]) -> None:
    net = seeded()
    twin = copy.deepcopy(net)
    one, other = (made(n) for n in (net, twin))
    object.__setattr__(one, "precision", Precision("bf16", CPU))
    object.__setattr__(other, "precision", Precision("bf16", CPU))
    eager(one, rows, 1), eager(other, rows, 1)
    step = graph_step(other, rows)
    losses = [loss for inputs, target in pieces(rows, 2) for _ in [step(inputs, target)] for loss in step.losses]
    torch.testing.assert_close(losses, eager(one, rows, 1), rtol=5e-2, atol=1e-2)
    assert losses != eager(made(copy.deepcopy(net)), rows, 1)


# --- with a compiler ---


def training(
    net: nn.Module,
    rows: tuple[Tensor, Tensor],
    epochs: int,
    *,
    compile: bool = True,
    shape: Callable[[float], float] = constant,
    heard: list[str] | None = None,
    ema: float | None = None,
) -> tuple[TrainingHistory, list[str], list[int]]:
    """A training of the loop whose compiled steps begin as soon as there is a graph."""
    regime = made(net)
    average = EMA(regime.optimizer, ema) if ema is not None else None
    regime = replace(regime, rates=ProgressSchedule(regime.optimizer, shape, epochs * 8), average=average)
    batches = InMemory((rows[0],), rows[1], BATCH)
    told: list[str] = []
    sizes: list[int] = []
    loss = functional.cross_entropy

    class Waiting(Compiled):
        def epoch(self, generator: torch.Generator) -> Iterator[Any]:
            for item in super().epoch(generator):
                sizes.append(item[0].group.steps if type(item[0]) is FusedBatch else 1)
                yield item
                self.wait()

    made_steps = Waiting(batches, regime, loss, lambda text, level: told.append(text), epochs * 8) if compile else None
    plan = Plan(loss, Multiclass(("y",), (0, 1, 2)), {}, "loss", "min", epochs, 0, constant, SEED, regime, made_steps)

    def hear(event: Any) -> None:
        if heard is not None and isinstance(event, Message):
            heard.append(event.text)

    torch.manual_seed(SEED)
    try:
        history = fit(net, regime.optimizer, batches, None, plan, hear, lambda: "")
    finally:
        if made_steps is not None:
            made_steps.close()
    return history, told, sizes


@pytest.fixture
def eager_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the training is, and however slow the machine."""
    monkeypatch.setattr(compiling, "WORTH_TRACING", 0.0)
    monkeypatch.setattr(compiling, "CALM", -1e9)
    monkeypatch.setattr(compiling, "PROBED", 3)
    monkeypatch.setattr(compiling, "GAIN", 0.0)
    monkeypatch.setattr(compiling, "MOST_STEPS", 2)
    monkeypatch.setattr(compiling, "LONG_STEP", 1e9)
    monkeypatch.setattr(compiling, "MOST_NODES", 10_000)


@needs_compiler
def test_a_training_with_compiled_steps_ends_where_a_plain_one_does(
    rows: tuple[Tensor, Tensor], eager_to_compile: None
) -> None:
    net, twin = seeded(), seeded()
    history, told, sizes = training(net, rows, 6)
    assert len(told) == 1
    assert "2 steps in one graph" in told[0]
    # Sixty rows are seven whole batches and one of four rows: three groups, and two plain steps an epoch.
    assert sizes[-5:] == [2, 2, 2, 1, 1]
    assert sum(sizes) == 6 * 8
    plain, _, _ = training(twin, rows, 6, compile=False)
    assert history.best_epoch == plain.best_epoch
    torch.testing.assert_close(history.curves["loss"], plain.curves["loss"], rtol=1e-4, atol=1e-6)
    same(net, twin)


@needs_compiler
def test_weights_are_averaged_after_every_compiled_step(rows: tuple[Tensor, Tensor], eager_to_compile: None) -> None:
    net, twin = seeded(), seeded()
    _, told, sizes = training(net, rows, 6, ema=0.9)
    assert "whole steps" in told[0]
    assert set(sizes) == {1}, "an average takes in the weights of each step"
    training(twin, rows, 6, ema=0.9, compile=False)
    same(net, twin)


@needs_compiler
def test_dropout_of_compiled_steps_is_the_same_for_the_same_seed(
    rows: tuple[Tensor, Tensor], eager_to_compile: None
) -> None:
    parts = lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3))  # noqa: E731
    curves = []
    for _ in range(2):
        history, told, sizes = training(seeded(parts), rows, 4)
        assert 2 in sizes, told
        curves.append(history.curves["loss"])
    assert curves[0] == curves[1]


@needs_compiler
def test_a_loss_that_is_no_number_is_found_at_its_step(rows: tuple[Tensor, Tensor], eager_to_compile: None) -> None:
    steps = []
    for compile in (True, False):
        told: list[str] = []
        blows = lambda share: 1.0 if share < 0.6 else 1e30  # noqa: E731
        history, _, sizes = training(seeded(), rows, 6, compile=compile, shape=blows, heard=told)
        assert history.diverged
        assert compile == (2 in sizes)
        steps.append(re.findall(r"epoch \d+, step \d+", told[0]))
    assert steps[0] == steps[1] == [steps[0][0]]


def test_the_first_bad_loss_of_a_group_is_named(rows: tuple[Tensor, Tensor]) -> None:
    regime = made(seeded())
    eager(regime, rows, 1)
    step = graph_step(regime, rows, steps=3)
    x = rows[0][:24].clone()
    x[12] = float("nan")
    assert np.isnan(step((x,), rows[1][:24]))
    place, loss = step.bad
    assert place == 2
    assert np.isnan(loss)


# --- without ---


def test_no_compiler_is_told_once_and_training_goes_on(
    lab: Any, rows: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    lab.train(rows[0].numpy(), rows[1].numpy(), model=nn.Linear(6, 3), epochs=2, compile=True)
    assert [text for text in lab.messages if "ompile" in text] == [
        "Steps are not compiled, for there is no C++ compiler; apt-get install g++ brings one."
    ]


def test_a_compiler_that_fails_is_told_once_and_training_goes_on(
    rows: tuple[Tensor, Tensor], eager_to_compile: None, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setattr(compiling, "MOST_STEPS", 3)  # a graph that no other test has compiled
    net, twin = seeded(), seeded()
    _, told, sizes = training(net, rows, 3)
    assert len(told) == 1, told
    assert told[0].startswith("Steps are not compiled, for the compiler fails")
    assert set(sizes) == {1}
    training(twin, rows, 3, compile=False)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), twin.state_dict().values(), strict=True))


def test_a_short_training_is_not_compiled(lab: Any, rows: tuple[Tensor, Tensor]) -> None:
    lab.train(rows[0].numpy(), rows[1].numpy(), model=nn.Linear(6, 3), epochs=20, batch_size=8, compile=True)
    assert [text for text in lab.messages if text.startswith("Steps are not compiled: ")]


@pytest.mark.parametrize(("option", "value"), [("clip", 1.0), ("accumulate", 2)])
def test_what_compiled_steps_cannot_do_is_told(lab: Any, rows: tuple[Tensor, Tensor], option: str, value: Any) -> None:
    lab.train(rows[0].numpy(), rows[1].numpy(), model=nn.Linear(6, 3), compile=True, **{option: value})
    assert [
        text
        for text in lab.messages
        if text.startswith("Steps are not compiled, for ") and option in (text + why(option))
    ]


def why(option: str) -> str:
    return option if option == "accumulate" else ""


def test_what_keeps_steps_plain_is_named(rows: tuple[Tensor, Tensor]) -> None:
    batches = InMemory((rows[0],), rows[1], BATCH)
    regime = made(seeded())
    assert why_not(regime, batches) == ""
    assert "in memory" in why_not(regime, object())


@needs_compiler
def test_compiled_code_that_was_changed_is_not_loaded(
    rows: tuple[Tensor, Tensor], eager_to_compile: None, own_cache: Path
) -> None:
    training(seeded(), rows, 2)
    libraries = list(own_cache.glob("*/step*.so"))
    assert libraries
    kept = {library: library.read_bytes() for library in libraries}
    for library in libraries:
        copied = library.with_suffix(".copy")
        copied.write_bytes(kept[library] + b"x")
        copied.replace(library)
    try:
        assert all(Compilation._whole(library.parent) is None for library in libraries)
    finally:
        for library, data in kept.items():
            copied = library.with_suffix(".copy")
            copied.write_bytes(data)
            copied.replace(library)
