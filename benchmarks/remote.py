"""`%predict` of many rows on a service of this machine, beside the same in the kernel; and how soon a service answers."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.measure import quietly, table

ROWS, COLUMNS, TURNS = 100_000, 20, 9


def main() -> None:
    """Print both tables."""
    import numpy as np
    import pandas as pd

    from maas_magics.api.requests import ExportRequest, PredictRequest, TrainRequest
    from maas_magics.remote.connect import stop_local
    from maas_magics.session import Session

    os.environ["MAAS_UI"] = "static"
    with tempfile.TemporaryDirectory() as folder:
        here, there = Session(folder), Session(folder)
        made = np.random.default_rng(0)
        frame = pd.DataFrame(made.standard_normal((ROWS, COLUMNS)), columns=[f"c{i}" for i in range(COLUMNS)])
        few = frame.head(2000).assign(y=lambda rows: np.where(rows.c0 + rows.c1 > 0, "yes", "no"))
        quietly(lambda: here.run(TrainRequest(name="m", data=few, target="y", model="linear", epochs=1)))
        quietly(lambda: here.run(TrainRequest(name="net", data=few, target="y", epochs=1)))
        for name in ("m", "net"):
            here.run(ExportRequest(model=name))
        began = time.perf_counter()
        there.connect("local")
        started = time.perf_counter() - began
        try:
            rows = []
            for name, kind in (("m", "linear"), ("net", "mlp")):
                seconds: dict[str, list[float]] = {"here": [], "there": []}
                request = PredictRequest(model=name, data=frame)
                for session in (here, there):
                    session.predict(request)
                for _ in range(TURNS):
                    for place, session in (("here", here), ("there", there)):
                        began = time.perf_counter()
                        session.predict(request)
                        seconds[place].append(time.perf_counter() - began)
                ratio = statistics.median(t / h for h, t in zip(seconds["here"], seconds["there"], strict=True))
                medians = [statistics.median(seconds[place]) for place in ("here", "there")]
                rows.append([kind, *(f"{value:.3f}" for value in medians), f"{ratio:.2f}"])
        finally:
            stop_local(Path(folder))
    table(
        f"Asking for {ROWS:,} rows × {COLUMNS} columns of a DataFrame",
        ("network", "in the kernel, s", "on a service, s", "service / kernel"),
        rows,
        f"Medians of {TURNS} turns; the service has a process of its own on the same cores. "
        f"From `%connect local` to an answer of a service that did not run: {started:.2f} s.",
    )
