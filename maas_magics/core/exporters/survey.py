"""Opens several ONNX files in one process of its own: how each answers, and what each costs, measured in turns.

``python -m maas_magics.core.exporters.survey VERSION WORK NAME …`` reads ``WORK/inputs.npz`` and the files
``WORK/NAME/model.onnx``. Where a file takes the process with it, a new one goes on with the next.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from maas_magics.api.child import python
from maas_magics.core.data.arrow import Array
from maas_magics.core.exporters.handed import packed, unpacked

ROUNDS = 15
"""Turns in which all files are timed."""

SECONDS = 4.0
"""CPU seconds after which no further turn begins."""

SLICE = 0.004
"""Seconds that the calls of a file take in a turn, at least."""


def hand_over(work: Path, raw: Sequence[Array]) -> None:
    """Write the rows that the files are asked.

    Parameters
    ----------
    work : Path
        Folder that has the files.
    raw : sequence of ndarray, shape (n, …)
        Inputs.
    """
    (work / "inputs.npz").write_bytes(packed(raw))


def ask_each(version: Path, work: Path, names: Sequence[str]) -> Iterator[tuple[str, Array | None]]:
    """Answers of each file, as they come; None of one that cannot be opened.

    Parameters
    ----------
    version : Path
        Folder of the model's own files.
    work : Path
        Folder that has the files.
    names : sequence of str
        Folders in it.
    """
    left = list(names)
    while left:
        command = python("maas_magics.core.exporters.survey", "ask", str(version), str(work), *left)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
            assert running.stdout is not None
            try:
                for line in running.stdout:
                    if line.startswith("done "):
                        name = left.pop(0)
                        yield name, np.load(work / name / "answers.npy") if line.strip() == "done well" else None
            finally:
                running.kill()
        if running.returncode and left:
            yield left.pop(0), None  # it took the process with it


def time_each(version: Path, work: Path, names: Sequence[str]) -> dict[str, list[float]]:
    """Milliseconds of a call of one row, of each file, one for each turn; empty where the process failed.

    Parameters
    ----------
    version : Path
        Folder of the model's own files.
    work : Path
        Folder that has the files.
    names : sequence of str
        Folders in it.
    """
    command = python("maas_magics.core.exporters.survey", "time", str(version), str(work), *names)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if not done.returncode and done.stdout else {}


def main(what: str, version: str, work: str, *names: str) -> None:
    """Ask or time some files."""
    from maas_magics.core.exporters.by_task import exporter_of
    from maas_magics.core.exporters.examples import ask, padded_inputs
    from maas_magics.core.store.manifest import read_manifest, read_processor

    folder, place = Path(version), Path(work)
    answers, padded = read_manifest(folder).answers, padded_inputs(read_processor(folder))
    raw = unpacked((place / "inputs.npz").read_bytes())
    exporter = exporter_of("onnx", answers)

    def opened(name: str) -> Callable[[Sequence[Array]], Array]:
        return exporter.load(place / name / exporter.file, folder, None)

    if what == "time":
        from maas_magics.core.runtimes.engine import Engine

        # threads of one session that wait in a loop would take the processor from the next
        runs = {name: Engine(place / name / exporter.file, shared=True).run for name in names}
        print(json.dumps(_timed(runs, [values[:1] for values in raw])))
        return
    for name in names:
        try:
            np.save(place / name / "answers.npy", ask(opened(name), raw, padded))
        except Exception:  # whatever a file raises, the next one is asked
            print("done badly", flush=True)
        else:
            print("done well", flush=True)


def _timed(runs: Mapping[str, Callable[[Sequence[Array]], Any]], row: Sequence[Array]) -> dict[str, list[float]]:
    calls = {}
    for name, run in runs.items():
        run(row)
        begun = perf_counter()
        run(row)
        calls[name] = max(1, min(50, int(SLICE / max(1e-6, perf_counter() - begun))))
    found: dict[str, list[float]] = {name: [] for name in runs}
    begun = process_time()
    for _ in range(ROUNDS):
        for name, run in runs.items():
            started = perf_counter()
            for _ in range(calls[name]):
                run(row)
            found[name].append(1000 * (perf_counter() - started) / calls[name])
        if process_time() - begun > SECONDS:
            break
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
