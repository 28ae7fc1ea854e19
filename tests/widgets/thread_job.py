"""A job on a thread with a real event log: logistic regression by gradient descent on made-up rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from maas_magics.api.backend import JobInfo
from maas_magics.api.errors import MaasError
from maas_magics.api.events import EpochEnd, Event, Finished, Message, Progress, Started, State, Step


class ThreadJob:
    """Runs ``work(job)`` on a thread; ``work`` calls `emit` and looks at `stops`."""

    def __init__(self, title: str, work: Callable[[ThreadJob], None]) -> None:
        self.log: list[Event] = []
        self.stops = 0
        self.title = title
        self.best_epoch = 0
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    @property
    def info(self) -> JobInfo:
        state: State = self.log[-1].state if self.log and isinstance(self.log[-1], Finished) else "running"
        return JobInfo(id="j1", title=self.title, model="m", state=state, created=0.0)

    def emit(self, event: Event) -> None:
        with self._more:
            self.log.append(msgspec.structs.replace(event, seq=len(self.log) + 1, time=time.time()))
            self._more.notify_all()

    def events(self, after: int = 0) -> Iterator[Event]:
        while True:
            with self._more:
                while len(self.log) <= after:
                    self._more.wait()
                new = self.log[after:]
            yield from new
            after += len(new)
            if isinstance(new[-1], Finished):
                return

    def stop(self) -> None:
        self.stops += 1

    def pause(self) -> None:
        """What this one cannot do."""
        raise MaasError("This job cannot be paused.")

    resume = pause

    def result(self, timeout: float | None = None) -> Any:
        self._thread.join(timeout)
        return self.log

    def _run(self, work: Callable[[ThreadJob], None]) -> None:
        try:
            work(self)
            self.emit(Finished(state="stopped" if self.stops else "succeeded", best_epoch=self.best_epoch))
        except Exception as error:
            self.emit(Finished(state="failed", error=f"{type(error).__name__}: {error}", best_epoch=self.best_epoch))


def train(
    *,
    epochs: int = 20,
    steps: int = 60,
    pause: float = 0.005,
    rows: int = 64,
    fail_at: int = 0,
    obey: int = 1,
    warn: str = "",
    title: str = "train penguins",
    features: int = 20,
) -> ThreadJob:
    """Job that trains; ``obey`` is the number of stops after which it gives in."""

    def work(job: ThreadJob) -> None:
        rng = np.random.default_rng(0)
        truth = rng.normal(size=features)

        def sample(n: int) -> tuple[Any, Any]:
            x = rng.normal(size=(n, features))
            return x, (x @ truth + rng.normal(scale=2.0, size=n) > 0).astype(float)

        def score(w: Any, x: Any, y: Any) -> dict[str, float]:
            p = 1 / (1 + np.exp(-(x @ w)))
            loss = -np.mean(y * np.log(p + 1e-9) + (1 - y) * np.log(1 - p + 1e-9))
            right, distance = np.mean((p > 0.5) == y), np.mean((p - y) ** 2)
            return {"loss": float(loss), "accuracy": float(right), "brier": float(distance)}

        train_rows, held = sample(rows * steps), sample(400)
        summary = {"task": "binary", "architecture": "logreg", "device": "cpu"}
        start = Started(title=title, epochs=epochs, steps_per_epoch=steps, samples=rows * steps, parameters=features)
        job.emit(msgspec.structs.replace(start, summary=summary))
        if warn:
            job.emit(Message(text=warn, level="warning"))
        w, best, begin = np.zeros(features), float("inf"), time.perf_counter()
        for step in range(1, epochs * steps + 1):
            at = slice((step - 1) % steps * rows, (step - 1) % steps * rows + rows)
            x, y = train_rows[0][at], train_rows[1][at]
            loss = score(w, x, y)["loss"]
            w -= 0.02 * x.T @ (1 / (1 + np.exp(-(x @ w))) - y) / rows * 4
            time.sleep(pause)
            epoch = (step - 1) // steps + 1
            job.emit(Step(step=step, epoch=epoch, loss=loss, samples=step * rows))
            if fail_at and epoch >= fail_at:
                raise ValueError("the loss became NaN")
            if job.stops >= obey:
                return
            if step % steps == 0:
                on_train, on_held = score(w, *train_rows), score(w, *held)
                better = on_held["loss"] < best
                if better:
                    best, job.best_epoch = on_held["loss"], epoch
                job.emit(
                    EpochEnd(
                        epoch=epoch,
                        step=step,
                        samples=step * rows,
                        train=on_train,
                        validation=on_held,
                        seconds=time.perf_counter() - begin,
                        best=better,
                    )
                )

    return ThreadJob(title, work)


def predict(*, rows: int = 10_000, pause: float = 0.02, title: str = "predict penguins") -> ThreadJob:
    """Job that has progress and no epochs."""

    def work(job: ThreadJob) -> None:
        job.emit(Started(title=title))
        for done in range(0, rows + 1, rows // 50):
            if job.stops:
                return
            time.sleep(pause)
            job.emit(Progress(done=done, total=rows))

    return ThreadJob(title, work)
