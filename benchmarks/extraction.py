"""A student trained on a model's answers alone: how well it knocks off the model, with and without hardening.

The teacher reads digits (8 × 8 pixels). The attacker has unlabelled rows, asks the teacher about some of them, and trains a
network of the same size on the probabilities that come back. Agreement is with the teacher's labels on other rows.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from statistics import mean

import numpy as np
import torch
from torch import nn

from benchmarks.measure import missing, quietly, table

HARDENINGS = ("", "round=2", "round=1", "top=1", "round=1,top=1")

SPARE = 300
"""Rows that neither the teacher nor a student is trained on."""


def student(asked: torch.Tensor, answers: np.ndarray, seed: int) -> nn.Module:
    """A network that was trained to answer as the teacher did; what a row lacks to 1 is spread over what was left out."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    out = answers == 0
    lacking = np.clip(1 - answers.sum(axis=1, keepdims=True), 0, 1)
    filled = answers + out * lacking / np.maximum(1, out.sum(axis=1, keepdims=True))
    wanted = torch.tensor(filled / filled.sum(axis=1, keepdims=True), dtype=torch.float32)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, weight_decay=1e-4)
    for _ in range(400):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(asked), wanted).backward()
        optimizer.step()
    return net.eval()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("extraction", description=__doc__)
    parser.add_argument("--asked", type=int, nargs="+", default=[50, 200, 700], help="rows that the teacher is asked")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args(arguments)
    if absent := missing("scikit-learn"):
        print(f"extraction needs {', '.join(absent)}.")
        return
    import pandas as pd
    from sklearn.datasets import load_digits

    torch.set_num_threads(1)
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    order = np.random.default_rng(0).permutation(len(x))
    spare, theirs, own = order[:SPARE], order[SPARE:1_000], order[1_000:]
    with tempfile.TemporaryDirectory() as store:
        os.environ["MAAS_STORE"] = store
        import maas_magics as maas
        from maas_magics.core.inference.hardened import read_harden
        from maas_magics.session import current

        def frame(rows: np.ndarray) -> pd.DataFrame:
            return pd.DataFrame(x[rows], columns=[f"p{i}" for i in range(64)])

        quietly(lambda: maas.train("teacher", data=frame(own).assign(y=y[own]), target="y", model="mlp", epochs=30))
        predictor = current().backend.loader.predictor("teacher")  # type: ignore[attr-defined]

        def ask(rows: np.ndarray) -> np.ndarray:
            found = maas.predict("teacher", frame(rows), probabilities=True).drop(columns="prediction")
            return found.to_numpy(float)

        truth, known = ask(spare).argmax(axis=1), ask(theirs)
    held = torch.tensor(x[spare])
    rows = []
    for said in HARDENINGS:
        harden, cells = read_harden(said), []
        for count in options.asked:
            agreed, right = [], []
            for seed in range(options.seeds):
                some = np.random.default_rng(seed).permutation(len(theirs))[:count]
                answers = known[some] if harden is None else harden.applied(known[some], predictor.answers)
                net = student(torch.tensor(x[theirs[some]]), answers, seed)
                found = net(held).argmax(dim=1).numpy()
                agreed.append(float((found == truth).mean()))
                right.append(float((found == y[spare]).mean()))
            cells.append(f"{mean(agreed):.1%} · {mean(right):.1%}")
        rows.append((said or "all digits", *cells))
    table(
        "A student of answers alone",
        ("answers", *(f"{count} asked" for count in options.asked)),
        rows,
        f"Agreement with the teacher, and accuracy, on {SPARE} other rows; means of {options.seeds} students. "
        f"The teacher has {float((truth == y[spare]).mean()):.1%}.",
    )


if __name__ == "__main__":
    main()
