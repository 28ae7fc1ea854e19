"""Rows and answers as bytes, for a process that opens an exported file: they go through pipes, never onto a disk."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from maas_magics.core.data.arrow import Array

Ask = Callable[[Sequence[Array]], tuple[int, bytes, list[str]]]


def packed(raw: Sequence[Array]) -> bytes:
    """Inputs of an exported file.

    Parameters
    ----------
    raw : sequence of ndarray, shape (n, …)
        Inputs.
    """
    given: dict[str, Any] = {
        str(i): values.astype(str) if values.dtype == object else values for i, values in enumerate(raw)
    }
    return written(**given)


def unpacked(data: bytes) -> list[Array]:
    """The inputs that `packed` was given.

    Parameters
    ----------
    data : bytes
        What it returned.
    """
    with np.load(io.BytesIO(data)) as given:
        return [
            given[name].astype(object) if given[name].dtype.kind == "U" else given[name]
            for name in sorted(given, key=int)
        ]


def written(**arrays: Any) -> bytes:
    """Arrays by name, as numpy writes them."""
    found = io.BytesIO()
    np.savez(found, **arrays)
    return found.getvalue()


def read(data: bytes) -> dict[str, Array]:
    """The arrays that `written` was given.

    Parameters
    ----------
    data : bytes
        What it returned.
    """
    with np.load(io.BytesIO(data)) as found:
        return dict(found)


@contextmanager
def started(command: Sequence[str], seconds: float) -> Iterator[Ask]:
    """A process that will get rows: it runs from now on, so that it has imported what it needs once they are there.

    Yields what hands them to it, once, and returns its exit status, what it answered, and the lines that it complained
    in; `subprocess.TimeoutExpired` is raised where that takes too long. It is ended with the block.

    Parameters
    ----------
    command : sequence of str
        Its command line.
    seconds : float
        That an answer may take.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as running:

        def ask(raw: Sequence[Array]) -> tuple[int, bytes, list[str]]:
            answered, told = running.communicate(packed(raw), seconds)
            return running.returncode, answered, told.decode(errors="replace").strip().splitlines()

        try:
            yield ask
        finally:
            running.kill()


def answer_stream() -> BinaryIO:
    """In such a process, where the answers go; whatever a library prints goes elsewhere from now on."""
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return stream
