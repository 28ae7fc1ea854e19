"""Pictures drawn from captions: how many pairs of digits that were never seen together come out right, and what one costs.

Two of scikit-learn's digits of 8 × 8 pixels stand side by side, and the caption names them. Ten ordered pairs are held
out; a classifier that learnt from real digits, and none that were drawn, reads both halves of what is drawn for them.
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

from benchmarks.measure import quietly, table

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
NEVER = [(left, (3 * left + 1) % 10) for left in range(10)]
"""Pairs that no training row shows: each digit misses one neighbour on either side."""

ROWS, EACH, SEEDS = 6000, 40, 2
"""Training pictures, pictures drawn of each pair, and trainings."""

EPOCHS = (6, 10, 0)
"""Of a training; 0 is as many as are usual."""

STEPS = (2, 4, 8)


def main() -> None:
    """Print one table: CPU seconds of a training, share of the pictures that are read as asked, milliseconds of one."""
    import torch

    torch.set_num_threads(1)
    shown = []
    with tempfile.TemporaryDirectory() as home:
        os.environ["MAAS_STORE"] = home
        for epochs in EPOCHS:
            runs = [quietly(lambda epochs=epochs, seed=seed: _run(epochs, seed)) for seed in range(SEEDS)]
            seconds = sum(run["seconds"] for run in runs) / SEEDS
            each = [f"{sum(run['right'][steps] for run in runs) / SEEDS:.1%}" for steps in STEPS]
            cost = [f"{min(run['ms'][steps] for run in runs):.1f}" for steps in STEPS]
            shown.append([str(runs[0]["epochs"]), f"{seconds:.0f}", *each, *cost])
            print("·", *shown[-1], flush=True)
    head = ["epochs", "CPU s", *(f"right, {n} steps" for n in STEPS), *(f"ms a picture, {n} steps" for n in STEPS)]
    told = f"Means of {SEEDS} seeds, {EACH} pictures of each of {len(NEVER)} pairs; by chance 1 % would be right. "
    table("pairs of digits never seen together, one thread", head, shown, told + "ONNX Runtime draws, guidance 2.")


def _run(epochs: int, seed: int) -> dict[str, Any]:
    """One training, exported, and what is drawn by it."""
    import numpy as np
    import pandas as pd
    from sklearn.datasets import load_digits
    from sklearn.svm import SVC

    import maas_magics as maas

    digits, random = load_digits(), np.random.default_rng(seed)
    pictures, labels = digits.images / 16, digits.target
    real = random.permutation(len(labels))[:1400]
    written = [real[labels[real] == digit] for digit in range(10)]
    seen = [(left, right) for left in range(10) for right in range(10) if (left, right) not in NEVER]
    pairs = [seen[place] for place in random.integers(len(seen), size=ROWS)]
    rows = pd.DataFrame(
        {
            "picture": [np.hstack([pictures[random.choice(written[digit])] for digit in pair]) for pair in pairs],
            "caption": [_caption(*pair) for pair in pairs],
        }
    )
    begun = time.process_time()
    more: dict[str, Any] = {"epochs": epochs} if epochs else {}
    made = maas.train("digits", rows, "picture", text="caption", model="flow", seed=seed, **more)
    seconds = time.process_time() - begun
    maas.export("digits")
    reader = SVC(C=10, gamma=0.25).fit(pictures[real].reshape(-1, 64), labels[real])
    wanted = np.array(NEVER * EACH)
    right, cost = {}, {}
    for steps in STEPS:
        found = maas.predict("digits", [_caption(*pair) for pair in NEVER] * EACH, seed=seed, steps=steps).array / 255
        halves = [reader.predict(half.reshape(-1, 64)) for half in (found[:, :, :8], found[:, :, 8:])]
        right[steps] = float(((halves[0] == wanted[:, 0]) & (halves[1] == wanted[:, 1])).mean())
        cost[steps] = min(_milliseconds(steps) for _ in range(30))
    return {"seconds": seconds, "right": right, "ms": cost, "epochs": made.epochs}


def _milliseconds(steps: int) -> float:
    import maas_magics as maas

    begun = time.process_time()
    maas.predict("digits", "three left of seven", steps=steps)
    return 1_000 * (time.process_time() - begun)


def _caption(left: int, right: int) -> str:
    return f"{NAMES[left]} left of {NAMES[right]}"
