"""Rows and answers as bytes, for a process that opens an exported file: they go through pipes, never onto a disk."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from maas_magics.core.data.arrow import Array


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


def ask_child(command: Sequence[str], raw: Sequence[Array], seconds: float) -> tuple[int, bytes, list[str]]:
    """Exit status of a process that gets rows, what it answered, and the lines that it complained in.

    Parameters
    ----------
    command : sequence of str
        Its command line.
    raw : sequence of ndarray, shape (n, …)
        Inputs.
    seconds : float
        After which `subprocess.TimeoutExpired` is raised.
    """
    done = subprocess.run(command, input=packed(raw), capture_output=True, timeout=seconds, check=False)
    return done.returncode, done.stdout, done.stderr.decode(errors="replace").strip().splitlines()


def answer_stream() -> BinaryIO:
    """In such a process, where the answers go; whatever a library prints goes elsewhere from now on."""
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return stream
