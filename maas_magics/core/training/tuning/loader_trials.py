"""``--fast auto`` for rows that are read while the training continues: how many loader workers, and what `fast` tries.

Batches to try on are read in processes of their own, forked from this one, so neither a dataset nor a sampler nor any
generator of random numbers here notices: the training continues as without the trials.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from statistics import median
from typing import Any

import torch
from torch.utils.data import IterableDataset

from maas_magics.api.errors import MaasError
from maas_magics.core.batches.batches import Batch, Batches, FromLoader
from maas_magics.core.batches.blocks import Blocks
from maas_magics.core.batches.from_dataset import FromDataset
from maas_magics.core.batches.loader_rows import BatchIndices, ReadBatch
from maas_magics.core.batches.loader_workers import Readers
from maas_magics.core.processors import cores
from maas_magics.core.tasks.losses import Loss
from maas_magics.core.training.steps.step_config import StepConfig
from maas_magics.core.training.tuning import fast
from maas_magics.core.training.tuning.fast import MARGIN, SHARE, TuningChoice, choose
from maas_magics.core.training.tuning.snapshot import taken_back

BATCHES = 8
"""Batches that are tried on, at most; and where reading them would take more than a quarter of the trials, two."""

START = 0.2
"""Seconds that starting worker processes is taken for."""

STEP_SHARE = 0.5
"""Share of a step in what it takes together with its data, below which a faster step would bring little."""

LONG = 0.3
"""Seconds that a number of workers is timed for, at least."""

MOST = 20.0
"""Seconds that are spent on numbers of workers, however long the training is."""

PATIENCE = 20.0
"""Seconds that a worker in a trial may take for a batch, or ten times what a batch was seen to take."""


@dataclass(frozen=True)
class Few:
    """Batches to try on.

    Attributes
    ----------
    rows : list of Batch
    seconds : float
        That reading one took, by one process with nothing else to do.
    """

    rows: list[Batch]
    seconds: float


def choose_for_loader(
    regime: StepConfig,
    loss: Loss,
    batches: Batches,
    *,
    total: int,
    threads: int | None,
    precision: bool,
    stopping: Callable[[], Any],
    workers: int | None = None,
) -> TuningChoice:
    """As `maas_magics.core.training.tuning.fast.choose`, for rows of a dataset, a loader or a disk.

    Parameters
    ----------
    regime, loss
        As `choose` takes them.
    batches : Batches
        One for each gradient. The number of workers of a `FromDataset` is set to what was found.
    total, threads, precision, stopping
        As `choose` takes them.
    workers : int or None
        Loader workers that were requested, which are not tried.
    """
    begun, now = time.perf_counter(), torch.get_num_threads()
    few = few_batches(batches, total)
    if isinstance(few, str):
        return TuningChoice(regime, now, (f"nothing tried: {few}",))
    trial = _Trial(regime, loss, few, stopping)
    summary: tuple[str, ...] = ()
    with trial.taken_back():
        step = trial.step()
        pace = few.seconds + step
        if isinstance(batches, FromDataset) and workers is None:
            batches.readers.workers, pace, fact = trial.choose(batches, step, total, time.perf_counter() - begun)
            summary = (fact,)
    if step < STEP_SHARE * pace:
        share = 1 - step / (few.seconds + step)
        return TuningChoice(regime, now, summary or (f"nothing tried: the data takes {share:.0%} of a step",))
    # Steps are what is tried here; the time that the data takes besides is the training's as well.
    left = max(0.0, total * pace - (time.perf_counter() - begun) / SHARE)
    choice = choose(
        regime,
        loss,
        batches,
        total=int(left / step),
        threads=threads,
        precision=precision,
        stopping=stopping,
        rows=few.rows,
    )
    untried = any(told.startswith("nothing tried") for told in choice.summary)
    return replace(choice, summary=summary if summary and untried else (*choice.summary, *summary))


def few_batches(batches: Any, total: int) -> Few | str:
    """Some batches, read so that nothing here notices; or why there are none."""
    if isinstance(batches, Blocks):  # an order of its own, and files that are read anywhere
        begun = time.perf_counter()
        rows = list(islice(batches.epoch(torch.Generator()), BATCHES))
        return Few(rows, (time.perf_counter() - begun) / max(len(rows), 1))
    source = batches if isinstance(batches, FromDataset) else _as_dataset(batches)
    if isinstance(source, str):
        return source
    number = min(max(2, min(BATCHES, int(SHARE * total / 4))), source.steps)
    if START + number * source.pace > SHARE * total * source.pace / 2:
        return "the training is too short"
    try:
        with _apart(source, 1) as found:
            read = list(islice(found, number))
            return Few([source.made(one) for one in read], median(one.seconds for one in read))
    except MaasError as error:
        return f"reading fails in a process of its own ({error.message.rstrip('.')})"


def _as_dataset(batches: Any) -> FromDataset | str:
    """The rows of a loader's dataset in an order of ours, which no training takes."""
    loader = batches.loader if isinstance(batches, FromLoader) else None
    dataset = getattr(loader, "dataset", None)
    if loader is None or dataset is None or isinstance(dataset, IterableDataset):
        return "an IterableDataset cannot be read ahead and put back"
    size = getattr(loader, "batch_size", None) or getattr(getattr(loader, "batch_sampler", None), "batch_size", None)
    try:
        rows = len(dataset)
    except TypeError:
        rows = 0
    if not isinstance(size, int) or not rows:
        return "the loader does not say how its batches are made"
    readers = Readers((dataset,), loader.collate_fn)
    order = torch.arange(rows)
    return FromDataset(readers, 0, order, size, batches.encode, batches.device, pace=batches.pace, items=batches.items)


