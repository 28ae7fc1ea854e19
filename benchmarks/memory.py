"""Memory that predicting a large DataFrame takes beyond the DataFrame: a few chunks and the answers."""

from __future__ import annotations

import json

from benchmarks.measure import fresh, table

ROWS, COLUMNS = 1_000_000, 20

SCRIPT = """
import gc, json, os, re, sys
os.environ["MAAS_UI"] = "static"
import numpy as np, pandas as pd, pyarrow as pa
import maas_magics as maas
from maas_magics.core.inference.predictor import CHUNK

rows, columns, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
made = np.random.default_rng(0)
frame = pd.DataFrame({f"c{i}": made.standard_normal(rows) for i in range(columns)})
first = frame[:50_000]
target = first["c0"] + first["c1"] if kind == "quantity" else np.where(first["c0"] > 0, "yes", "no")
maas.train("m", data=first.assign(y=target), target="y", model="linear", epochs=1)
maas.export("m")

def resident(which):
    return int(re.search(which + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

maas.predict("m", first)
gc.collect()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts anew
before = resident("VmRSS")
answers = maas.predict("m", frame)
result = int(answers.memory_usage(index=False, deep=False).sum())
print("\\n" + json.dumps([resident("VmHWM") - before, CHUNK * columns * 8, result, len(answers)]))
"""


def main() -> None:
    shown = []
    for kind in ("quantity", "labels"):
        peak, chunk, result, rows = json.loads(fresh(SCRIPT, str(ROWS), str(COLUMNS), kind).splitlines()[-1])
        allowed = 2 * chunk + result
        sizes = (ROWS * COLUMNS * 8, chunk, result, allowed, peak)
        shown.append([kind, f"{rows:,}", *(f"{size / 2**20:.1f}" for size in sizes), f"{peak / allowed:.2f}"])
    table(
        "Peak memory of predicting a DataFrame, MiB over the resident size before",
        ("answers", "rows", "data", "one chunk", "result", "2 chunks + result", "peak", "peak / allowed"),
        shown,
        f"{COLUMNS} columns of float64, in a fresh process, after a warm-up prediction (Linux: VmHWM).",
    )
