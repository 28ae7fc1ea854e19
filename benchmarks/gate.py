"""Fails where a step, a request, ``%load_ext`` or the live view costs more than at another checkout.

Each is measured in turns: here, there, and there once more. The last two are the same code, so how far they lie apart
is the noise of this machine at this hour; a limit counts as passed only where it is passed by more than that.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import load, view
from benchmarks.measure import HERE, Measured, beside, fresh, in_turns, table
from benchmarks.serving.bodies import oip_binary, oip_json
from benchmarks.serving.load import load as loaded
from benchmarks.serving.ours import FEATURES, Ours, trained_by
from benchmarks.serving.paired import start
from benchmarks.serving.turns import MANY, ONE, Case

ROUNDS, SECONDS = 15, 2
VIEW = 0.01

STEP = """
import json, os, time
import numpy as np, torch
from torch import nn
from maas_magics.api.events import EpochEnd, Started
from maas_magics.api.requests import TrainRequest
from maas_magics.session import current

os.environ["MAAS_UI"] = "off"
made = np.random.default_rng(0)
data = tuple(made.standard_normal((9_600, 10), dtype=np.float32) for _ in range(2))
net = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 10))
request = TrainRequest(name="m", data=data, validation=0, model=net, optimizer="Adam", lr=1e-3, batch_size=32,
                       epochs=30, patience=0, threads=1)
marks = []
for event in current().backend.submit(request).events():
    if isinstance(event, (Started, EpochEnd)):
        marks.append(time.process_time())
epochs = [after - before for before, after in zip(marks[1:], marks[2:])]
print("\\n" + json.dumps(min(epochs) / 300))
"""
"""CPU seconds of a lean step, of the fastest epoch of a training."""


@dataclass(frozen=True)
class Gate:
    """What is measured at each checkout, and how much more it may cost here.

    Attributes
    ----------
    title : str
    measure : callable
        From a checkout to CPU seconds.
    limit : float
        Largest share that it may cost more.
    """

    title: str
    measure: Callable[[Path], float]
    limit: float


def step(checkout: Path) -> float:
    """CPU seconds of a training step of 10 → 20 → 10 on 32 rows."""
    return float(json.loads(fresh(STEP, checkout=checkout).strip().splitlines()[-1]))


def extension(checkout: Path) -> float:
    """CPU seconds of ``%load_ext maas_magics``."""
    return float(json.loads(fresh(load.SHELL, "with", checkout=checkout))[1])


def request(ours: Ours, case: Case, checkout: Path) -> float:
    """CPU seconds of the service for one request."""
    rows = np.random.default_rng(1).standard_normal((case.rows, FEATURES), dtype=np.float32)
    body = ours.body(oip_binary(rows) if case.binary else oip_json(rows))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        server = stack.enter_context(start(ours, checkout, folder))
        server.ready(body)
        loaded(server.url, body, case.connections, 1, folder, check=True)
        before = server.cpu()
        found = loaded(server.url, body, case.connections, SECONDS, folder)
        return (server.cpu() - before) / found.requests


def verdict(found: Measured, limit: float) -> tuple[float, float, bool]:
    """How much more it costs here, the noise of that figure, and whether the limit is passed.

    The noise is twice the standard error of the median of ratios between the two runs of the same code: 1.253 times
    that of their mean, with a deviation of 1.483 times the median distance from the median.
    """
    there = [(one + other) / 2 for one, other in zip(found["there"], found["again"], strict=True)]
    more = median(here / usual for here, usual in zip(found["here"], there, strict=True)) - 1
    same = [other / one for one, other in zip(found["there"], found["again"], strict=True)]
    spread = 1.483 * median(abs(ratio - median(same)) for ratio in same)
    noise = 2 * 1.253 * spread / len(same) ** 0.5
    return more, noise, more - noise > limit


def viewed(rounds: int) -> list[float]:
    """Share of a training's CPU time that the threads which show it take, in fresh kernels."""
    shares = []
    for _ in range(rounds):
        with view.Kernel() as kernel:
            kernel.run(320, 1, True)
            spent = kernel.run(*view.LONG, True)[0]
            shares.append(spent[2] / spent[0])
    return shares


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks gate", description=__doc__)
    beside(parser, required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each; %(default)s if left out")
    options = parser.parse_args(arguments)
    places = {"here": HERE, "there": options.beside.resolve(), "again": options.beside.resolve()}
    rows, passed = [], []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # modules are compiled once, as they are for a person
        os.environ["PYTHONPYCACHEPREFIX"] = f"{folder}/bytecode"
        for place in places.values():
            extension(place)
        ours = trained_by(places["there"], Path(folder) / "store")
        gates = [
            Gate("a lean step", step, 0.01),
            Gate("`%load_ext maas_magics`", extension, 0.0),
            *(
                Gate(f"a request of {case.rows} rows, {case.title}", partial(request, ours, case), 0.01)
                for case in (*ONE, *MANY)
            ),
        ]
        for gate in gates:
            runs = {name: partial(gate.measure, place) for name, place in places.items()}
            found = in_turns(runs, options.rounds)
            more, noise, past = verdict(found, gate.limit)
            passed += [gate.title] if past else []
            told = [f"{1e6 * median(found[name]):,.1f}" for name in ("here", "there")]
            rows.append(
                [gate.title, *told, f"{more:+.1%}", f"± {noise:.1%}", f"{gate.limit:+.0%}", "past" if past else ""]
            )
    shares = viewed(max(3, options.rounds // 5))
    share, noise = median(shares), (max(shares) - min(shares)) / 2
    past = share - noise > VIEW
    passed += ["the live view"] if past else []
    rows.append(
        [
            "the live view, of a training",
            f"{share:.2%}",
            "",
            "",
            f"± {noise:.2%}",
            f"{VIEW:.0%}",
            "past" if past else "",
        ]
    )
    table(
        "Gate: CPU time beside another checkout",
        ("", "here, µs", "there, µs", "more", "noise", "limit", ""),
        rows,
        f"Medians of {options.rounds} rounds in turns; the noise is what the same code of there differs by.",
    )
    if passed:
        sys.exit(f"Past the limit: {', '.join(passed)}.")
