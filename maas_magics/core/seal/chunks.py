"""A file in encrypted chunks: the STREAM construction, of AES-256-GCM, as age has it with another cipher.

::

    MAASSEAL | length of the header, 4 bytes | header, JSON | chunk | chunk | …

The header says the name of the file in its folder, the size of a chunk and a random salt. The key of the file is made
of the data key by HKDF-SHA256, with the salt, and the header as its info: a header that was changed, or the file under
another name, opens nothing. The nonce of a chunk is its number, 11 bytes, and one byte that is 1 in the last chunk
alone; so none can be left out, repeated, moved or cut off. Each chunk ends with its tag, of 16 bytes.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

import msgspec

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"MAASSEAL"

CHUNK = 2**20
"""Bytes of a chunk before it is encrypted."""

TAG = 16

LONGEST = 65_536
"""Bytes of a header at most."""


class Header(msgspec.Struct, frozen=True):
    """What a file begins with.

    Attributes
    ----------
    file : str
        Its path in the folder that has the envelope.
    chunk : int
        Bytes of a chunk before it is encrypted.
    salt : str
        16 random bytes, as hexadecimal digits.
    """

    file: str
    chunk: int
    salt: str


class Broken(ValueError):
    """A file that was changed, cut, or is another one; the message says which."""


def write(stream: BinaryIO, parts: Iterable[bytes | memoryview], key: bytes, name: str, chunk: int = CHUNK) -> None:
    """Encrypt what comes in parts, of any sizes, into a file.

    Parameters
    ----------
    stream : binary file
        Where it goes.
    parts : iterable of bytes
        What is encrypted.
    key : bytes
        The data key.
    name : str
        Path of the file in the folder that has the envelope.
    chunk : int
        Bytes of a chunk.
    """
    header = msgspec.json.encode(Header(name, chunk, os.urandom(16).hex()))
    cipher = _cipher(key, header)
    stream.write(MAGIC + len(header).to_bytes(4, "big") + header)
    held: bytes | memoryview | None = None
    number = 0
    for piece in _cut(parts, chunk):
        if held is not None:
            stream.write(cipher.encrypt(_nonce(number, False), held, None))
            number += 1
        held = piece
    stream.write(cipher.encrypt(_nonce(number, True), held or b"", None))


def read(stream: BinaryIO, size: int, key: bytes, name: str) -> bytes:
    """Decrypt a file; nothing is returned before all of it is found to be what was written.

    Parameters
    ----------
    stream : binary file
        At its beginning.
    size : int
        Bytes of the file.
    key : bytes
        The data key.
    name : str
        Path that the file must have been written under.

    Raises
    ------
    Broken
        If it is not what was written under that name.
    """
    from cryptography.exceptions import InvalidTag

    if stream.read(len(MAGIC)) != MAGIC:
        raise Broken("is not encrypted")
    length = int.from_bytes(stream.read(4), "big")
    data = stream.read(min(length, LONGEST))
    try:
        header = msgspec.json.decode(data, type=Header)
        cipher = _cipher(key, data)
    except ValueError:
        raise Broken("was changed") from None
    if header.file != name:
        raise Broken(f"is the file {header.file[:80]!r}")
    left = size - len(MAGIC) - 4 - length
    out = _room(max(0, left - TAG * -(-left // (header.chunk + TAG))) if header.chunk > 0 else 0)
    number = 0
    while True:
        taken = min(left, header.chunk + TAG)
        left -= taken
        try:
            out.write(cipher.decrypt(_nonce(number, not left), stream.read(taken), None))
        except (InvalidTag, ValueError):
            raise Broken("was changed or cut") from None
        if not left:
            return out.getvalue()
        number += 1


def _room(size: int) -> io.BytesIO:
    """A buffer of so many bytes, which are taken from the system at once, and handed out without a copy."""
    out = io.BytesIO()
    if size:
        out.seek(size - 1)
        out.write(b"\0")
        out.seek(0)
    return out


def _cut(parts: Iterable[bytes | memoryview], chunk: int) -> Iterator[bytes | memoryview]:
    """The same bytes in pieces of one size, but for the last."""
    held = bytearray()
    for part in parts:
        rest = memoryview(part).cast("B")
        if held:
            taken = min(chunk - len(held), len(rest))
            held += rest[:taken]
            rest = rest[taken:]
            if len(held) == chunk:
                yield bytes(held)
                held.clear()
        while len(rest) >= chunk:
            yield rest[:chunk]
            rest = rest[chunk:]
        held += rest
    if held:
        yield bytes(held)


def _cipher(key: bytes, header: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    salt = bytes.fromhex(msgspec.json.decode(header, type=Header).salt)
    return AESGCM(HKDF(SHA256(), 32, salt, b"maas_magics file\0" + header).derive(key))


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
