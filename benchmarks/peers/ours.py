"""This package: the whole of `maas.train`, with preparing the rows, capturing the network's graph, and publishing it."""

from __future__ import annotations

from benchmarks.measure import quietly
from benchmarks.workloads import RATE, Workload

NAME = "**maas.train**, whole call"
PACKAGES = ("maas-magics",)


def start(work: Workload, **more):
    """The job of one training."""
    import torch

    import maas_magics as maas

    return quietly(
        lambda: maas.train(
            "measured",
            data=(work.x.numpy(), work.y.numpy()),
            validation=(work.xv.numpy(), work.yv.numpy()),
            model=work.build(),
            optimizer="Adam",
            lr=RATE,
            batch_size=work.batch,
            threads=1 if torch.get_num_threads() == 1 else None,
            background=True,
            **({"epochs": work.epochs} | more),
        )
    )


def fit(work: Workload) -> None:
    start(work).result()