@contextmanager
def _apart(source: FromDataset, workers: int) -> Iterator[Iterator[ReadBatch]]:
    """Batches without an end, read by processes that are gone after the block."""
    readers = source.readers.others(workers, max(PATIENCE, 10 * source.pace))
    try:
        yield readers.read(_endless(source, workers))
    finally:
        readers.close()


def _endless(source: FromDataset, seed: int) -> Iterator[BatchIndices]:
    """One epoch after another, in another order for each seed, so that files are not all in memory already."""
    order = torch.Generator().manual_seed(seed)
    while True:
        yield from source.asked(order)


class _Trial:
    """Real steps, on batches that are there and on those of loader workers.

    Parameters
    ----------
    regime, loss
    few : Few
    stopping : callable
    """

    def __init__(self, regime: StepConfig, loss: Loss, few: Few, stopping: Callable[[], Any]) -> None:
        self._regime, self._few, self._stopping = regime, few, stopping
        self._make = replace(regime, average=None, profiler=None).step(loss)

    @contextmanager
    def taken_back(self) -> Iterator[None]:
        """Whatever the steps within it do is undone."""
        precision = self._regime.precision
        scale = precision.state() if precision is not None else {}
        with taken_back(self._regime.net, self._regime.optimizer):
            self._regime.begin(1)
            yield
        if precision is not None:
            precision.load(scale)

    def choose(self, batches: FromDataset, step: float, total: int, spent: float) -> tuple[int, float, str]:
        """The number of workers, seconds of a step with them, and a note about it.

        Parameters
        ----------
        batches : FromDataset
        step : float
            Seconds of one whose batch is there.
        total : int
            Batches of the training.
        spent : float
            Seconds that went into trials before.
        """
        alone = self._few.seconds + step
        if alone < MARGIN * step:
            return 0, alone, f"0 loader workers (the data takes {self._few.seconds / alone:.0%} of a step)"
        left = min(SHARE * total * alone, MOST) - spent
        best, seconds = 0, alone
        tried: dict[int, float] = {}
        for number in numbers(cores()):
            pace = max(self._few.seconds / number, step)
            if seconds < MARGIN * pace:
                continue  # not even if nothing came between
            cost = START + self._few.seconds + max((number + many(number)) * pace, LONG)
            if cost > left or self._stopping():
                break
            begun = time.perf_counter()
            try:
                found = self._with(batches, number)
            except MaasError as error:
                return best, seconds, f"{named(best)} ({number}: {error.message.rstrip('.')})"
            left -= time.perf_counter() - begun
            tried[number] = alone / found
            if seconds < MARGIN * found:
                break  # more would bring less
            best, seconds = number, found
            if seconds < MARGIN * step:
                break  # the data no longer holds up the steps
        return best, seconds, told(best, tried)

    def _with(self, batches: FromDataset, number: int) -> float:
        """Seconds of a step that waits for its batch, once so many workers are running."""
        with _apart(batches, number) as found:
            for read in islice(found, number):
                self._take(batches.made(read))
            begun = time.perf_counter()
            for done in count(1):
                self._take(batches.made(next(found)))
                passed = time.perf_counter() - begun
                if done >= many(number) and (passed > LONG or self._stopping()):
                    return passed / done
        raise AssertionError("there is always another batch")

    def step(self) -> float:
        """Seconds of a step on a batch that is there."""
        rows = self._few.rows
        self._take(rows[0])
        times: list[float] = []
        while len(times) < len(rows) or (sum(times) < fast.SECONDS and len(times) < fast.MOST):
            begun = time.perf_counter()
            self._take(rows[len(times) % len(rows)])
            times.append(time.perf_counter() - begun)
        return median(times)

    def _take(self, batch: Batch) -> None:
        """A step on a batch, or on a group of one where groups are taken."""
        inputs: Any = (batch,) if self._regime.grouped else batch[0]
        self._make(inputs, batch[1])


def numbers(most: int) -> list[int]:
    """Numbers of workers to try: doubled each time, up to the processors."""
    found = [1]
    while 2 * found[-1] <= most:
        found.append(2 * found[-1])
    return found if found[-1] == most else [*found, most]


def many(workers: int) -> int:
    """Batches that a number of workers is timed on, at least."""
    return max(2 * workers, 4)


def named(workers: int) -> str:
    """A number of workers in words."""
    return f"{workers} loader worker{'' if workers == 1 else 's'}"


def told(best: int, tried: dict[int, float]) -> str:
    """What was chosen and what it brought; what the others would have, where nothing was."""
    if best:
        return f"{named(best)} ({tried[best]:.1f}×)"
    others = ", ".join(f"{number}: {gain:.1f}×" for number, gain in tried.items())
    return f"{named(0)} ({others or 'no time to try others'})"
