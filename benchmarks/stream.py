"""Training on a file: resident memory and rows a second, streamed from disk beside held in memory."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import fresh, table

COLUMNS = 20
GROUP = 500_000
"""Rows of a row group."""

SCRIPT = """
import json, re, sys, time
from maas_magics.api.requests import TrainRequest
from maas_magics.api.events import EpochEnd, Started
from maas_magics.session import Session

file, small, stream, epochs = sys.argv[1], sys.argv[2], sys.argv[3] == "stream", int(sys.argv[4])
session = Session(sys.argv[5], notify=lambda text: None)

def run(path, epochs):
    request = TrainRequest(
        name="m", data=path, target="y", model="linear", batch_size=4096, epochs=epochs, stream=stream
    )
    job = session.run(request, background=True)
    spent = {}
    for event in job.events():
        spent[type(event)] = time.process_time(), event
    job.result()
    return spent

def resident(which):
    return int(re.search(which + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

run(small, 1)
before = resident("VmRSS")
with open("/proc/self/clear_refs", "w") as out:
    out.write("5")  # the peak starts anew
begun = time.process_time()
spent = run(file, epochs)
first, (ended, last) = spent[Started][0], spent[EpochEnd]
speed = last.samples / (ended - first)
print("\\n" + json.dumps([resident("VmHWM"), resident("VmHWM") - before, first - begun, speed, last.validation]))
"""


def make(file: Path, rows: int) -> None:
    """A Parquet file of random numbers, and a target that is a noisy sum of three of them."""
    made = np.random.default_rng(0)
    writer = None
    for start in range(0, rows, GROUP):
        values = made.standard_normal((min(GROUP, rows - start), COLUMNS))
        target = values[:, 0] - 2 * values[:, 1] + values[:, 2] + 0.1 * made.standard_normal(len(values))
        part = pa.table({**{f"c{i}": values[:, i] for i in range(COLUMNS)}, "y": target})
        writer = writer or pq.ParquetWriter(file, part.schema, use_dictionary=False)
        writer.write_table(part)
    assert writer is not None
    writer.close()


def main(options: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks stream")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the Parquet file")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--folder", default=None, help="where the file, and the encoded rows, are put")
    parser.add_argument("--only-stream", action="store_true", help="leave out the training in memory")
    given = parser.parse_args(options)
    rows = int(given.gigabytes * 1e9 / ((COLUMNS + 1) * 8))
    shown: list[list[str]] = []
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        file, small = Path(folder) / "large.parquet", Path(folder) / "small.parquet"
        make(file, rows)
        make(small, 20_000)
        size = file.stat().st_size
        found = {}
        for way in ("stream",) if given.only_stream else ("stream", "memory"):
            told = fresh(SCRIPT, str(file), str(small), way, str(given.epochs), f"{folder}/{way}")
            found[way] = json.loads(told.splitlines()[-1])
        for way, (peak, growth, prepared, speed, figures) in found.items():
            other = found.get("memory", found["stream"])
            shown.append(
                [
                    way,
                    f"{peak / 2**20:,.0f}",
                    f"{growth / 2**20:,.0f}",
                    f"{growth / size:.2f}",
                    f"{prepared:.0f}",
                    f"{prepared / other[2]:.2f}",
                    f"{speed / other[3]:.2f}",
                    f"{figures['r2']:.4f}",
                ]
            )
    table(
        f"Training on a Parquet file of {size / 1e9:.2f} GB: {rows:,} rows of {COLUMNS} numbers",
        (
            "rows come from",
            "peak, MiB",
            "growth, MiB",
            "growth / file",
            "CPU s until the first step",
            "of those in memory",
            "rows per CPU s, of those in memory",
            "R²",
        ),
        shown,
        f"`linear`, batch 4,096, {given.epochs} epochs with validation, in a fresh process after a training on 20,000 rows "
        "(Linux: VmHWM).",
    )
