"""What went wrong while a torch ``Dataset`` or ``DataLoader`` of the user's was read, in one sentence."""

from __future__ import annotations

import re
import signal
import sysconfig
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from maas_magics.api.errors import DataError, MaasError

MOST = 200
"""Most characters of a message of other code that are quoted."""
PATIENCE = 5.0
"""Seconds to wait for the end of a worker, which explains why what it shared is gone."""


@dataclass(frozen=True)
class Failure:
    """An exception of a dataset's, as it travels between processes.

    Attributes
    ----------
    who : str
        What raised it.
    what : str
        Its type and message.
    where : str
        Function and line; empty if unknown.
    row : str
        Index of the row; empty if unknown.
    """

    who: str
    what: str
    where: str = ""
    row: str = ""
    said: tuple[str, str] | None = None
    """Message and hint of an error of ours."""

    @property
    def error(self) -> DataError:
        """Message and hint for the user."""
        if self.said is not None:
            return DataError(*self.said)
        place = ", ".join(part for part in (self.where, f"row {self.row}" if self.row else "") if part)
        hint = f"dataset[{self.row}] shows it." if self.row else "Iterate over it in a cell to see it."
        return DataError(f"{self.who} raised {self.what}{f' ({place})' if place else ''}.", hint)


def failure(who: Any, error: Exception, row: Any = "") -> Failure:
    """An exception that was raised just now, in this process or as torch's workers send it."""
    name = who if isinstance(who, str) else type(who).__name__
    if isinstance(error, DataError):
        return Failure(name, "", said=(error.message, error.hint))
    sent = _caught(error)
    if sent is not None:
        frames = re.findall(r'File "([^"]*)", line (\d+), in (\S+)', str(error))
        last = str(error).strip().splitlines()[-1]
        return Failure(name, _short(last if last.startswith(sent[1]) else sent[1]), _place(frames), str(row))
    places = [(f.filename, str(f.lineno), f.name) for f in traceback.extract_tb(error.__traceback__)]
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Failure(name, _short(text), _place(places), str(row))


def loader_error(loader: Any, error: Exception, processes: Iterable[Any] = ()) -> MaasError:
    """What a ``DataLoader`` raised, as an error of ours.

    Parameters
    ----------
    loader : Any
    error : Exception
    processes : iterable of multiprocessing.Process
        Its workers.
    """
    if isinstance(error, MaasError):
        return error
    if isinstance(error, RuntimeError) and "DataLoader worker (pid" in str(error):
        return death(process.exitcode for process in processes)
    if isinstance(error, EOFError | OSError) and _caught(error) is None and (codes := _ended(processes)):
        return death(codes)  # it was taken for memory that it shared and no longer does
    return failure(getattr(loader, "dataset", loader), error).error


def death(codes: Iterable[int | None]) -> DataError:
    """What a worker's end means, by the exit codes of all of them."""
    code = next((code for code in codes if code), None)
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        why = {
            "SIGKILL": "; most often memory has run out",
            "SIGBUS": "; most often shared memory (/dev/shm) has run out",
            "SIGSEGV": ", in compiled code that the dataset calls",
        }.get(name, "")
        text = f"A loader worker was ended by {name}{why}."
    else:
        text = f"A loader worker ended by itself{f', with exit code {code}' if code else ''}."
    return DataError(text, "Use fewer workers or smaller batches; with 0 workers the rows are read in this process.")


def _caught(error: Exception) -> re.Match[str] | None:
    """The words before an exception that a dataset raised in one of torch's workers."""
    return re.match(r"Caught (\w+) in DataLoader worker process \d+\.\n", str(error))


def _ended(processes: Iterable[Any]) -> list[int]:
    """Exit codes of the processes that have ended badly, or do within ``PATIENCE`` seconds."""
    living = {process.sentinel: process for process in processes}
    until = time.monotonic() + PATIENCE
    while living and not any(process.exitcode for process in living.values()):
        if not wait(living, timeout=until - time.monotonic()):
            break
        living = {sentinel: process for sentinel, process in living.items() if process.exitcode != 0}
    return [process.exitcode for process in living.values() if process.exitcode]


def _place(frames: list[tuple[str, str, str]]) -> str:
    """The innermost line that is the user's own, if any is."""
    installed = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    own = [frame for frame in frames if not frame[0].startswith(installed) and "maas_magics/core/" not in frame[0]]
    if not own:
        return ""
    _, line, function = own[-1]
    return f"{function}, line {line}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return (line if len(line) <= MOST else line[:MOST] + "…").rstrip(".")
