"""Keys that wrap the keys of versions: from the environment, a file, or the keyring of this machine.

The variable ``MAAS_KEY`` is a key itself, 32 bytes in base64; or ``file:PATH``, a file with keys, one a line; or
``keyring``, where the password of the service ``maas_magics`` and the user ``key`` is one. Of several, with commas
between them (``file:NEW,file:OLD``), the first encrypts, and all decrypt.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from maas_magics.api import private
from maas_magics.api.errors import OptionError, SealError, require

VARIABLE = "MAAS_KEY"

FROM_FILE, FROM_KEYRING = "file:", "keyring"

SIZE = 32
"""Bytes of a key, of AES-256."""

NEW = "%maas key FILE makes one; MAAS_KEY=file:FILE names it."


@dataclass(frozen=True)
class Key:
    """A key that wraps others.

    Attributes
    ----------
    secret : bytes
        32 of them.
    """

    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """What names it in envelopes: the first 16 digits of its SHA-256."""
        return hashlib.sha256(self.secret).hexdigest()[:16]


def require_cryptography(purpose: str) -> None:
    """Raise `MissingDependency` where nothing can be encrypted or signed.

    Parameters
    ----------
    purpose : str
        What needs it, as the subject of a sentence.
    """
    require("cryptography", "cryptography", purpose, "maas-magics[protect]")


def encrypting_key() -> Key:
    """The key that encrypts here.

    Raises
    ------
    SealError
        If there is none.
    """
    require_cryptography("Encryption")
    keys = known_keys()
    if not keys:
        raise SealError("There is no key to encrypt with: the variable MAAS_KEY is not set.", NEW)
    return keys[0]


def known_keys() -> list[Key]:
    """The keys that this process has, the one that encrypts first; none where the variable is not set."""
    said = os.environ.get(VARIABLE, "").strip()
    if said.startswith(FROM_FILE) and Path(said.removeprefix(FROM_FILE)).expanduser().is_file():
        return keys_in(Path(said.removeprefix(FROM_FILE)).expanduser())  # whatever its name
    return [key for part in said.split(",") for key in _said(part.strip())]


def _said(part: str) -> list[Key]:
    if part.startswith(FROM_FILE):
        return keys_in(Path(part.removeprefix(FROM_FILE)).expanduser())
    if part == FROM_KEYRING:
        require("keyring", "keyring", f"{VARIABLE}={FROM_KEYRING}")
        import keyring

        part = keyring.get_password("maas_magics", "key") or ""
    return _keys(part, f"The variable {VARIABLE}")


def keys_in(file: Path) -> list[Key]:
    """The keys of a file, one a line.

    Parameters
    ----------
    file : Path
        As `write_key` makes it.

    Raises
    ------
    SealError
        If it cannot be read, or holds no key.
    """
    try:
        text = file.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SealError(f"The file with keys {file} cannot be read: {why}.", NEW) from None
    found = _keys(text, f"The file {file}")
    if not found:
        raise SealError(f"The file {file} holds no key.", NEW)
    return found


def write_key(file: Path) -> Key:
    """Write a new key, for its owner alone to read.

    Parameters
    ----------
    file : Path
        Which must not be there.

    Raises
    ------
    OptionError
        If it is there, or cannot be written.
    """
    key = Key(os.urandom(SIZE))
    try:
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise OptionError(f"{file} is there already, and may hold a key in use.", "%maas key OTHER-FILE") from None
    except (OSError, ValueError) as error:  # the latter of a name that no file can have
        why = getattr(error, "strerror", None) or error
        raise OptionError(f"{str(file)!r} cannot be written: {why}.", "%maas key FILE") from None
    with os.fdopen(handle, "wb") as stream:
        stream.write(base64.urlsafe_b64encode(key.secret) + b"\n")
    private.close(file)
    return key


def _keys(text: str, where: str) -> list[Key]:
    found = []
    for word in text.replace(",", " ").split():
        try:
            secret = base64.b64decode(word.replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if len(secret) != SIZE:
            raise SealError(f"{where} holds no key: {SIZE} bytes in base64 were expected.", NEW)
        found.append(Key(secret))
    return found
