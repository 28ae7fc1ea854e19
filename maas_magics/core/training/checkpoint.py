"""The whole state of a training on disk, so that it continues as if it had never stopped.

Two files take turns: while one is written the other is whole, and one that turns out to be broken
leaves the one before. Nothing in them is unpickled: tensors and plain values only. Those of a training that is to be
encrypted are, and say by themselves whether they are whole.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from torch.serialization import get_crc32_options, set_crc32_options

from maas_magics.api import private
from maas_magics.api.errors import OptionError, StoreError
from maas_magics.core.seal.envelope import SEAL, begin, data_key
from maas_magics.core.seal.files import contents, has_seal, is_sealed, put

FILES = ("checkpoint-a.pt", "checkpoint-b.pt")
DELIVERED = "delivered"
"""A file that says that what the training came to has been published."""

DIGEST = 32
"""Bytes of the SHA-256 of the rest, with which a file begins."""

State = dict[str, Any]


EPOCH_PAUSE, STEP_PAUSE, COST = 1.0, 10.0, 100.0
"""Where nothing else is requested: least seconds between two checkpoints at an epoch's end and inside an epoch, and
least time between two in times of what the last one took."""


SPEED = 300e6
"""Bytes a second that a state is taken to be written at, before one was."""


class CheckpointInterval:
    """When a checkpoint is due.

    Parameters
    ----------
    text : str, optional
        ``"30s"``: every thirty seconds. ``"500"``: every 500 optimizer steps. By default so rarely that they take
        less than a hundredth of the time.

    Raises
    ------
    OptionError
        If it is neither.
    """

    def __init__(self, text: str | None = None) -> None:
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?s|(\d+)", text.strip() if text is not None else "0")
        if found is None or (text is not None and float(found[1] or found[2]) <= 0):
            raise OptionError(
                f"--checkpoint-every {text!r} is not valid.", "--checkpoint-every 500 counts steps, 30s seconds"
            )
        self._steps = int(found[2] or 0) if text is not None else 0
        self._seconds = float(found[1] or 0) if text is not None else 0.0
        self._step, self._at, self._cost = 0, time.perf_counter(), 0.0

    @property
    def counts(self) -> bool:
        """Whether steps are counted, so that every one has to be looked at."""
        return self._steps > 0

    def due(self, step: int, *, epoch_end: bool = False) -> bool:
        """Whether a checkpoint is due after so many steps."""
        if self._steps:
            return step - self._step >= self._steps
        passed = time.perf_counter() - self._at
        if self._seconds:
            return passed > self._seconds
        return passed > max(EPOCH_PAUSE if epoch_end else STEP_PAUSE, COST * self._cost)

    def expect(self, size: int) -> None:
        """Take note of how many bytes a state will have: the first one is as rare as those after it."""
        self._cost = self._cost or size / SPEED

    def begin(self, step: int) -> None:
        """Count from here."""
        self._step, self._at = step, time.perf_counter()

    def saved(self, step: int, cost: float) -> None:
        """Take note of a checkpoint that took so many seconds."""
        self.begin(step)
        self._cost = cost


class _Hashed:
    """A file that is written from its beginning to its end, with the digest of all that was."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.total = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        """Write some bytes."""
        self.total.update(data)
        return self._out.write(data)

    def flush(self) -> None:
        """Hand what was written to the system."""
        self._out.flush()


def _pack(state: State, out: IO[bytes]) -> None:
    """Write a state without torch's own checksums, for there are better ones."""
    before = get_crc32_options()
    set_crc32_options(False)
    try:
        torch.save(state, out)
    finally:
        set_crc32_options(before)


def _write(state: State, out: BinaryIO) -> None:
    """Write a state behind its digest, as it is packed: there is no second copy of it in memory."""
    out.write(bytes(DIGEST))
    hashed = _Hashed(out)
    _pack(state, cast(IO[bytes], hashed))
    out.seek(0)
    out.write(hashed.total.digest())


def _read(file: Path) -> State:
    """The state that a file holds; raises whatever a broken one lets torch raise."""
    if is_sealed(file):
        data = memoryview(contents(file))
    else:
        whole = memoryview(file.read_bytes())
        data = whole[DIGEST:]
        if hashlib.sha256(data).digest() != whole[:DIGEST]:
            raise ValueError("not what was written")
    state: State = torch.load(io.BytesIO(data), weights_only=True)
    return state


