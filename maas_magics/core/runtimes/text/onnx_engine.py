"""Passes of a decoder in ONNX Runtime, whose keys and values stay where they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from maas_magics.core.data.arrow import Array
from maas_magics.core.runtimes.engine import opened
from maas_magics.core.runtimes.text.pages import zeros


def decodes() -> bool:
    """Whether a plain version is better answered here than by torch: not where torch has an accelerator."""
    return "CUDAExecutionProvider" not in onnxruntime.get_available_providers()


class OnnxEngine:
    """An exported decoder with slots: each holds the keys and values of one text.

    What lies in several slots is read in one pass where they stand side by side, so texts that are written at once are
    moved to the front.

    Parameters
    ----------
    file : Path
        The exported file.
    shared : bool
        Whether the processor is shared with a server's other work.
    """

    def __init__(self, file: Path, shared: bool = False) -> None:
        self.slots = self.length = 0
        self._session = opened(file, shared, cpu=True)
        pasts = [each for each in self._session.get_inputs() if each.name.startswith("past")]
        self._pasts = [each.name for each in pasts]
        self._presents = [each.name for each in self._session.get_outputs() if each.name.startswith("present")]
        self._heads, self._head = pasts[0].shape[1], pasts[0].shape[3]
        self.token_bytes = 4 * len(pasts) * self._heads * self._head
        """Bytes of a token's keys and values."""
        self.positions = int(self._session.get_modelmeta().custom_metadata_map["positions"])
        """Tokens that a text may have."""
        self.allocate(1, 1)

    def allocate(self, slots: int, length: int, sparing: bool = False) -> None:
        """Take memory for keys and values; what was in it is gone.

        Parameters
        ----------
        slots : int
            Texts at a time.
        length : int
            Tokens of each, at most.
        sparing : bool
            Whether memory is taken for each token where it is read, in small pages, which take a few percent longer.
        """
        self.slots, self.length = slots, length
        # Zeros: what is not read yet has no weight, and 0 times what happens to be in memory may be no number.
        self._cache = [zeros((slots, self._heads, length, self._head), sparing) for _ in self._pasts]
        self._rows = list(range(slots))
        """Where in the cache each slot is."""
        self._filled = [0] * slots
        """Tokens of each row of the cache that were ever written to."""
        self._sparing = sparing
        self._bound: dict[tuple[int, int], Any] = {}

    def read(self, slot: int, ids: Sequence[int], start: int) -> Array:
        """Read some tokens of one text, and give the logits of the one that follows, float32 (vocabulary,).

        Parameters
        ----------
        slot : int
            Where the text is.
        ids : sequence of int
            The tokens.
        start : int
            Place of the first of them; those before it were read.
        """
        mask = np.ones((1, start + len(ids)), np.int64)
        self._fill(self._rows[slot], start + len(ids))
        found: Array = self._run(self._rows[slot], np.array([ids], np.int64), mask)[0, -1].copy()
        return found

    def step(self, slots: Sequence[int], ids: Sequence[int], places: Sequence[int]) -> Array:
        """Read one token of each of several texts, and give the logits that follow, float32 (texts, vocabulary).

        Parameters
        ----------
        slots, ids, places : sequence of int
            Where each text is, its token, and the token's place.
        """
        first = self._side_by_side(slots)
        for slot, place in zip(slots, places, strict=True):
            self._fill(self._rows[slot], place + 1)
        order = np.argsort([self._rows[slot] for slot in slots])
        at = np.array(places)[order]
        mask = (np.arange(at.max() + 1)[None] <= at[:, None]).astype(np.int64)
        logits = self._run(first, np.array(ids, np.int64)[order, None], mask)
        found = np.empty((len(order), logits.shape[-1]), np.float32)
        found[order] = logits[:, -1]
        return found

    def copy(self, source: int, slot: int, tokens: int) -> None:
        """Give a text the first tokens of another one.

        Parameters
        ----------
        source, slot : int
            Where they are, and where they go.
        tokens : int
            How many.
        """
        one, other = self._rows[source], self._rows[slot]
        self._fill(other, tokens)
        for each in self._cache:
            each[other, :, :tokens] = each[one, :, :tokens]

    @property
    def touched(self) -> int:
        """Tokens whose keys and values take memory."""
        return sum(self._filled) if self._sparing else self.slots * self.length

    def save(self, slot: int, start: int, end: int) -> Array:
        """A copy of the keys and values of some tokens of a text.

        Parameters
        ----------
        slot : int
            Where the text is.
        start, end : int
            Place of the first of them, and behind the last.
        """
        row = self._rows[slot]
        return np.stack([each[row, :, start:end] for each in self._cache])

    def restore(self, slot: int, start: int, data: Array, skip: int, end: int) -> None:
        """Put tokens that were saved into a text.

        Parameters
        ----------
        slot : int
            Where the text is.
        start : int
            Place of the first of them.
        data : ndarray
            What was saved.
        skip, end : int
            Which of its tokens are wanted: from the one to before the other.
        """
        row = self._rows[slot]
        self._fill(row, start + end)
        for each, one in zip(self._cache, data, strict=True):
            each[row, :, start + skip : start + end] = one[:, skip:end]

    def _fill(self, row: int, tokens: int) -> None:
        self._filled[row] = max(self._filled[row], tokens)

    def _side_by_side(self, slots: Sequence[int]) -> int:
        """Move texts so that some stand next to each other; the row of the first of them."""
        wanted = {self._rows[slot] for slot in slots}
        size = len(wanted)
        first = max(range(self.slots - size + 1), key=lambda at: (len(wanted & set(range(at, at + size))), -at))
        inside = set(range(first, first + size))
        for here, there in zip(sorted(wanted - inside), sorted(inside - wanted), strict=True):
            end = self._filled[here] = self._filled[there] = max(self._filled[here], self._filled[there])
            for each in self._cache:
                each[[here, there], :, :end] = each[[there, here], :, :end]
            one, other = self._rows.index(here), self._rows.index(there)
            self._rows[one], self._rows[other] = there, here
        return first

    def _run(self, row: int, ids: Array, mask: Array) -> Array:
        """Logits at the last place of some rows that stand side by side, in memory that the next run takes."""
        bound = self._bound.get((row, len(ids)))
        if bound is None:
            bound = self._bound[row, len(ids)] = self._binding(row, len(ids))
        bound.bind_cpu_input("input_ids", ids)
        bound.bind_cpu_input("attention_mask", mask)
        self._session.run_with_iobinding(bound)
        found: Array = bound.get_outputs()[0].numpy()
        return found

    def _binding(self, row: int, size: int) -> Any:
        made = self._session.io_binding()
        made.bind_output("logits", "cpu")
        for past, present, cache in zip(self._pasts, self._presents, self._cache, strict=True):
            part = cache[row : row + size]
            where = ("cpu", 0, np.float32, part.shape, part.ctypes.data)
            made.bind_input(past, *where)
            made.bind_output(present, *where)
        return made
