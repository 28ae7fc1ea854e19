"""What asking a model adds to running its ONNX file: `maas.predict` beside a bare ``InferenceSession.run``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import in_turns, quietly, table, wall

FEATURES, CLASSES = 64, 10
ROUNDS = 150
TARGETS = {1: "≤ 50 µs", 1024: "≤ 5 %"}


def exported(name: str, x: Any, y: Any) -> Any:
    """Train two hidden layers a little on some rows, export them, and open the file with ONNX Runtime alone."""
    import onnxruntime
    from torch import nn

    import maas_magics as maas

    layers = (nn.Linear(FEATURES, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, CLASSES))
    quietly(lambda: maas.train(name, data=x, target=y, model=nn.Sequential(*layers), epochs=1))
    file = next(Path(maas.export(name).path).rglob("*.onnx"))
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def row(name: str, kind: str, rows: Any, session: Any, feed: dict[str, Any], times: int) -> list[str]:
    """Both asked in turns about the same rows, as a row of the table."""
    import maas_magics as maas

    def bare() -> object:
        return session.run(None, feed)

    def ours() -> object:
        return maas.predict(name, rows)

    for _ in range(20):
        bare(), ours()
    found = in_turns({"bare": lambda: 1e6 * wall(bare, times), "ours": lambda: 1e6 * wall(ours, times)}, ROUNDS)
    base = median(found["bare"])
    added = median(o - b for o, b in zip(found["ours"], found["bare"], strict=True))
    target = TARGETS.get(len(rows), "") if kind == "array" else ""
    return [kind, f"{len(rows):,}", f"{base:,.0f}", f"{added:+,.0f}", f"{100 * added / base:+.1f} %", target]


def main() -> None:
    import numpy as np
    import pandas as pd

    made = np.random.default_rng(0)
    x = made.standard_normal((4096, FEATURES), dtype=np.float32)
    y = made.integers(0, CLASSES, len(x))
    frame = pd.DataFrame(x, columns=[f"c{i}" for i in range(FEATURES)])
    shown = []
    with tempfile.TemporaryDirectory() as store:
        os.environ |= {"MAAS_STORE": store, "MAAS_UI": "static"}
        session = exported("arrays", x, y)
        name = session.get_inputs()[0].name
        for size, times in ((1, 20), (32, 10), (1024, 3)):
            shown.append(row("arrays", "array", x[:size], session, {name: x[:size]}, times))
        session = exported("tables", frame, y)
        for size, times in ((1, 3), (1024, 3)):
            feed = {column: frame[[column]].to_numpy(np.float64)[:size] for column in frame.columns}
            shown.append(row("tables", "DataFrame", frame[:size], session, feed, times))
    table(
        "maas.predict over InferenceSession.run on the same file",
        ("rows given as", "batch", "ONNX Runtime alone, µs", "added, µs", "added", "target"),
        shown,
        "Wall time, in turns, medians; 64 → 256 → 256 → 10. The session alone gets the arrays that its graph takes, "
        "which for a table are one for each column.",
    )
