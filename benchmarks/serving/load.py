"""Load on a server, by ``wrk`` on a core of its own."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.bodies import Body

SCRIPT = Path(__file__).with_name("post.lua")


def cores() -> tuple[int, int]:
    """Core of the server, and core of the load."""
    able = sorted(os.sched_getaffinity(0))
    return able[0], able[-1]


@dataclass(frozen=True)
class Load:
    """What came of a load.

    Attributes
    ----------
    rate : float
        Requests a second.
    p50, p99 : float
        Milliseconds that half of the requests, and all but a hundredth of them, took at most.
    requests : int
    errors : str
        What went wrong.
    each : float
        CPU seconds of the server for one request.
    """

    rate: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    requests: int = 0
    errors: str = ""
    each: float = 0.0


def load(
    url: str,
    body: Body,
    connections: int,
    seconds: int,
    folder: Path,
    check: bool = False,
    script: Path = SCRIPT,
) -> Load:
    """Post a body on some connections for some seconds; ``check`` counts whatever is not 200, and is slower."""
    data, headers = folder / "body", folder / "headers"  # a file, for a command line is everybody's to read
    data.write_bytes(body.data)
    headers.write_text("".join(f"{name}: {value}\n" for name, value in body.headers.items()))
    command = ["taskset", "-c", str(cores()[1]), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s"]
    done = subprocess.run(
        [*command, "-s", str(script), url, "--", str(data), str(headers)],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "CHECK"} | ({"CHECK": "1"} if check else {}),
    )
    if done.returncode:
        return Load(errors=(done.stderr or done.stdout).strip()[:200])
    found = json.loads(done.stdout.splitlines()[-1])
    wrong = [f"{found['refused']:,} of {found['requests']:,} not 200"] if found["refused"] else []
    wrong += [f"{found['broken']:,} broken connections"] if found["broken"] else []
    wrong += [] if found["requests"] else ["no answer"]
    rate = found["requests"] / found["seconds"]
    return Load(rate, found["p50"], found["p99"], found["requests"], ", ".join(wrong))
