"""Our service beside itself at another commit, in turns: ``python -m benchmarks.serving.paired FOLDER``.

``FOLDER`` holds the other checkout, made for example by ``git worktree add FOLDER COMMIT``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.measure import machine, table
from benchmarks.serving.bodies import OUTPUT, oip_binary, oip_json
from benchmarks.serving.ours import Ours, trained_by
from benchmarks.serving.server import Server
from benchmarks.serving.servers.network import Network
from benchmarks.serving.turns import MANY, ONE, Contestant, Turns

CASES = (*ONE, *MANY)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.paired", description=__doc__)
    parser.add_argument("folder", type=Path, help="the other checkout")
    parser.add_argument("--seconds", type=int, default=4, help="of each load; %(default)s if left out")
    parser.add_argument("--rounds", type=int, default=5, help="of everything; %(default)s if left out")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        ours = trained_by(options.folder.resolve(), Path(folder))
        network = Network(str(ours.network))
        which = network.outputs.index(OUTPUT)
        here, there = _contestant(ours, "here", Path.cwd()), _contestant(ours, "there", options.folder.resolve())
        turns = Turns(lambda rows: network(rows)[which], options.seconds, options.rounds)
        turns.play(here, there, CASES)
    rows = []
    for case in CASES:
        rates = [median(load.rate for load in one.loads[case]) for one in (here, there)]
        ratios = there.ratios[case]
        told = [f"{ratio:.3f}" for ratio in (median(rate for rate, _ in ratios), median(cpu for _, cpu in ratios))]
        rows.append([f"{case.rows} rows, {case.title}", *(f"{rate:,.0f}" for rate in rates), *told])
    table(
        "This commit beside another",
        ["", "here, req/s", "there, req/s", "here / there", "per CPU second"],
        rows,
        f"Medians of {options.rounds} rounds of {options.seconds} s, loaded in turns; ratios are of one round.",
    )


def _contestant(ours: Ours, title: str, checkout: Path) -> Contestant:
    return Contestant(
        title,
        partial(start, ours, checkout),
        lambda rows, binary: ours.body(oip_binary(rows) if binary else oip_json(rows)),
        CASES,
    )


def start(ours: Ours, checkout: Path, folder: Path) -> Server:
    """Start the service as it is in a checkout."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(checkout)
    try:
        return ours.start(folder)
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
