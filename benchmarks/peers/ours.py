"""This package: the whole of `maas.train`, with preparing the rows and publishing the model."""

from __future__ import annotations

from benchmarks.workloads import RATE, Workload

NAME = "**maas.train**"
PACKAGES = ("maas-magics",)


def fit(work: Workload) -> None:
    import maas_magics as maas

    maas.train(
        "measured",
        data=(work.x.numpy(), work.y.numpy()),
        validation=(work.xv.numpy(), work.yv.numpy()),
        model=work.build(),
        optimizer="Adam",
        lr=RATE,
        batch_size=work.batch,
        epochs=work.epochs,
        threads=1,
        background=True,
    ).result()
