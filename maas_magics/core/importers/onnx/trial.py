"""Runs a file of someone else's on some rows, in a process of its own: a bad file may take its process with it.

``python -m maas_magics.core.importers.onnx.trial FILE ROWS`` gets inputs and gives answers through pipes, asking
so many rows at a time; all at once where 0.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maas_magics.api.child import python
from maas_magics.api.errors import ModelError
from maas_magics.core.data.arrow import Array
from maas_magics.core.exporters import handed

SECONDS = 600


@dataclass(frozen=True)
class Answered:
    """What a file answers to some rows.

    Attributes
    ----------
    name : str
        Of the output.
    values : ndarray, shape (n, …)
        What it answers.
    keys : tuple
        Labels of the columns, where each row was a map from labels to scores.
    """

    name: str
    values: Array
    keys: tuple[Any, ...] = ()


class Unanswered(Exception):
    """A file does not open, or does not answer; the text is ONNX Runtime's."""


def answers_of(file: Path, inputs: Mapping[str, Array], batch: int = 0) -> list[Answered]:
    """What a file answers to some rows, from another process.

    Parameters
    ----------
    file : Path
        ONNX file.
    inputs : mapping of str to ndarray, shape (n, …)
        By the names of the graph's inputs.
    batch : int
        Rows that it takes at a time; 0 for any number.

    Raises
    ------
    Unanswered
        If that process fails or dies.
    """
    given: dict[str, Any] = {
        f"in {name}": values.astype(str) if values.dtype == object else values for name, values in inputs.items()
    }
    command = python("maas_magics.core.importers.onnx.trial", str(file), str(batch))
    data = b""
    try:
        done = subprocess.run(command, input=handed.written(**given), capture_output=True, timeout=SECONDS, check=False)
        code, data, told = done.returncode, done.stdout, done.stderr.decode(errors="replace").strip().splitlines()
    except subprocess.TimeoutExpired:
        code, told = 1, [f"it gave no answer in {SECONDS} s"]
    if code:
        why = f"the process that opened it died with signal {-code}" if code < 0 else (told or ["it failed"])[-1]
        raise Unanswered(why)
    found = handed.read(data)
    return [_read(found, place, name) for place, name in enumerate(found["names"].tolist())]


def checked(answered: list[Answered], rows: int, file: Path) -> list[Answered]:
    """The answers, where each is one for each row.

    Parameters
    ----------
    answered : list of Answered
        What a file answers.
    rows : int
        How many were given.
    file : Path
        What errors call it.

    Raises
    ------
    ModelError
        If one is not.
    """
    for each in answered:
        if each.values.shape[:1] != (rows,):
            raise ModelError(
                f"The output {each.name!r} of {file} has the shape {each.values.shape} for {rows} rows.",
                "Export it with an answer for each row: the first axis is the batch.",
            )
    return answered


def _read(found: Mapping[str, Array], place: int, name: str) -> Answered:
    values = found[f"out{place}"]
    values = values.astype(object) if values.dtype.kind == "U" else values
    keys = found[f"keys{place}"].tolist() if f"keys{place}" in found else ()
    return Answered(name, values, tuple(keys))


def main(file: str, batch: str) -> None:
    """Answer the rows of the input."""
    from maas_magics.core.runtimes.engine import opened

    out, given = handed.answer_stream(), handed.read(sys.stdin.buffer.read())
    session = opened(Path(file), cpu=True)
    inputs = {
        name.removeprefix("in "): values.astype(object) if values.dtype.kind == "U" else values
        for name, values in given.items()
    }
    rows = len(next(iter(inputs.values())))
    size = int(batch) or rows
    parts = [
        session.run(None, {name: _some(values, start, size) for name, values in inputs.items()})
        for start in range(0, rows, size)
    ]
    names = [value.name for value in session.get_outputs()]
    saved: dict[str, Any] = {"names": np.array(names)}
    for place, values in enumerate(zip(*parts, strict=True)):
        if isinstance(values[0], list) and values[0] and isinstance(values[0][0], dict):
            maps = [one for part in values for one in part]
            keys = list(maps[0])
            saved[f"keys{place}"] = np.array(keys)
            whole = np.array([[one[key] for key in keys] for one in maps])
        elif isinstance(values[0], np.ndarray):
            whole = np.concatenate(values) if values[0].ndim else np.array(values)
        else:
            raise TypeError(f"the output {names[place]!r} is a sequence, not a tensor")
        saved[f"out{place}"] = (whole.astype(str) if whole.dtype == object else whole)[: rows if size > 1 else None]
    with out:
        out.write(handed.written(**saved))


def _some(values: Array, start: int, size: int) -> Array:
    """So many rows; the last ones again where there are too few."""
    return values[np.minimum(np.arange(start, start + size), len(values) - 1)]


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:  # the last line is what the user gets to read
        sys.exit(" ".join(f"{error}".split())[:400])
