"""What keeping a training's whole state on disk takes from it: every ten seconds, and as seldom as by default."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.measure import table

SECONDS, EVERY, TURNS = 25.0, "10s", 3


def main() -> None:
    """Print one table."""
    import torch

    from maas_magics.core.batches.batches import InMemory
    from maas_magics.core.losses.make import make_loss
    from maas_magics.core.tasks.regression import Regression
    from maas_magics.core.training.checkpoint import Checkpoints
    from maas_magics.core.training.loop import fit
    from maas_magics.core.training.plan import Plan
    from maas_magics.core.training.steps.optimizers import Optimizer
    from maas_magics.core.training.steps.schedules import constant

    torch.set_num_threads(1)
    answers = Regression(("y",), center=(0.0,), scale=(1.0,))
    sizes = {"10 → 20 → 10, 430 weights": (10, 20, 10), "512 → 2048 → 2048 → 10, 5.3 million": (512, 2048, 2048, 10)}

    def run(widths: tuple[int, ...], every: str | None, keep: bool, folder: Path) -> tuple[float, float, int]:
        """Samples a CPU second of the loop, CPU seconds, and checkpoints."""
        torch.manual_seed(0)
        layers: list[torch.nn.Module] = []
        for one, other in zip(widths, widths[1:], strict=False):
            layers += [torch.nn.Linear(one, other), torch.nn.ReLU()]
        net = torch.nn.Sequential(*layers[:-1])
        x, y = torch.randn(8_000, widths[0]), torch.randn(8_000, widths[-1])
        plan = Plan(make_loss("mse", answers, None, 0.0), answers, {}, "loss", "min", 10**6, 0, constant, 0)
        until = time.perf_counter() + SECONDS
        told: list[object] = []
        began = time.process_time()
        history = fit(
            net,
            Optimizer(net, "Adam", 1e-4, None, {}),
            InMemory((x,), y, 128),
            None,
            plan,
            told.append,
            lambda: "soft" if time.perf_counter() > until else "",
            Checkpoints(folder, every) if keep else None,
        )
        spent = time.process_time() - began
        count = sum(type(event).__name__ == "CheckpointSaved" for event in told)
        return history.epochs * len(x) / spent, spent, count

    rows = []
    for title, widths in sizes.items():
        ratios: dict[str, list[float]] = {EVERY: [], "default": []}
        counts: dict[str, int] = {}
        for turn in range(TURNS):
            found = {}
            names = ["none", *ratios]
            for name in names if turn % 2 else reversed(names):
                with tempfile.TemporaryDirectory() as place:
                    rate, _, counts[name] = run(widths, EVERY if name == EVERY else None, name != "none", Path(place))
                    found[name] = rate
            for name, values in ratios.items():
                values.append(found["none"] / found[name] - 1)
        for name, values in ratios.items():
            spread = f"{min(values):+.1%} to {max(values):+.1%}"
            rows.append((title, name, str(counts[name]), f"{statistics.median(values):+.1%}", spread))
    table(
        "What checkpoints cost",
        ("network", "every", "checkpoints", "CPU time more", "range"),
        rows,
        f"Loops of {SECONDS:g} s on one thread with and without, in turns, {TURNS} times; samples per CPU second. The last "
        "checkpoint, at a training's end, counts as well.",
    )
