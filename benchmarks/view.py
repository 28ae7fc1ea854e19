"""What the live view takes from a training in a real kernel, and what it sends."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from statistics import median
from typing import Any

from benchmarks.measure import table

ROUNDS = 6
LONG, STEPS = (32_000, 160), 1_200
"""Rows and epochs of the long training, steps of the one whose messages are counted."""

CELL = """
import json, threading, time
import numpy as np, torch
from torch import nn
from maas_magics import train
from maas_magics.api.events import EpochEnd, Started
from maas_magics.api.requests import TrainRequest
from maas_magics.session import current

SHOWING = ("maas-events", "maas-view", "IOPub")

def clocks():
    showing = [t.ident for t in threading.enumerate() if t.name in SHOWING]
    spent = sum(time.clock_gettime(time.pthread_getcpuclockid(ident)) for ident in showing)
    return np.array([time.process_time(), time.perf_counter(), spent])

def run(rows, epochs, live):
    made = np.random.default_rng(0)
    data = tuple(made.standard_normal((rows, 10), dtype=np.float32) for _ in range(2))
    given = dict(data=data, validation=0.1, model=nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 10)),
                 optimizer="Adam", lr=1e-3, batch_size=32, epochs=epochs, threads=1)
    begun = clocks()
    job = train("m", background=True, **given) if live else current().backend.submit(TrainRequest(name="m", **given))
    for event in job.events():
        if isinstance(event, Started):
            first = clocks()
        elif isinstance(event, EpochEnd):
            last = clocks()
    job.result()
    for thread in threading.enumerate():
        if thread.name == "maas-view":
            thread.join()
    return [*(last - first), *(clocks() - begun)[:2]]

print("\\n" + json.dumps(run(*{arguments})))
"""


class Kernel:
    """A fresh IPython kernel with a store of its own, and a client that reads like a page without widgets."""

    def __enter__(self) -> Kernel:
        from jupyter_client.kernelspec import KernelSpec
        from jupyter_client.manager import KernelManager

        self._home = tempfile.TemporaryDirectory()
        place = self._home.name
        launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
        self._manager = KernelManager()
        self._manager._kernel_spec = KernelSpec(argv=launch, display_name="benchmark", language="python")
        apart = {"MAAS_STORE": f"{place}/store", "IPYTHONDIR": place, "OMP_NUM_THREADS": "1", "MAAS_UI": ""}
        self._manager.start_kernel(env=os.environ | apart)
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._home.cleanup()

    def run(self, rows: int, epochs: int, live: bool) -> tuple[list[float], int, int]:
        """Seconds, and the messages and bytes sent meanwhile.

        The seconds are CPU and wall of the training, CPU of the threads that show and send, CPU and wall of the call.
        """
        source = CELL.replace("{arguments}", repr((rows, epochs, live)))
        printed, messages, size = "", 0, 0

        def hook(message: dict[str, Any]) -> None:
            nonlocal printed, messages, size
            content = message["content"]
            if message["msg_type"] == "error":
                raise RuntimeError("\n".join(content["traceback"]))
            messages += 1
            size += len(json.dumps([message["header"], message["metadata"], content], default=str))
            size += sum(len(memoryview(part)) for part in message["buffers"])
            if message["msg_type"] == "stream" and content["name"] == "stdout":
                printed += content["text"]

        self._client.execute_interactive(source, output_hook=hook, timeout=600)
        return json.loads(printed.strip().splitlines()[-1]), messages, size


def main() -> None:
    found: dict[bool, list[list[float]]] = {False: [], True: []}
    for turn in range(ROUNDS):
        with Kernel() as kernel:
            kernel.run(320, 1, True)  # imports of torch, of the exporter, and of what the view needs
            for live in (False, True) if turn % 2 else (True, False):
                found[live].append(kernel.run(*LONG, live)[0])
    sent = {}
    for live in (False, True):
        with Kernel() as kernel:
            kernel.run(320, 1, live)
            sent[live] = kernel.run(STEPS * 32 * 10 // 9, 1, live)[1:]
    shown = []
    for index, name in ((0, "CPU, training"), (1, "wall, training"), (3, "CPU, whole call"), (4, "wall, whole call")):
        off, on = (median(seconds[index] for seconds in found[live]) for live in (False, True))
        ratios = sorted(b[index] / a[index] for a, b in zip(found[False], found[True], strict=True))
        spread = f"{median(ratios):.2f} ({ratios[0]:.2f} … {ratios[-1]:.2f})"
        shown.append([name, f"{off:.2f}", f"{on:.2f}", spread])
    share = median(seconds[2] / seconds[0] for seconds in found[True])
    table(
        "The live view in a kernel",
        ("seconds", "view off", "view on", "on / off (least … most)"),
        shown,
        f"Medians of {ROUNDS} fresh kernels that train with and without the view, in either order: 10 → 20 → 10 in "
        f"batches of 32, {LONG[1]} epochs. The whole call also exports and publishes the model, and with the view draws "
        "the picture that stays in the notebook. Two trainings on a shared machine differ by more than a view costs, "
        "so the CPU time of the threads that show and send is read as well: "
        f"**{100 * share:.2f} %** of the training's (target: < 1 %).",
    )
    table(
        f"Messages of a training of {STEPS:,} steps",
        ("", "messages", "bytes"),
        [[f"view {'on' if live else 'off'}", f"{sent[live][0]:,}", f"{sent[live][1]:,}"] for live in (False, True)],
        "What a client gets, the cell's own few messages (busy, input, output, idle) included.",
    )
