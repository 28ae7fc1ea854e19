"""Medians of things measured in turns, and tables of them.

A machine has neighbours, so a time alone says little: everything here is run in turns, many
times over, and told as a ratio of medians, in CPU seconds wherever that is what it costs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TypeVar

R = TypeVar("R")
Measured = dict[str, list[float]]

HERE = Path(__file__).resolve().parents[1]
"""This checkout."""


def in_turns(runs: Mapping[str, Callable[[], float]], rounds: int) -> Measured:
    """Call every run once a round, and keep what each answers."""
    found: Measured = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(run())
    return found


def ratios(found: Measured, to: str) -> dict[str, float]:
    """Median of each run's ratio to another run of the same round."""
    return {
        name: median(value / base for value, base in zip(values, found[to], strict=True))
        for name, values in found.items()
    }


def cpu(run: Callable[[], object]) -> float:
    """CPU seconds of this process that a call takes, all threads together."""
    begun = time.process_time()
    run()
    return time.process_time() - begun


def wall(run: Callable[[], object], times: int) -> float:
    """Mean wall seconds of a call."""
    begun = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - begun) / times


def fresh(code: str, *arguments: str, checkout: Path = HERE) -> str:
    """What a script prints in a process and a home of its own, with the package as it is in a checkout."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        places = {"HOME": home, "IPYTHONDIR": home, "MAAS_STORE": f"{home}/store", "OMP_NUM_THREADS": "1"}
        path = os.pathsep.join([str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-P", "-c", code, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | places | {"PYTHONPATH": path}, cwd=home
        )
    if done.returncode:
        raise RuntimeError(f"{code}\n{done.stderr}")
    return done.stdout


def missing(*packages: str) -> list[str]:
    """Those of some distributions that are not installed."""
    absent = []
    for package in packages:
        try:
            version(package)
        except PackageNotFoundError:
            absent.append(package)
    return absent


def beside(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Let a benchmark be given an older checkout, made for example by ``git worktree add FOLDER COMMIT``."""
    parser.add_argument(
        "--beside", type=Path, metavar="FOLDER", required=required, help="another checkout, measured in turns"
    )


def checkouts(options: argparse.Namespace) -> dict[str, Path]:
    """This checkout, and the other one if there is one."""
    other = {} if options.beside is None else {"there": options.beside.resolve()}
    return {"here": HERE, **other}


def machine() -> str:
    """One line about where this runs."""
    shown = ", ".join(f"{name} {version(name)}" for name in ("maas-magics", "torch", "onnxruntime"))
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {shown}"


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> None:
    """Print a Markdown table."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    if note:
        print(f"\n{note}")
    sys.stdout.flush()


def quietly(run: Callable[[], R]) -> R:
    """What a call answers, without what it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return run()
