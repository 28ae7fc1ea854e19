"""Samples a second of a training shared between worker processes, beside one process with one thread and two."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

from benchmarks.measure import in_turns, ratios, table

WAYS = {
    "1 process × 1 thread": (1, 1),
    "1 process × 2 threads": (1, 2),
    "2 workers × 1 thread": (2, 1),
    "2 workers × 1 thread, sharded": (2, 1),
}
ROUNDS = 3


def main() -> None:
    import numpy as np
    import torch
    from torch import nn

    from maas_magics.api.events import EpochEnd
    from maas_magics.api.requests import TrainRequest
    from maas_magics.local.backend import LocalBackend

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(128, 4, 256, dropout=0.0, batch_first=True)
            self.layers, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(128, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.layers(x).mean(dim=1))

    def dense() -> nn.Module:
        return nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))

    rng = np.random.default_rng(0)
    works: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int]] = {
        "encoder, length 64, batch 64": (Encoder, (64, 128), 64, 384),
        "512→1024→1024→10, batch 512": (dense, (512,), 512, 8_192),
        "512→1024→1024→10, batch 64": (dense, (512,), 64, 2_560),
    }

    def pace(backend: LocalBackend, work: str, way: str) -> float:
        """Seconds of the epochs after the first."""
        make, shape, batch, rows = works[work]
        workers, threads = WAYS[way]
        x = rng.normal(size=(rows, *shape)).astype(np.float32)
        job = backend.submit(
            TrainRequest(
                name="m",
                data=x,
                target=np.arange(rows) % (4 if make is Encoder else 10),
                model=make(),
                batch_size=batch,
                validation=0.0,
                epochs=4,
                workers=workers,
                threads=threads,
                shard="sharded" in way,
            )
        )
        ends = [event.seconds for event in job.events() if isinstance(event, EpochEnd)]
        job.result()
        return ends[-1] - ends[0]

    with tempfile.TemporaryDirectory() as store:
        os.environ |= {"MAAS_STORE": store, "MAAS_UI": "static"}
        backend = LocalBackend(store)
        for work in works:
            found = in_turns({way: lambda way=way, work=work: pace(backend, work, way) for way in WAYS}, ROUNDS)  # type: ignore[misc]
            column = ratios(found, next(iter(WAYS)))
            table(
                f"Workers: samples a second over one process's with one thread, {work}",
                ("", "ratio"),
                [[way, f"{1 / ratio:.2f}"] for way, ratio in column.items()],
                f"Medians of {ROUNDS} trainings in turns, wall time from the end of the first epoch to the end of the "
                "fourth, gloo over the loopback interface. To start the workers takes some seconds more.",
            )
