"""What `--fast auto` does to the figures of a training: five seeds with it, five without."""

from __future__ import annotations

import os
import tempfile
from statistics import mean, stdev
from typing import Any

from benchmarks.measure import quietly, table

SEEDS, EPOCHS = 5, 120


def main() -> None:
    """Print one table."""
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    from maas_magics.api.requests import TrainRequest
    from maas_magics.session import Session

    torch.set_num_threads(1)
    os.environ["MAAS_UI"] = "static"
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    pictures = x.reshape(-1, 1, 8, 8)
    networks = {
        "64 → 64 → 10": (x, lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))),
        "two convolutions": (
            pictures,
            lambda: nn.Sequential(
                *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)),
            ),
        ),
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        session = Session(folder)
        for title, (data, build) in networks.items():
            figures: dict[str, list[float]] = {}
            chosen = ""
            for seed in range(SEEDS):
                for fast in (None, "auto"):
                    torch.manual_seed(seed)
                    request: Any = TrainRequest(
                        name="m", data=data, target=y, model=build(), epochs=EPOCHS, patience=0, seed=seed, threads=1, fast=fast,
                    )  # fmt: skip
                    job = session.run(request, background=True)
                    model: Any = quietly(job.result)
                    figures.setdefault("as usual" if fast is None else "--fast auto", []).append(
                        model.info.metrics["accuracy"]
                    )
                    if fast:
                        facts = next(event for event in job.events() if type(event).__name__ == "Started").facts
                        chosen = facts.get("fast", "nothing")
            for how, values in figures.items():
                told = ", ".join(f"{value:.4f}" for value in values)
                rows.append(
                    (title, how, told, f"{mean(values):.4f} ± {stdev(values):.4f}", chosen if "fast" in how else "")
                )
    table(
        "The same figures by a faster way",
        ("network", "", f"validation accuracy of {SEEDS} seeds", "mean ± deviation", "picked"),
        rows,
        "Handwritten digits of scikit-learn; each seed has a split, first weights and an order of rows of its own.",
    )
