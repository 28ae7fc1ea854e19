"""Content codings: bodies that come packed, and answers that may go packed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache

from maas_magics.api.errors import DataError
from maas_magics.service.budget import Hold

Bytes = bytes | bytearray | memoryview

PIECE = 2**20
"""Bytes that are unpacked at a time."""

WORTH = 1_024
"""Bytes of an answer from which it is packed for a client that packs whatever it can; one that requests a single
coding gets it always."""

_WINDOWS = {b"gzip": 31, b"deflate": 15}


@lru_cache(256)
def accepted(header: bytes) -> tuple[bytes, bool]:
    """Coding to answer in by an ``Accept-Encoding`` header, empty for none, and whether it is the only one named."""
    found, named = {}, 0
    for part in header.lower().split(b","):
        name, _, more = part.partition(b";")
        name = name.strip()
        name = b"gzip" if name == b"x-gzip" else name
        weight = 1.0
        key, _, figure = more.partition(b"=")
        if key.strip() == b"q":
            try:
                weight = float(figure)
            except ValueError:
                weight = 0.0
        named += bool(name) and name != b"identity"
        if name in _WINDOWS and weight > 0.0:
            found[name] = weight
    best = max(found, key=lambda name: (found[name], name == b"gzip"), default=b"")
    return best, named == 1


def is_worth(accept: bytes, size: int) -> bool:
    """Whether an answer of so many bytes is packed for a client."""
    coding, alone = accepted(accept)
    return bool(coding) and (alone or size >= WORTH)


def packed(parts: Sequence[Bytes], accept: bytes) -> tuple[list[Bytes], bytes]:
    """An answer in the coding that its client accepts, and the coding; as it is, and empty, where none is worth it."""
    if not accept or not is_worth(accept, sum(map(len, parts))):
        return list(parts), b""
    coding, _ = accepted(accept)
    packer = zlib.compressobj(1, zlib.DEFLATED, _WINDOWS[coding])
    made: list[Bytes] = [packer.compress(part) for part in parts]
    return [b"".join([*made, packer.flush()])], coding


def unpacked(body: Bytes, coding: bytes, limit: int, hold: Hold) -> Bytes:
    """A body as it was before it was packed.

    Parameters
    ----------
    body : bytes
    coding : bytes
        ``Content-Encoding``.
    limit : int
        Bytes that it may become.
    hold : callable
        Takes memory for each piece.

    Raises
    ------
    DataError
        If it cannot be unpacked.
    OverflowError
        If it becomes larger.
    """
    if coding in (b"", b"identity"):
        return body
    if coding == b"zstd":
        pieces = [_zstd]
    elif coding in (b"gzip", b"x-gzip"):
        pieces = [lambda body: _inflated(body, 31)]
    elif coding == b"deflate":  # some send it without zlib's frame
        pieces = [lambda body: _inflated(body, 15), lambda body: _inflated(body, -15)]
    else:
        raise DataError(f"Bodies in {coding[:40].decode('latin-1')!r} are not read.", "gzip, deflate or zstd")
    for unpack in pieces:
        found = bytearray()
        try:
            for piece in unpack(body):
                if len(found) + len(piece) > limit:
                    raise OverflowError
                hold(len(piece))
                found += piece
        except (zlib.error, OSError, EOFError, ValueError):
            continue
        return found
    raise DataError("The compressed body cannot be read.")


def _inflated(body: Bytes, window: int) -> Iterator[bytes]:
    inflate = zlib.decompressobj(window)
    view = memoryview(body)
    for start in range(0, len(view), PIECE):
        rest: Bytes = view[start : start + PIECE]
        while len(rest) and not inflate.eof:
            yield inflate.decompress(rest, PIECE)
            rest = inflate.unconsumed_tail
        if inflate.eof and (inflate.unused_data or start + PIECE < len(view)):
            raise EOFError("more bytes follow")
    while not inflate.eof:
        piece = inflate.decompress(b"", PIECE)
        if not piece:
            raise EOFError("it breaks off")
        yield piece


def _zstd(body: Bytes) -> Iterator[bytes]:
    import pyarrow as pa

    if not len(body):
        raise EOFError("it is empty")
    with pa.CompressedInputStream(pa.BufferReader(body), "zstd") as stream:
        while piece := stream.read(PIECE):
            yield piece
