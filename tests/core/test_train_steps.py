"""What a step may be asked for does what a plain torch loop written for it does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import lr_scheduler, swa_utils
from torch.utils.data import WeightedRandomSampler

from maas_magics.api.errors import OptionError
from maas_magics.core.batches.accumulate import GradientAccumulation
from maas_magics.core.batches.batches import InMemory
from maas_magics.core.batches.sampler import BalancedOrder
from maas_magics.core.graphs.rebuild import pack, unpack
from maas_magics.core.losses.make import make_loss, mass_of
from maas_magics.core.tasks.multiclass import Multiclass
from maas_magics.core.training.loop import fit
from maas_magics.core.training.plan import Plan, TrainingHistory
from maas_magics.core.training.steps.ema import EMA
from maas_magics.core.training.steps.freeze import Freezing
from maas_magics.core.training.steps.lr_schedule import TORCH, make_lr_schedule
from maas_magics.core.training.steps.memory_format import arrange
from maas_magics.core.training.steps.optimizers import Optimizer
from maas_magics.core.training.steps.patterns import rates_of
from maas_magics.core.training.steps.precision import Precision
from maas_magics.core.training.steps.schedules import SCHEDULES, constant
from maas_magics.core.training.steps.step import TrainStep
from maas_magics.core.training.steps.step_config import StepConfig

BATCH, EPOCHS, SEED, RATE = 16, 4, 3, 0.01
CPU = torch.device("cpu")
ANSWERS = Multiclass(("y",), (0, 1, 2))


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(1)
    return torch.randn(90, 6, generator=made), torch.randint(0, 3, (90,), generator=made)


@pytest.fixture
def net() -> nn.Sequential:
    torch.manual_seed(SEED)
    parts = [nn.Linear(6, 12, bias=False), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.1), nn.Linear(12, 3)]
    return nn.Sequential(*parts)


def ours(
    net: nn.Module,
    rows: tuple[Tensor, Tensor],
    *,
    name: str = "Adam",
    schedule: str = "constant",
    params: dict[str, Any] | None = None,
    warmup: float = 0,
    epochs: int = EPOCHS,
    batch: int = BATCH,
    group: int = 1,
    weights: Tensor | None = None,
    ema: float | None = None,
    freeze: Sequence[str] = (),
    unfreeze: dict[str, int] | None = None,
    lr_of: dict[str, float] | None = None,
    **regime: Any,
) -> tuple[nn.Module, TrainingHistory, Optimizer]:
    """A copy of ``net`` after its last epoch, which is kept because each epoch counts as better than the one before."""
    net = copy.deepcopy(net)
    freezing = Freezing(net, freeze, unfreeze or {})
    optimizer = Optimizer(net, name, RATE, None, {}, lr_of=rates_of(net, lr_of or {}), later=freezing.later)
    batches: Any = InMemory((rows[0],), rows[1], batch)
    batches = batches if group == 1 else GradientAccumulation(batches, group)
    rates = make_lr_schedule(
        optimizer, schedule, params or {}, epochs=epochs, steps=batches.steps, warmup=warmup, mode="min"
    )
    average = EMA(optimizer, ema) if ema is not None else None
    made = StepConfig(net, optimizer, rates, average=average, freezing=freezing, grouped=group > 1, **regime)
    loss = make_loss("auto", ANSWERS, weights, 0.0)
    epoch = iter(range(1000))
    metrics: Any = {"epoch": lambda answers, target: float(next(epoch))}
    plan = Plan(loss, ANSWERS, metrics, "epoch", "max", epochs, 0, constant, SEED, made)
    torch.manual_seed(SEED)
    held = InMemory((rows[0],), rows[1], batch)
    history = fit(net, optimizer, batches, held, plan, lambda event: None, lambda: "")
    assert history.best_epoch == epochs
    return net, history, optimizer


def plain(
    net: nn.Module,
    rows: tuple[Tensor, Tensor],
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = lambda net: torch.optim.Adam(
        net.parameters(), lr=RATE, fused=True
    ),
    begin: Callable[[int, nn.Module], Any] = lambda epoch, net: None,
    step: Callable[[nn.Module, torch.optim.Optimizer, Tensor, Tensor], None] | None = None,
    after_step: Callable[[nn.Module, torch.optim.Optimizer], Any] = lambda net, optimizer: None,
    after_epoch: Callable[[torch.optim.Optimizer], Any] = lambda optimizer: None,
) -> nn.Module:
    """A copy of ``net`` trained as a tutorial would, in the order that `InMemory` draws."""  # fmt: skip
    x, y = rows
    net = copy.deepcopy(net)
    made = optimizer(net)
    drawn = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    for epoch in range(1, EPOCHS + 1):
        net.train()
        begin(epoch, net)
        for index in torch.randperm(len(y), generator=drawn).split(BATCH):
            made.zero_grad()
            if step is None:
                functional.cross_entropy(net(x[index]), y[index]).backward()
                made.step()
            else:
                step(net, made, x[index], y[index])
            after_step(net, made)
        after_epoch(made)
    return net


def distance(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


def test_a_training_that_asks_for_nothing_takes_the_lean_step(net, rows):
    optimizer = Optimizer(net, "Adam", RATE, None, {})
    rates = make_lr_schedule(optimizer, "constant", {}, epochs=1, steps=1, warmup=0, mode="min")
    regime = StepConfig(net, optimizer, rates)
    assert type(regime.step(functional.cross_entropy)) is TrainStep
    assert rates.before is None
    assert distance(ours(net, rows)[0], plain(net, rows)) < 2e-6


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 5.0]), torch.tensor([0.0, 0.0, 1.0])], ids=str)
def test_two_batches_of_16_have_the_gradient_of_one_of_32(rows, name, weights):
    torch.manual_seed(SEED)
    net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))
    loss_mass = mass_of("auto", ANSWERS, weights)
    at_once, one, _ = ours(net, rows, name=name, batch=32, weights=weights)
    grouped, two, _ = ours(net, rows, name=name, batch=16, group=2, weights=weights, mass=loss_mass)
    assert len(rows[1]) % 32 not in (0, 16)  # the last group is shorter, and so is its last batch
    assert distance(net, at_once) > 0.01
    assert distance(at_once, grouped) < 1e-5
    assert two.curves["loss"] == pytest.approx(one.curves["loss"], rel=1e-4)
    assert distance(at_once, ours(net, rows, name=name, batch=16, weights=weights)[0]) > 1e-3


def test_a_group_steps_once(net, rows):
    _, _, optimizer = ours(net, rows, group=4)
    assert [float(state["step"]) for state in optimizer.inner.state.values()] == [2 * EPOCHS]


def test_the_gradient_is_shortened_as_torch_does(net, rows):
    def step(net, optimizer, x, y):
        functional.cross_entropy(net(x), y).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.05)
        optimizer.step()

    def sgd(net):
        return torch.optim.SGD(net.parameters(), lr=RATE, fused=True)

    clipped = ours(net, rows, name="SGD", clip=0.05)[0]
    assert distance(clipped, plain(net, rows, sgd, step=step)) < 1e-6
    assert distance(clipped, plain(net, rows, sgd)) > 1e-3


def test_the_average_is_the_one_of_torch(net, rows):
    averages: list[swa_utils.AveragedModel] = []

    def update(net, optimizer):
        if not averages:
            averages.append(swa_utils.AveragedModel(net, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9)))
        averages[0].update_parameters(net)

    last = plain(net, rows, after_step=update)
    trained = ours(net, rows, ema=0.9)[0]
    assert distance(trained, averages[0].module) < 2e-6
    assert distance(trained, last) > 1e-3
    torch.testing.assert_close(trained[1].running_mean, last[1].running_mean, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_precision_is_the_one_of_torch(net, rows, precision):
    scaler = torch.amp.GradScaler("cpu", enabled=precision == "fp16")
    kinds: set[torch.dtype] = set()

    def step(net, optimizer, x, y):
        with torch.autocast("cpu", {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]):
            outputs = net(x)
            kinds.add(outputs.dtype)
            loss = functional.cross_entropy(outputs.float(), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    trained = ours(net, rows, precision=Precision(precision, CPU))[0]
    assert distance(trained, plain(net, rows, step=step)) < 2e-6
    assert kinds == {torch.bfloat16 if precision == "bf16" else torch.float16}
    assert 1e-4 < distance(trained, plain(net, rows)) < 0.1
    assert {tensor.dtype for tensor in trained.parameters()} == {torch.float32}


def test_an_overflow_in_fp16_leaves_the_step_out_and_lowers_the_scale(net, rows):
    precision = Precision("fp16", CPU)
    precision.scaler.load_state_dict(precision.scaler.state_dict() | {"scale": 2.0**60})
    trained, history, _ = ours(net, rows, precision=precision)
    assert precision.scaler.get_scale() < 2.0**40
    assert history.curves["loss"][-1] < history.curves["loss"][0]
    assert all(torch.isfinite(tensor).all() for tensor in trained.parameters())


ARGUMENTS: dict[str, dict[str, Any]] = {
    "StepLR": {"step_size": 2, "gamma": 0.5},
    "MultiStepLR": {"milestones": [1, 3]},
    "ConstantLR": {"factor": 0.5, "total_iters": 2},
    "LinearLR": {"total_iters": 3},
    "ExponentialLR": {"gamma": 0.5},
    "PolynomialLR": {"total_iters": 3},
    "CosineAnnealingLR": {"T_max": EPOCHS},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "ReduceLROnPlateau": {"patience": 0, "threshold": 0.5},
    "OneCycleLR": {"max_lr": RATE, "total_steps": 6 * EPOCHS},
    "CyclicLR": {"base_lr": RATE / 10, "max_lr": RATE, "step_size_up": 3},
}


@pytest.mark.parametrize("name", TORCH)
def test_every_scheduler_of_torch_goes_as_in_a_plain_loop(net, rows, name):
    made: list[Any] = []
    curve: list[float] = []
    watched = iter(range(1000))

    def optimizer(net):
        inner = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)
        made.append(getattr(lr_scheduler, name)(inner, **ARGUMENTS[name]))
        return inner

    def after_step(net, optimizer):
        curve.append(optimizer.param_groups[0]["lr"])
        if name in ("OneCycleLR", "CyclicLR"):
            made[0].step()

    def after_epoch(optimizer):
        if name == "ReduceLROnPlateau":
            made[0].step(float(next(watched)))
        elif name not in ("OneCycleLR", "CyclicLR"):
            made[0].step()

    reference = plain(net, rows, optimizer, after_step=after_step, after_epoch=after_epoch)
    trained, history, _ = ours(net, rows, schedule=name.lower(), params=ARGUMENTS[name])
    assert history.curves["lr"] == curve[5::6]
    assert len(set(history.curves["lr"])) > 1
    assert distance(trained, reference) < 2e-6


@pytest.mark.parametrize("name", ["OneCycleLR", "CosineAnnealingLR"])
def test_a_scheduler_is_told_how_long_the_training_is(net, rows, name):
    assert (
        ours(net, rows, schedule=name)[1].curves["lr"]
        == ours(net, rows, schedule=name, params=ARGUMENTS[name])[1].curves["lr"]
    )


def test_a_plateau_lowers_the_rate_where_nothing_gets_better(net, rows):
    rates = ours(
        net, rows, schedule="plateau", params={"patience": 0, "threshold": 10.0, "threshold_mode": "abs", "factor": 0.5}
    )[1].curves["lr"]
    assert rates == [RATE, RATE, RATE / 2, RATE / 4]


@pytest.mark.parametrize("warmup", [8, 1 / 3])
@pytest.mark.parametrize("schedule", ["constant", "linear", "StepLR", "CyclicLR"])
def test_a_warm_up_comes_before_the_schedule(net, schedule, warmup):
    optimizer = Optimizer(net, "SGD", RATE, None, {"momentum": 0.9})
    params = {
        "StepLR": {"step_size": 1, "gamma": 0.5},
        "CyclicLR": {"base_lr": RATE, "max_lr": 2 * RATE, "step_size_up": 2},
    }
    rates = make_lr_schedule(
        optimizer, schedule, params.get(schedule, {}), epochs=6, steps=4, warmup=warmup, mode="min"
    )
    seen = []
    for step in range(24):
        if rates.before is not None:
            rates.before(step)
        seen.append(optimizer.lr / RATE)
        optimizer.step()
        if step % 4 == 3:
            rates.after_epoch(step + 1, 1.0)
    assert seen[:8] == pytest.approx([k / 8 for k in range(1, 9)])
    rest = {
        "constant": [1.0] * 16,
        "linear": [1 - k / 16 for k in range(16)],
        "StepLR": [0.5 ** (k // 4) for k in range(16)],
        "CyclicLR": [1, 1.5, 2, 1.5] * 4,
    }
    assert seen[8:] == pytest.approx(rest[schedule])  # fmt: skip


def test_frozen_parts_stay_to_the_bit_and_so_do_their_statistics(net, rows):
    trained = ours(net, rows, freeze=["0.*", "1.*"])[0]
    for key, value in net.state_dict().items():
        assert torch.equal(value, trained.state_dict()[key]) == key.startswith(("0.", "1."))
    assert not trained[0].weight.requires_grad and trained[4].weight.requires_grad
    assert distance(trained, ours(net, rows, freeze=["0.*"])[0]) > 1e-3


def test_statistics_without_parameters_are_frozen_by_their_name(rows):
    torch.manual_seed(SEED)
    net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, affine=False), nn.Linear(5, 3))
    held = nn.Sequential(net, nn.Linear(3, 3))
    assert torch.equal(ours(held, rows, freeze=["0.*"])[0][0][1].running_mean, net[1].running_mean)
    assert not torch.equal(ours(held, rows, freeze=["0.0.*"])[0][0][1].running_mean, net[1].running_mean)


@pytest.mark.parametrize("name", ["Adam", "SGD", "NAdam"])
def test_what_unfreezes_learns_from_that_epoch_on_as_in_a_plain_loop(net, rows, name):
    def optimizer(net):
        return getattr(torch.optim, name)(net.parameters(), lr=RATE)

    def begin(epoch, net):
        for layer, at in ((net[0], 3), (net[1], 2)):
            layer.requires_grad_(epoch >= at)
        if epoch < 2:
            net[1].eval()

    reference = plain(net, rows, optimizer, begin)
    trained, _, made = ours(net, rows, name=name, freeze=["0.*", "1.*"], unfreeze={"0.*": 3, "1.*": 2})
    assert distance(reference, net) > 0.01
    assert distance(trained, reference) < 2e-6
    if name == "Adam":
        assert sorted(float(state["step"]) for state in made.inner.state.values()) == [12, 18, 24]


def test_what_the_user_froze_may_unfreeze(net, rows):
    net[0].requires_grad_(False)
    assert torch.equal(ours(net, rows)[0][0].weight, net[0].weight)
    assert not torch.equal(ours(net, rows, unfreeze={"0.*": 4})[0][0].weight, net[0].weight)


def test_parts_may_have_learning_rates_of_their_own(net, rows):
    def optimizer(net):
        norm = {"params": net[1].parameters(), "lr": 0.0}
        head = {"params": [net[4].weight], "lr": 0.1}
        rest = {"params": [net[0].weight, net[4].bias], "lr": RATE}
        return torch.optim.Adam([norm, head, rest], fused=True)

    def halve(optimizer):
        for group in optimizer.param_groups:
            group["lr"] *= 0.5

    rates = {"1.*": 0.0, "4.*": 0.1, "*.bias": RATE, "1.bias": 0.0}
    trained = ours(net, rows, lr_of=rates, schedule="ExponentialLR", params={"gamma": 0.5})[0]
    assert distance(trained, plain(net, rows, optimizer, after_epoch=halve)) < 2e-6
    assert torch.equal(trained[1].weight, net[1].weight)


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("encoder.*", "There is: "),
        ("heads.*", "Did you mean 'head.*'?"),
        ("head.wieght", "Did you mean 'head.weight'?"),
        ("body.0.1.*", "Did you mean"),
    ],
)
@pytest.mark.parametrize("way", ["freeze", "unfreeze", "lr_of"])
def test_a_pattern_that_matches_nothing_names_close_ones(pattern, hint, way):
    net = nn.Sequential()
    net.body, net.head = nn.Sequential(nn.Sequential(nn.Linear(6, 4)), nn.ReLU()), nn.Linear(4, 3)
    ways: dict[str, Callable[[], Any]] = {
        "freeze": lambda: Freezing(net, [pattern], {}),
        "unfreeze": lambda: Freezing(net, [], {pattern: 2}),
        "lr_of": lambda: rates_of(net, {pattern: 0.1}),
    }
    with pytest.raises(OptionError, match=f"--{way.replace('_', '-')}: no parameter of the network matches") as error:
        ways[way]()
    assert hint in error.value.hint
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_a_module_that_came_as_graphs_is_frozen_but_for_its_statistics(rows, net):
    sent = unpack(pack(net, (rows[0][:4],)))
    assert torch.equal(ours(sent, rows, freeze=["0.*"])[0].state_dict()["0.weight"], net[0].weight)
    with pytest.raises(OptionError, match="The batch-norm '1' of a module that was sent as a graph cannot be frozen"):
        Freezing(sent, ["1.*"], {})


def test_tied_weights_answer_to_both_names():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    Freezing(net, ["1.weight"], {})
    assert not net[0].weight.requires_grad and net[0].bias.requires_grad


def test_balanced_rows_come_as_from_torchs_weighted_sampler():
    target = torch.tensor([0.0] * 900 + [1.0] * 90 + [3.0] * 10).reshape(-1, 1)
    order = BalancedOrder(target)
    generator = torch.Generator().manual_seed(SEED)
    drawn = torch.cat([order(generator) for _ in range(40)])
    assert len(drawn) == 40_000
    counts = torch.bincount(target[drawn].long().flatten(), minlength=4)
    assert counts[2] == 0
    assert counts[[0, 1, 3]].tolist() == pytest.approx([40_000 / 3] * 3, rel=0.03)
    weights = (1 / torch.bincount(target.long().flatten()).clamp(min=1))[target.long().flatten()]
    theirs = torch.tensor(list(WeightedRandomSampler(weights.tolist(), 40_000, generator=generator)))
    rare = [torch.bincount(rows, minlength=1000)[990:].double() for rows in (drawn, theirs)]
    assert float(rare[0].mean()) == pytest.approx(float(rare[1].mean()), rel=0.05)
    assert float(rare[0].std()) < 3 * float(rare[1].std()) + 1
    assert set(drawn.tolist()) == set(range(1000))
    again = BalancedOrder(target)
    assert torch.equal(again(torch.Generator().manual_seed(5)), order(torch.Generator().manual_seed(5)))


class Picture(nn.Module):
    """Two convolutions; flattens with ``view`` where asked to."""

    def __init__(self, view: bool, channels: int = 3) -> None:
        super().__init__()
        self.view = view
        self.first, self.norm = nn.Conv2d(channels, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second, self.head = nn.Conv2d(8, 6, 3, stride=2), nn.Linear(6 * 9, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.norm(self.first(x)).relu()).relu()
        return self.head(x.view(len(x), -1) if self.view else x.flatten(1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["SGD", "AdamW", "Adafactor"])
def test_channels_last_trains_to_the_same_weights(name, channels):
    torch.manual_seed(SEED)
    made = torch.Generator().manual_seed(2)
    rows = torch.randn(48, channels, 8, 8, generator=made), torch.randint(0, 3, (48,), generator=made)
    net = Picture(view=False, channels=channels)
    swift = copy.deepcopy(net)
    before = torch.get_rng_state()
    assert arrange(swift, (rows[0][:2],), CPU, "fp32")
    assert torch.equal(before, torch.get_rng_state())
    assert distance(net, swift) == 0  # nor did the trial move the statistics
    one, other = (ours(each, rows, name=name, epochs=2)[0] for each in (net, swift))
    assert other.second.weight.is_contiguous(memory_format=torch.channels_last)
    assert not other.second.weight.is_contiguous()
    # Of one channel a tensor is in both orders; the strides tell torch which is meant, and it hands that on.
    assert other.norm(other.first(rows[0])).is_contiguous(memory_format=torch.channels_last)
    assert distance(net, one) > 1e-3
    assert distance(one, other) < (1e-5 if name == "SGD" else 1e-3)


def test_a_network_that_needs_its_numbers_in_the_usual_order_is_left_alone():
    net = Picture(view=True)
    assert not arrange(net, (torch.randn(2, 3, 8, 8),), CPU, "fp32")
    assert net.second.weight.is_contiguous()
    assert not arrange(nn.Linear(3, 3), (torch.randn(2, 3),), CPU, "fp32")


class Pooled(nn.Module):
    """A flatten behind a max-pooling, whose gradient comes in the usual order."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1, groups=2)
        self.relu, self.pool, self.head = nn.ReLU(), nn.MaxPool2d(3, 2), nn.Linear(6 * 9, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.second(self.relu(self.first(x)))))
        return self.head(x.flatten(1))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gradient_comes_in_the_order_of_its_layer(channels):
    torch.manual_seed(SEED)
    made = torch.Generator().manual_seed(2)
    rows = torch.randn(48, channels, 8, 8, generator=made), torch.randint(0, 3, (48,), generator=made)
    net = Pooled(channels)
    swift = copy.deepcopy(net)
    arrangement = arrange(swift, (rows[0][:2],), CPU, "fp32")
    assert arrangement is not None
    assert arrangement.turned == {"pool"}  # what lies before it gets its gradient in order then
    found: list[bool] = []

    def see(module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        outputs.register_hook(lambda g: found.append(g.is_contiguous(memory_format=torch.channels_last)))

    watching = swift.pool.register_forward_hook(see)
    functional.cross_entropy(swift(rows[0]), rows[1]).backward()
    watching.remove()
    assert found == [True]
    swift.zero_grad()
    one, other = (ours(each, rows, name="SGD", epochs=2)[0] for each in (net, swift))
    assert distance(net, one) > 1e-3
    assert distance(one, other) < 1e-5
    for _ in range(2):
        arrangement.undo()
    assert not any(module._forward_hooks for module in swift.modules())
    assert swift.second.weight.is_contiguous()
    assert swift(rows[0]).requires_grad  # and still works, as under no gradient
    with torch.inference_mode():
        assert not swift(rows[0]).requires_grad


def test_schedules_have_no_name_twice():
    assert len({name.lower() for name in (*SCHEDULES, *TORCH, "plateau")}) == len(SCHEDULES) + len(TORCH) + 1
    assert set(ARGUMENTS) == set(TORCH)
