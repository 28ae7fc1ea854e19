"""The model behind the views: what events add up to."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from maas_magics.api.events import EpochEnd, Event, Finished, Message, Progress, Resumed, Started, Step
from maas_magics.widgets.curves import Curve
from maas_magics.widgets.history import History
from maas_magics.widgets.live import header
from maas_magics.widgets.words import best_figures


def log(epochs: int = 3, steps: int = 10, *, per_second: float = 10.0) -> list[Event]:
    """A run of 8 rows a step whose second epoch is the best."""
    start = Started(title="train m", epochs=epochs, steps_per_epoch=steps, monitor="accuracy", mode="max")
    events: list[Event] = [start]
    times = [100.0]
    for step in range(1, epochs * steps + 1):
        epoch = (step - 1) // steps + 1
        events.append(Step(step=step, epoch=epoch, loss=1 / step, samples=8 * step))
        times.append(100 + step / per_second)
        if step % steps == 0:
            figures = {"loss": 1 / epoch, "f1": 0.1, "accuracy": {2: 0.9}.get(epoch, 0.5)}
            end = EpochEnd(epoch=epoch, step=step, samples=8 * step, train={"loss": 0.5}, validation=figures)
            events.append(replace(end, best=epoch <= 2))
            times.append(times[-1])
    events.append(Finished(state="succeeded", best_epoch=2))
    times.append(times[-1])
    return [replace(event, seq=seq, time=time) for seq, (event, time) in enumerate(zip(events, times, strict=True), 1)]


def test_a_log_adds_up() -> None:
    history = History.of(log())
    assert (history.title, history.state, history.final) == ("train m", "succeeded", True)
    assert (history.step, history.epoch, history.samples) == (30, 3, 240)
    assert history.best_epoch == 2
    assert history.best is not None
    assert history.best.validation["accuracy"] == 0.9
    assert history.metrics == ["accuracy", "f1"]
    assert history.points("validation/accuracy") == [(10, 0.5), (20, 0.9), (30, 0.5)]
    assert len(history.points("step/loss")) == 30
    assert history.fraction == 1.0
    assert history.left is None
    assert history.seconds == pytest.approx(3.0)
    assert history.rate == pytest.approx(80.0)


def goes_on(best: EpochEnd | None, **given: Any) -> Resumed:
    told = {} if best is None else {"best_epoch": best.epoch, "best_step": best.step, "train": best.train}
    more = {} if best is None else {"validation": best.validation, "baseline": best.baseline}
    return Resumed(**given, **told, **more)


def resumed(best: EpochEnd | None) -> list[Event]:
    """A job that goes on from another one's state, and finds nothing better."""
    figures = {"loss": 0.9, "accuracy": 0.6}
    return [
        Started(title="train m", epochs=5, steps_per_epoch=10, monitor="accuracy", mode="max", time=100.0),
        goes_on(best, epoch=4, step=30, samples=240, time=101.0),
        EpochEnd(epoch=4, step=40, samples=320, train={"loss": 0.7}, validation=figures, seconds=8.0, time=102.0),
        Finished(state="succeeded", best_epoch=2, seconds=8.5, time=110.0),
    ]


def test_figures_beside_the_best_epoch_are_its_own_though_another_job_told_of_it() -> None:
    best = EpochEnd(
        epoch=2, step=20, samples=0, train={"loss": 0.5}, validation={"loss": 0.1, "accuracy": 0.9},
        baseline={"loss": 2.0}, best=True,
    )  # fmt: skip
    for length in (2, 3, 4):
        history = History.of(resumed(best)[:length])
        assert history.best_epoch == 2 and dict(best_figures(history)) == {"val loss": "0.1", "accuracy": "0.9"}
        assert history.baseline == {"loss": 2.0}
        assert header(history, stopping=False)["best"]["epoch"] == 2
    again = [*resumed(best)[:3], goes_on(best, epoch=3, step=25, samples=200, time=105.0)]
    history = History.of(again)
    assert history.best is not None and history.best.epoch == 2
    better = EpochEnd(epoch=5, step=50, samples=400, train={"loss": 0.1}, validation={"accuracy": 0.95}, best=True)
    assert History.of([*resumed(best)[:3], better]).best == better


def test_the_time_of_a_training_that_is_over_is_that_of_its_result() -> None:
    assert History.of(resumed(None)).seconds == 8.5 and History.of(resumed(None)[:3]).seconds == 2.0


def test_speed_and_time_left_while_it_runs() -> None:
    history = History.of(log()[:16])
    assert history.state == "running"
    assert history.step == 14
    assert history.fraction == pytest.approx(14 / 30)
    assert history.rate == pytest.approx(80.0)
    assert history.left == pytest.approx(1.6)


def test_speed_follows_the_last_seconds() -> None:
    slow = log(epochs=40, per_second=100.0)[:-1]
    cut = 201
    late = [replace(event, time=200.0 + (event.seq - cut) * 0.5) for event in slow[cut:]]
    history = History.of([*slow[:cut], *late])
    assert history.rate == pytest.approx(16, rel=0.2)


def test_a_replay_changes_nothing_and_any_beginning_can_be_rebuilt() -> None:
    events = log()
    once, twice = History.of(events), History.of([*events[:20], *events])
    assert twice.points("step/loss") == once.points("step/loss")
    for seq in (1, 7, 15, len(events)):
        assert History.of(event for event in events if event.seq <= seq).seq == seq


def test_revision_counts_what_should_be_seen_at_once() -> None:
    events = log()
    history = History.of(events[:5])
    before = history.revision
    history.add(events[5])
    assert history.revision == before
    history.add(Message(text="careful", level="warning"))
    assert history.revision == before + 1
    assert list(history.warnings) == ["careful"]


def test_progress_without_epochs() -> None:
    history = History.of([Started(title="predict m", time=1.0), Progress(done=500, total=2000, time=2.0)])
    assert history.fraction == 0.25
    assert history.left == pytest.approx(3.0)
    assert history.last is None
    assert not history.curves
    assert History.of([Started(title="x"), Progress(done=5)]).fraction is None


def test_unknown_lengths_are_unknown() -> None:
    history = History.of([Started(title="train m"), Step(step=1, epoch=1, loss=math.nan, samples=8)])
    assert history.fraction is None
    assert history.left is None
    assert history.rate == 0.0
    assert History("queued job").state == "queued"


def test_a_curve_is_bounded_and_loses_no_spike() -> None:
    curve = Curve(bound=2000)
    for x in range(200_000):
        curve.add(x, 100.0 if x == 77_777 else -100.0 if x == 150_001 else math.sin(x / 1000))
        assert len(curve) <= 2000
    points = curve.points
    assert len(points) > 900
    assert (77_777, 100.0) in points
    assert (150_001, -100.0) in points
    assert points == sorted(points)
    gaps = [b[0] - a[0] for a, b in pairwise(points)]
    assert max(gaps) < 200_000 / 200


def test_a_curve_keeps_gaps_and_short_runs_as_they_are() -> None:
    curve = Curve(bound=64)
    curve.extend((x, math.nan if x < 500 else 1.0) for x in range(1000))
    assert any(math.isnan(y) for _, y in curve.points)
    assert curve.points[-1] == (999, 1.0)
    few = Curve()
    few.extend([(1, 2.0), (2, 3.0)])
    assert few.points == [(1, 2.0), (2, 3.0)]
