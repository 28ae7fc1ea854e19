"""Who may request what of a service. Only digests of tokens are kept."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from maas_magics.api.errors import NotFound, OptionError, StoreError
from maas_magics.api.requests import Priority

SCOPES = ("predict", "train", "admin")
"""Run models; run jobs and keep models; load, unload and whatever else there is."""

LOOK = 1.0
"""Seconds between two looks whether the file has changed."""


class Token(msgspec.Struct, frozen=True):
    """One client.

    Attributes
    ----------
    name : str
        Stands in the log.
    digest : str
        SHA-256 of the token. The token is 256 random bits, so no salt is needed.
    scopes : tuple of str
    tokens_per_minute : int
        Tokens of texts that it may have in a minute; 0 for the service's own limit.
    priority : {"interactive", "batch"}
        Whether someone waits for its answers; what is for a batch waits where there is no room for all.
    """

    name: str
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    scopes: tuple[str, ...] = SCOPES
    tokens_per_minute: Annotated[int, msgspec.Meta(ge=0)] = 0
    priority: Priority = "interactive"


def digest_of(token: bytes) -> str:
    """Digest under which a token is known."""
    return hashlib.sha256(token).hexdigest()


class Tokens:
    """Clients of a service, from a file that may change while it runs, and those that are given at its start.

    Parameters
    ----------
    file : Path, optional
        JSON; see `TokenFile`.
    own : sequence of Token
    """

    def __init__(self, file: Path | None = None, own: Sequence[Token] = ()) -> None:
        self._file = TokenFile(file) if file is not None else None
        self._own = tuple(own)
        self._known = self._own
        self._looked = -LOOK
        self._stamp: object = None
        self._version = 1

    @property
    def version(self) -> int:
        """A number that changes when the clients do."""
        if self._file is not None and (now := time.monotonic()) - self._looked > LOOK:
            self._looked = now
            self._look(self._file)
        return self._version

    def find(self, token: bytes) -> Token | None:
        """The client that a token belongs to; every comparison takes the same time."""
        assert self.version
        digest = digest_of(token)
        found = None
        for known in self._known:
            if hmac.compare_digest(known.digest, digest):
                found = known
        return found

    def named(self, name: str) -> Token | None:
        """A client by its name.

        Parameters
        ----------
        name : str
            As in the log.
        """
        return next((known for known in self._known if known.name == name), None)

    def _look(self, file: TokenFile) -> None:
        stamp = file.stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._known = (*self._own, *file.read())
                self._version += 1
            except StoreError as error:  # a client must not read where it is; those known before stay known
                print(error.message, file=sys.stderr)


class TokenFile:
    """A file of clients, readable by its owner alone.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def stamp(self) -> object:
        """A value that changes when the file does."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def read(self) -> tuple[Token, ...]:
        """Every client; none where there is no file.

        Raises
        ------
        StoreError
            If it is not such a file.
        """
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=tuple[Token, ...])
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.MsgspecError) as error:
            raise StoreError(f"The tokens cannot be read from {self.path}: {error}.") from None

    def add(
        self,
        name: str,
        scopes: Sequence[str] = SCOPES,
        tokens_per_minute: int = 0,
        priority: Priority = "interactive",
    ) -> str:
        """Make a token; it is shown once, and only its digest is kept.

        Raises
        ------
        OptionError
            If the name is taken, a scope unknown, or a number below 0.
        """
        known = self.read()
        if any(token.name == name for token in known):
            raise OptionError(f"There is a token {name!r} already.", f"maas-magics token remove {name}")
        unknown = [scope for scope in scopes if scope not in SCOPES]
        if unknown or not scopes:
            raise OptionError(f"There is no scope {', '.join(unknown)!r}.", f"There is: {', '.join(SCOPES)}.")
        if tokens_per_minute < 0:
            raise OptionError(f"tokens-per-minute is {tokens_per_minute}; 0 or more was expected.", "0 means no limit.")
        token = secrets.token_urlsafe(32)
        self._write((*known, Token(name, digest_of(token.encode()), tuple(scopes), tokens_per_minute, priority)))
        return token

    def remove(self, name: str) -> None:
        """Take a client's token away.

        Raises
        ------
        NotFound
        """
        known = self.read()
        left = tuple(token for token in known if token.name != name)
        if len(left) == len(known):
            raise NotFound(f"There is no token {name!r}.", f"There is: {', '.join(token.name for token in known)}.")
        self._write(left)

    def _write(self, tokens: tuple[Token, ...]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        growing = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        handle = os.open(growing, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(msgspec.json.format(msgspec.json.encode(tokens)) + b"\n")
        os.replace(growing, self.path)
