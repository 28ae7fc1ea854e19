"""The whole state of a training on disk, so that it goes on as if it had never stopped.

Two files take turns: while one is written the other is whole, and one that turns out to be broken
leaves the one before. Nothing in them is unpickled: tensors and plain values only.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maas_magics.api.errors import StoreError

FILES = ("checkpoint-a.pt", "checkpoint-b.pt")

DIGEST = 32
"""Bytes of the SHA-256 of the rest, with which a file begins."""

State = dict[str, Any]


class Checkpoints:
    """Checkpoints of one training.

    Parameters
    ----------
    folder : Path
        Made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._turn = 0

    def save(self, state: State) -> None:
        """Write a state; the one before stays until this one is whole.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        file = self.folder / FILES[self._turn % 2]
        growing = file.with_suffix(".part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            packed = io.BytesIO()
            torch.save(state, packed)
            data = packed.getbuffer()
            with open(growing, "wb") as out:
                out.write(hashlib.sha256(data).digest())
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            os.replace(growing, file)
        except (OSError, RuntimeError) as error:
            growing.unlink(missing_ok=True)
            raise StoreError(f"The checkpoint cannot be written: {error}") from None
        self._turn += 1

    def newest(self) -> tuple[State | None, int]:
        """The newest whole state, if there is one, and how many broken ones were passed over."""
        found: list[tuple[int, int, State]] = []
        broken = 0
        for turn, name in enumerate(FILES):
            file = self.folder / name
            if not file.is_file():
                continue
            try:
                data = file.read_bytes()
                if hashlib.sha256(memoryview(data)[DIGEST:]).digest() != data[:DIGEST]:
                    raise ValueError("not what was written")
                state = torch.load(io.BytesIO(memoryview(data)[DIGEST:]), weights_only=True)
                found.append((state["step"], turn, state))
            except Exception:  # torch has no base class for what a broken file may raise
                broken += 1
        if not found:
            return None, broken
        _, turn, state = max(found, key=lambda entry: entry[0])
        self._turn = turn + 1
        return state, broken

    def clear(self) -> None:
        """Remove what was written."""
        for name in FILES:
            (self.folder / name).unlink(missing_ok=True)


def random_state() -> State:
    """States of every generator a module may draw from."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, internal, following = random.getstate()
    state: State = {
        "torch": torch.get_rng_state(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), gauss],
        "python": [version, list(internal), following],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random(state: State) -> None:
    """Set every generator to a state that `random_state` gave."""
    torch.set_rng_state(state["torch"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    version, internal, following = state["python"]
    random.setstate((version, tuple(internal), following))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
