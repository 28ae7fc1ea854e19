"""The measurement as a whole, and its tables."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.measure import table, wall
from benchmarks.serving.bodies import OUTPUT, Body, oip_binary, oip_json
from benchmarks.serving.load import cores
from benchmarks.serving.ours import trained
from benchmarks.serving.peers import FOLDERS, PEERS, Peer, installed, start
from benchmarks.serving.servers.network import Network
from benchmarks.serving.turns import MANY, ONE, Case, Contestant, Turns

ALONE = {1: "one row", 256: "256 rows"}


def compare(names: Sequence[str], seconds: int, rounds: int) -> None:
    """Measure our service in turns with some peers, and print what came of it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        service = trained(Path(folder))
        network = Network(str(service.network))
        which = network.outputs.index(OUTPUT)
        turns = Turns(lambda rows: network(rows)[which], seconds, rounds)
        ours = Contestant(
            f"**maas_magics {version('maas-magics')}**",
            service.start,
            lambda rows, binary: service.body(oip_binary(rows) if binary else oip_json(rows)),
            (*ONE, *MANY),
        )
        peers = []
        for name in names:
            peer, found = PEERS[name], installed(name)
            begin = partial(start, name, service.network)
            peers.append(Contestant(f"{peer.title} {found}".strip(), begin, partial(_body, peer), _cases(peer)))
            if found:
                turns.play(ours, peers[-1], peers[-1].cases)
            else:
                peers[-1].failed = "not installed"
        left = [case for case in ours.cases if case not in ours.loads]
        if left:
            turns.play(ours, None, left)
        alone = [f"{_limit(network, size):,.0f} times a second on {rows}" for size, rows in ALONE.items()]
    everybody = (ours, *peers)
    apart = "wrk on another" if cores()[0] != cores()[1] else "which wrk shares"
    table(
        "Serving one row a request",
        _header(ONE),
        [_row(one, ONE) for one in everybody],
        f"64 → 256 → 256 → 10 in ONNX Runtime on one thread, the server on one core, {apart}. Medians of {rounds} "
        f"round{'s' * (rounds > 1)} of {seconds} s: in each, ours and a peer are started, and loaded in turns. Ratios are "
        "of one round. Our service asks for a token and counts what it does, as it always does. *First answer*: "
        "seconds from the start of the process to the first right answer with the model.",
    )
    batches = [one for one in everybody if set(MANY) & set(one.cases) and not one.failed]
    table("Serving 256 rows a request", _header(MANY), [_row(one, MANY) for one in batches])
    table(
        "Requests per CPU second of the server",
        ["", *(f"{case.rows} row{'s' * (case.rows > 1)}, {case.title}" for case in (*ONE, *MANY))],
        [[one.title, *(_cost(one, case) for case in (*ONE, *MANY))] for one in everybody if not one.failed],
        "In brackets ours / it. This is what a busy machine changes least. ONNX Runtime alone, in a process, "
        f"runs {' and '.join(alone)}.",
    )
    if any(one.failed == "not installed" for one in peers):
        print(f"\nNot installed: {FOLDERS}=FOLDER python -m benchmarks serving --install")


def _cases(peer: Peer) -> list[Case]:
    return [case for case in (*ONE, *(MANY if peer.batches else ())) if peer.binary or not case.binary]


def _body(peer: Peer, rows: np.ndarray, binary: bool) -> Body:
    return oip_binary(rows) if binary else peer.json(rows)


def _limit(network: Network, size: int) -> float:
    """Runs a second without any server, on the servers' core."""
    able = os.sched_getaffinity(0)
    rows = np.zeros((size, 64), np.float32)
    os.sched_setaffinity(0, {cores()[0]})
    try:
        return 1 / median(wall(lambda: network(rows), 200) for _ in range(20))
    finally:
        os.sched_setaffinity(0, able)


def _header(cases: Sequence[Case]) -> list[str]:
    named = [cell for case in cases for cell in (f"{case.title}: req/s (p50 / p99, ms)", "ours / it")]
    return ["", "first answer, s", *named]


def _row(one: Contestant, cases: Sequence[Case]) -> list[str]:
    if one.failed:
        return [one.title, one.failed, *["–"] * (2 * len(cases))]
    cells = [cell for case in cases for cell in _cells(one, case)]
    return [one.title, f"{median(one.ready):.2f}", *cells]


def _cells(one: Contestant, case: Case) -> tuple[str, str]:
    """What came of a case, and how ours compares."""
    loads, ratios = one.loads.get(case), one.ratios.get(case)
    if not loads:
        return "–", "–"
    wrong = next((load.errors for load in loads if load.errors), "")
    if wrong:
        return f"**error**: {wrong}", "–"
    rate, p50, p99 = (median(getattr(load, figure) for load in loads) for figure in ("rate", "p50", "p99"))
    return f"{rate:,.0f} ({p50:.2f} / {p99:.2f})", f"{median(ratio for ratio, _ in ratios):.1f}×" if ratios else ""


def _cost(one: Contestant, case: Case) -> str:
    """Requests a CPU second, and how ours compares."""
    each = [load.each for load in one.loads.get(case, ()) if load.each and not load.errors]
    if not each:
        return "–"
    ratios = one.ratios.get(case)
    return f"{1 / median(each):,.0f}" + (f" ({median(ratio for _, ratio in ratios):.1f}×)" if ratios else "")
