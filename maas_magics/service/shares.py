"""What a model answered to several requests at once, and each request's share of it."""

from __future__ import annotations

import msgspec

from maas_magics.api.backend import Inferred
from maas_magics.service.tensors import Array, Bytes, to_bytes

_encode_lines = msgspec.json.Encoder().encode_lines


class Batch:
    """Outputs for all rows of a batch; what is made of them for one request serves the others.

    Parameters
    ----------
    found : Inferred
    """

    __slots__ = ("_begins", "_blobs", "_texts", "found", "width")

    def __init__(self, found: Inferred) -> None:
        self.found = found
        self.width = sum(values.size // max(1, len(values)) if values.ndim else 1 for values in found.outputs.values())
        """Values of a row, of all outputs."""
        self._texts: dict[str, list[bytes]] = {}
        self._blobs: dict[str, Bytes] = {}
        self._begins: dict[tuple[int, bool], tuple[bytes, ...]] = {}

    def texts(self, name: str) -> list[bytes]:
        """The values of each row of an output as JSON, without brackets around them."""
        found = self._texts.get(name)
        if found is None:
            values = self.found.outputs[name]
            if values.ndim == 1:
                found = _encode_lines(values.tolist()).split(b"\n")
            else:
                found = [line[1:-1] for line in _encode_lines(values.reshape(len(values), -1).tolist()).split(b"\n")]
            self._texts[name] = found
        return found

    def blob(self, name: str) -> Bytes:
        """The bytes of an output."""
        found = self._blobs.get(name)
        if found is None:
            found = self._blobs[name] = to_bytes(self.found.outputs[name])
        return found

    def begins(self, rows: int, binary: bool) -> tuple[bytes, ...] | None:
        """See `remember`."""
        return self._begins.get((rows, binary))

    def remember(self, rows: int, binary: bool, begins: tuple[bytes, ...]) -> None:
        """Keep what stands before the values of each output in an answer of so many rows."""
        self._begins[rows, binary] = begins


class AnswerShare:
    """Some rows of a batch: what a request gets, with the fields of `Inferred`.

    Parameters
    ----------
    batch : Batch
    start, stop : int
    """

    __slots__ = ("batch", "model", "start", "stop")

    def __init__(self, batch: Batch, start: int, stop: int) -> None:
        self.batch = batch
        self.model = batch.found.model
        self.start = start
        self.stop = stop

    @property
    def outputs(self) -> dict[str, Array]:
        """Outputs of these rows."""
        return {name: values[self.start : self.stop] for name, values in self.batch.found.outputs.items()}

    @property
    def blank(self) -> Array | None:
        """Which of these rows rest on nothing; None where no row of the batch does."""
        found: Array | None = self.batch.found.blank
        return None if found is None else found[self.start : self.stop]

    @property
    def size(self) -> int:
        """Values of all outputs."""
        return self.batch.width * (self.stop - self.start)

    def blob(self, name: str) -> Bytes:
        """The bytes of an output of numbers."""
        whole = self.batch.blob(name)
        row = len(whole) // len(self.batch.found.outputs[name])
        return whole[self.start * row : self.stop * row]

    def texts(self, name: str) -> bytes:
        """The values of an output as JSON, one after the other."""
        rows = self.batch.texts(name)
        if self.stop - self.start == 1:
            return rows[self.start]
        return b",".join(rows[self.start : self.stop])


def whole(found: Inferred) -> Inferred | AnswerShare:
    """All rows of a batch of one request, as a share where they are as many in each output."""
    lengths = {len(values) if values.ndim else -1 for values in found.outputs.values()}
    if len(lengths) != 1 or (rows := lengths.pop()) < 1:
        return found
    return AnswerShare(Batch(found), 0, rows)
