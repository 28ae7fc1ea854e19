"""This package, from the first step of `maas.train` to the end of its last epoch."""

from __future__ import annotations

import time

from benchmarks.peers.ours import start
from benchmarks.workloads import Workload

NAME = "**maas.train**, training alone"
PACKAGES = ("maas-magics",)


def fit(work: Workload) -> float:
    from maas_magics.api.events import EpochEnd, Started

    job = start(work)
    begun = ended = 0.0
    for event in job.events():
        if isinstance(event, Started):
            begun = time.process_time()
        elif isinstance(event, EpochEnd):
            ended = time.process_time()
    job.result()
    return ended - begun