class Checkpoints:
    """Checkpoints of one training.

    Parameters
    ----------
    folder : Path
        Made when something is written.
    every : str, optional
        See `CheckpointInterval`.
    marks : dict of str to str
        What a state must have been made of to be resumed: what differs is named.
    wanted : bool
        Whether a state must be there.
    before : callable
        Called before a state is written, to have what was reported until then written down.
    encrypted : bool
        Whether states are encrypted.

    Attributes
    ----------
    chosen : dict of str to Any
        What the training found by trying, kept with each state: one that continues must not find anything else.
    """

    def __init__(
        self,
        folder: Path,
        every: str | None = None,
        marks: dict[str, str] | None = None,
        wanted: bool = False,
        before: Callable[[], None] = lambda: None,
        encrypted: bool = False,
    ) -> None:
        self._before, self._encrypted = before, encrypted
        self.folder = folder
        self.cadence = CheckpointInterval(every)
        self.marks = marks or {}
        self.wanted = wanted
        self.chosen: dict[str, Any] = {}
        self._turn = 0
        self._read: tuple[State | None, int] | None = None

    def chosen_before(self) -> dict[str, Any]:
        """What the training had found by trying when its newest state was kept; nothing where there is none."""
        self._read = self.newest()
        state, _ = self._read
        return dict(state["chosen"]) if state is not None else {}

    def marks_before(self) -> dict[str, str]:
        """What the newest state was made of; nothing where there is none."""
        self._read = self.newest()
        state, _ = self._read
        return dict(state["marks"]) if state is not None else {}

    def save(self, state: State) -> None:
        """Write a state; the one before stays until this one is whole.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        self._before()
        file = self.folder / FILES[self._turn % 2]
        growing = file.with_suffix(".part")
        try:
            private.folder(self.folder)
            (self.folder / DELIVERED).unlink(missing_ok=True)
            if self._encrypted:
                self._put(state, growing, file.name)
            else:
                with open(growing, "wb") as out:
                    _write(state, out)
            with open(growing, "rb+") as written:
                os.fsync(written.fileno())
            os.replace(growing, file)
        except (OSError, RuntimeError) as error:
            growing.unlink(missing_ok=True)
            raise StoreError(f"The checkpoint cannot be written: {error}") from None
        self._turn += 1

    def _put(self, state: State, growing: Path, name: str) -> None:
        """Encrypt a state, for a file that gets its name once it is whole."""
        if not has_seal(self.folder):
            begin(self.folder)
        packed = io.BytesIO()
        _pack(state, packed)
        put(growing, [packed.getbuffer()], name)

    def settle(self) -> None:
        """Keep the newest file only, once no more are to come."""
        if self._turn:
            (self.folder / FILES[self._turn % 2]).unlink(missing_ok=True)

    @property
    def sealed(self) -> bool:
        """Whether the states that are there are encrypted."""
        files = [self.folder / name for name in FILES]
        return any(file.is_file() and is_sealed(file) for file in files)

    @property
    def delivered(self) -> bool:
        """Whether the training that ended here has been published."""
        return (self.folder / DELIVERED).exists()

    def deliver(self) -> None:
        """Note that it has been published. Without a checkpoint there is nothing to note."""
        if any((self.folder / name).exists() for name in FILES):
            with suppress(OSError):  # it would be published once more
                (self.folder / DELIVERED).touch()

    def newest(self) -> tuple[State | None, int]:
        """The newest whole state, if there is one, and how many broken ones that are newer were passed over.

        Raises
        ------
        SealError
            If it is encrypted, and there is no key for it.
        """
        if self._read is not None:
            read, self._read = self._read, None
            return read
        found: list[tuple[tuple[int, int], int, State]] = []
        broken: list[int] = []
        for turn, name in enumerate(FILES):
            file = self.folder / name
            if not file.is_file():
                continue
            if is_sealed(file):
                data_key(self.folder)
            try:
                state = _read(file)
                found.append(((state["step"], state["epoch"]), turn, state))
            except Exception:  # torch has no base class for what a broken file may raise
                broken.append(file.stat().st_mtime_ns)
        if not found:
            return None, len(broken)
        _, turn, state = max(found, key=lambda entry: entry[0])
        self._turn = turn + 1
        written = (self.folder / FILES[turn]).stat().st_mtime_ns
        return state, sum(time >= written for time in broken)

    def clear(self) -> None:
        """Remove what was written."""
        for name in (*FILES, DELIVERED, SEAL):
            (self.folder / name).unlink(missing_ok=True)
