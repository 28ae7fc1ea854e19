"""The envelope of a folder whose files are encrypted: its data key, wrapped by a key that lies elsewhere.

``seal.json`` stands beside the files, in the tradition of JWE: ``alg`` and ``kid`` say what wraps the data key
(AES key wrap, RFC 3394, and the first 16 digits of the SHA-256 of the key), ``key`` is the wrapped one in base64, and
``enc`` says how it encrypts files (see `maas_magics.core.seal.chunks`). Another key wraps it anew without a change to
any file.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Literal

import msgspec

from maas_magics.api.errors import SealError
from maas_magics.core.seal.keys import Key, encrypting_key, known_keys, require_cryptography

SEAL = "seal.json"
"""Name of an envelope."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in ``seal.json``.

    Attributes
    ----------
    alg : {"A256KW"}
        What wraps the data key.
    enc : {"A256GCM-STREAM"}
        What the data key encrypts files by.
    kid : str
        The key that wraps it.
    key : str
        The wrapped data key, in base64.
    """

    alg: Literal["A256KW"] = "A256KW"
    enc: Literal["A256GCM-STREAM"] = "A256GCM-STREAM"
    kid: str
    key: str


def begin(folder: Path) -> None:
    """Have all that `maas_magics.core.seal.files.put` writes into a folder encrypted, by a data key of its own.

    Parameters
    ----------
    folder : Path
        An empty folder.

    Raises
    ------
    SealError
        If there is no key to wrap it.
    """
    (folder / SEAL).write_bytes(wrapped(os.urandom(32), encrypting_key()))


def wrapped(data_key: bytes, key: Key) -> bytes:
    """The envelope of a data key, as JSON.

    Parameters
    ----------
    data_key : bytes
        32 of them.
    key : Key
        What wraps it.
    """
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap

    text = base64.b64encode(aes_key_wrap(key.secret, data_key)).decode()
    return msgspec.json.format(msgspec.json.encode(Envelope(kid=key.id, key=text)), indent=1)


def data_key(folder: Path, keys: list[Key] | None = None) -> bytes:
    """The data key of a folder that has an envelope.

    Parameters
    ----------
    folder : Path
        That holds ``seal.json``.
    keys : list of Key, optional
        Those that may have wrapped it; the known ones where none are given.

    Raises
    ------
    SealError
        If no key is known, or another one, or the envelope was changed.
    """
    require_cryptography("What is encrypted")
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

    try:
        envelope = msgspec.json.decode((folder / SEAL).read_bytes(), type=Envelope)
    except (OSError, ValueError) as error:
        raise SealError(
            f"{called(folder)} is encrypted, and its {SEAL} cannot be read: {error}", "Copy it anew."
        ) from None
    keys = known_keys() if keys is None else keys
    if not keys:
        raise SealError(
            f"{called(folder)} is encrypted, and no key is known here: the variable MAAS_KEY is not set.",
            f"MAAS_KEY=file:FILE, with the key {envelope.kid}.",
        )
    key = next((each for each in keys if each.id == envelope.kid), None)
    if key is None:
        known = ", ".join(each.id for each in keys)
        raise SealError(
            f"{called(folder)} is encrypted with the key {envelope.kid}; the one here is {known}.",
            f"MAAS_KEY=file:FILE, with the key {envelope.kid}; for both, MAAS_KEY=file:NEW,file:OLD.",
        )
    try:
        return aes_key_unwrap(key.secret, base64.b64decode(envelope.key, validate=True))
    except (InvalidUnwrap, ValueError):
        raise SealError(
            f"The {SEAL} of {called(folder)} was changed: its key opens it no more.", "Copy it anew."
        ) from None


def called(folder: Path) -> str:
    """What a version or an export is called in an error: ``NAME:3``, ``NAME:3@int8``, or the folder.

    Parameters
    ----------
    folder : Path
        Of the version, or of the export.
    """
    if folder.parent.name == "exports":
        return f"{called(folder.parent.parent)}@{folder.name}"
    if folder.name.isdecimal():
        return f"{folder.parent.name}:{folder.name}"
    return folder.name
