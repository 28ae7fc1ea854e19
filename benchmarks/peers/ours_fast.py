"""This package with `--fast auto`, per sample once its steps are compiled; what compiling took is told apart."""

from __future__ import annotations

import resource
import time

from benchmarks.peers.ours import start
from benchmarks.workloads import Workload

NAME = "**maas.train** `--fast auto`, training alone"
PACKAGES = ("maas-magics",)

MOST = 1_000_000
"""Epochs that are asked for; it is stopped long before."""

ENOUGH = 300.0
"""Seconds after which nobody waits for a compiler any more."""

compiling: dict[str, tuple[float, str]] = {}
"""By workload: CPU seconds of other processes the first time, and what was chosen."""


def fit(work: Workload) -> float:
    from maas_magics.api.events import EpochEnd, Message, Started

    if work.epochs == 1:  # the call that only imports
        start(work).result()
        return 0.0
    before, chosen = _others(), []
    job = start(work, epochs=MOST, patience=0, fast="auto")
    decided, since, ended, began = False, None, 0.0, time.monotonic()
    for event in job.events():
        if isinstance(event, Started):
            chosen += [event.summary.get("fast", "")]
        elif isinstance(event, Message) and "ompiled" in event.text:
            decided = True
            chosen += [event.text]
        elif isinstance(event, EpochEnd) and (decided or time.monotonic() - began > ENOUGH):
            ended = time.process_time()
            if since is None:
                since = event.epoch, ended
            if event.epoch - since[0] >= work.epochs:
                job.stop()
                break
    job.result()
    compiling.setdefault(work.name, (_others() - before, "; ".join(chosen)))
    return (ended - since[1]) * work.epochs / (event.epoch - since[0])


def _others() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
