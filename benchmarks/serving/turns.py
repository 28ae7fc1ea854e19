"""Our service and a peer, loaded in turns."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks.serving.bodies import Body, probabilities
from benchmarks.serving.load import Load, load
from benchmarks.serving.server import Failed, Server

WARM_UP = 1
"""Seconds of load before each measurement; every status is looked at then."""


@dataclass(frozen=True)
class Case:
    """One kind of load."""

    rows: int
    binary: bool
    connections: int

    @property
    def title(self) -> str:
        """What it says in a table."""
        many = "1 connection" if self.connections == 1 else f"{self.connections} connections"
        return f"{'binary' if self.binary else 'JSON'}, {many}"


ONE = (Case(1, False, 32), Case(1, False, 1), Case(1, True, 32))
MANY = (Case(256, False, 8), Case(256, True, 8))


@dataclass
class Contestant:
    """A server that takes part, and what was found about it.

    Attributes
    ----------
    title : str
    start : callable
        Starts it in an empty folder.
    body : callable
        From rows, and whether in binary, to what it is sent.
    cases : sequence of Case
        What it is asked.
    ready : list of float
        Seconds from its start to its first answer.
    loads : dict
        What came of each load of a case.
    ratios : dict
        Requests a second of ours over this one's in the same round, and requests a CPU second.
    failed : str
        Why it is out.
    """

    title: str
    start: Callable[[Path], Server]
    body: Callable[[np.ndarray, bool], Body]
    cases: Sequence[Case]
    ready: list[float] = field(default_factory=list)
    loads: dict[Case, list[Load]] = field(default_factory=lambda: defaultdict(list))
    ratios: dict[Case, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    failed: str = ""


class Turns:
    """Loads servers with the same rows.

    Parameters
    ----------
    network : callable
        From rows to probabilities: what every server must answer.
    seconds, rounds : int
        How long each load is, and how many times everything is done.
    """

    def __init__(self, network: Callable[[np.ndarray], np.ndarray], seconds: int, rounds: int) -> None:
        made = np.random.default_rng(1)
        self._rows = {case.rows: made.standard_normal((case.rows, 64), dtype=np.float32) for case in (*ONE, *MANY)}
        self._expected = {size: network(rows) for size, rows in self._rows.items()}
        self._seconds = seconds
        self._rounds = rounds

    def play(self, ours: Contestant, peer: Contestant | None, cases: Sequence[Case]) -> None:
        """Start both anew in each round, and load one after the other; a peer that fails is out."""
        both = [ours] if peer is None else [ours, peer]
        for _ in range(self._rounds):
            with ExitStack() as stack:
                servers = [self._started(ours, stack)]
                if peer is not None:
                    try:
                        servers.append(self._started(peer, stack))
                    except Failed as error:
                        peer.failed = str(error)
                        return
                for case in cases:
                    found = [self._load(one, server, case) for one, server in zip(both, servers, strict=True)]
                    if peer is not None and not any(one.errors for one in found):
                        peer.ratios[case].append((found[0].rate / found[1].rate, found[1].each / found[0].each))

    def _started(self, one: Contestant, stack: ExitStack) -> Server:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        server = stack.enter_context(one.start(folder))
        one.ready.append(server.ready(one.body(self._rows[1], False)))
        return server

    def _load(self, one: Contestant, server: Server, case: Case) -> Load:
        body = one.body(self._rows[case.rows], case.binary)
        try:
            answer, expected = probabilities(*server.ask(body)), self._expected[case.rows]
            if answer.shape != expected.shape or not np.allclose(answer, expected, atol=1e-5):
                raise Failed("answered something else than the network does")
            with tempfile.TemporaryDirectory() as folder:
                checked = load(server.url, body, case.connections, WARM_UP, Path(folder), check=True)
                before = server.cpu()
                found = load(server.url, body, case.connections, self._seconds, Path(folder))
                found = replace(found, each=(server.cpu() - before) / max(1, found.requests))
            if checked.errors and not found.errors:
                found = checked
        except (Failed, OSError, LookupError, ValueError) as error:
            found = Load(errors=str(error))
        one.loads[case].append(found)
        return found
