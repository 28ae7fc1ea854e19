"""Requests a second of our service beside other model servers, each on one core with ``wrk`` on another.

The peers need environments of their own, in the folder that ``MAAS_PEERS`` names:
``python -m benchmarks serving --install`` makes them.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence


def main(arguments: Sequence[str] = ()) -> None:
    from benchmarks.serving.compare import compare
    from benchmarks.serving.peers import FOLDERS, PEERS, install

    parser = argparse.ArgumentParser(prog="python -m benchmarks serving", description=__doc__)
    usual = ",".join(name for name, peer in PEERS.items() if peer.usual)
    parser.add_argument("--only", default=usual, metavar="NAME,…", help=f"of {', '.join(PEERS)}; {usual} if left out")
    parser.add_argument("--seconds", type=int, default=8, help="of each load; %(default)s if left out")
    parser.add_argument("--rounds", type=int, default=2, help="of everything; %(default)s if left out")
    parser.add_argument("--install", action="store_true", help="make the peers' environments, and measure nothing")
    options = parser.parse_args(arguments)
    names = [name for name in options.only.split(",") if name]
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        parser.error(f"there is no peer {unknown[0]!r}; there is: {', '.join(PEERS)}")
    if min(options.seconds, options.rounds) < 1:
        parser.error("--seconds and --rounds are at least 1")
    if options.install:
        if not os.environ.get(FOLDERS):
            parser.error(f"{FOLDERS} must name the folder for their environments")
        for name in names:
            install(name)
    elif not shutil.which("wrk") or not shutil.which("taskset"):
        print("\nServing is not measured: it takes wrk and taskset (apt-get install wrk util-linux).")
    else:
        compare(names, options.seconds, options.rounds)
