"""A server as a process of its own, on one core."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.serving.bodies import LENGTH, Body
from benchmarks.serving.load import cores

LONGEST = 60.0
"""Seconds that a server may take to start."""

PATIENCE = 10.0
"""Seconds that it may take to end."""


class Failed(Exception):
    """A server that did not start, or answered wrongly."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Told(NamedTuple):
    """What the system tells of a process: whose it is, when it was born, and the CPU time that it took."""

    parent: int
    session: int
    born: int
    ticks: int


def _processes() -> dict[int, Told]:
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # one that has ended meanwhile
            fields = file.read_text().rpartition(")")[2].split()
            parent, session, born, user, system = (int(fields[place]) for place in (1, 3, 19, 11, 12))
            found[int(file.parent.name)] = Told(parent, session, born, user + system)
    return found


class Server:
    """Runs a command until the block ends, and every process that it starts.

    Parameters
    ----------
    command : sequence of str
    environment : mapping
        Added to this process's.
    folder : Path
        Where it runs; its log goes to a file ``log`` there.
    url : str
        Where it answers.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, url: str) -> None:
        self.url = url
        self._log = folder / "log"
        self._began = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(cores()[0]), *command],
                cwd=folder,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        family = self._family()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        for number, told in _processes().items():
            if number in family and family[number].born == told.born:  # not another that got its number meanwhile
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
        self._process.wait()

    def _family(self) -> dict[int, Told]:
        """The process and all that it started, which may have left its session."""
        everybody = _processes()
        found, more = set(), {self._process.pid}
        while more:
            found |= more
            more = {
                number
                for number, told in everybody.items()
                if number not in found and (told.parent in found or told.session == self._process.pid)
            }
        return {number: everybody[number] for number in found if number in everybody}

    @property
    def pid(self) -> int:
        """Its first process."""
        return self._process.pid

    def cpu(self) -> float:
        """CPU seconds so far, of all its processes that still run."""
        return sum(told.ticks for told in self._family().values()) / os.sysconf("SC_CLK_TCK")

    def ask(self, body: Body) -> tuple[bytes, int | None]:
        """Post a body once: the answer, and how many bytes of it are JSON before tensors.

        Raises
        ------
        Failed
            If the answer is not 200.
        """
        request = urllib.request.Request(self.url, body.data, body.headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                if answer.status != 200:
                    raise Failed(f"answered {answer.status}")
                head = answer.headers.get(LENGTH)
                return answer.read(), None if head is None else int(head)
        except urllib.error.HTTPError as error:
            raise Failed(f"answered {error.code}: {error.read(200).decode(errors='replace')}") from None

    def ready(self, body: Body) -> float:
        """Wait for the first answer: seconds since the process was started.

        Raises
        ------
        Failed
            If it ended, or took too long.
        """
        why: Exception | None = None
        while time.perf_counter() - self._began < LONGEST:
            try:
                self.ask(body)
                return time.perf_counter() - self._began
            except (OSError, Failed) as error:
                why = error
            if self._process.poll() is not None:
                lines = self._log.read_text(errors="replace").strip().splitlines()
                raise Failed(f"ended: {lines[-1] if lines else self._process.returncode}"[:200])
            time.sleep(0.01)
        raise Failed(f"did not answer within {LONGEST:g} s: {why}"[:200])
