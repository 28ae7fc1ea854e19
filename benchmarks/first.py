"""Seconds from the first ``%train`` of a fresh kernel to its first step, with torch and pandas imported before."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from statistics import median

from benchmarks.measure import beside, checkouts, fresh, in_turns, ratios, table

ROUNDS = 9

CELLS = """
import json, os, sys, time
import numpy as np, pandas as pd, torch
import ipykernel.zmqshell
from IPython.core.interactiveshell import InteractiveShell

os.environ["MAAS_UI"] = "static"
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "maas_magics")
made = np.random.default_rng(0).standard_normal((20_000, 10))
shell.user_ns["df"] = pd.DataFrame(made, columns=list("abcdefghij")).assign(y=made[:, 0] * made[:, 1])
before = len(sys.modules)
cpu, wall = time.process_time(), time.perf_counter()
shell.run_cell("job = get_ipython().run_line_magic('train', 'm --data df --target y --threads 1 -b')")
next(event for event in shell.user_ns["job"].events() if type(event).__name__ == "Step")
found = [time.process_time() - cpu, time.perf_counter() - wall, len(sys.modules) - before]
print("\\n" + json.dumps(found), flush=True)
os._exit(0)
"""


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks first", description=__doc__)
    beside(parser)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="%(default)s if left out")
    options = parser.parse_args(arguments)
    places = checkouts(options)
    found: dict[str, list[list[float]]] = {name: [] for name in places}

    def first(name: str) -> float:
        found[name].append(json.loads(fresh(CELLS, checkout=places[name]).strip().splitlines()[-1]))
        return found[name][-1][0]

    turns = in_turns({name: lambda name=name: first(name) for name in places}, options.rounds)  # type: ignore[misc]
    rows = [
        [name, *(f"{median(one[index] for one in runs):.2f}" for index in (0, 1)), f"{runs[0][2]:.0f}"]
        for name, runs in found.items()
    ]
    told = f" here / there: {ratios(turns, 'there')['here']:.2f} of the CPU seconds." if "there" in places else ""
    table(
        "The first `%train` of a fresh kernel, to its first step",
        ("", "CPU s", "wall s", "modules imported"),
        rows,
        f"Medians of {options.rounds} fresh processes in turns, IPython, torch and pandas imported before; a table of "
        f"20,000 rows and 10 numbers.{told}",
    )
