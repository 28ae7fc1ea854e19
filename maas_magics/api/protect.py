"""What is requested to keep a model's knowledge to those who may have it, and what came of it."""

# No annotations from the future: as texts they would take twice as long to read.
from typing import Annotated

import msgspec

from maas_magics.api.options import option
from maas_magics.api.requests import Model, Request
from maas_magics.api.results import ModelInfo


class Protected(msgspec.Struct, frozen=True, kw_only=True):
    """What was done with a key.

    Attributes
    ----------
    what : str
        What was done, such as ``"wrapped anew"``.
    key : str
        Name of the key: the first 16 digits of a SHA-256.
    names : tuple of str
        Versions and exports that it was done with, or the file that was written.
    """

    what: str
    key: str
    names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """One line: what, with which key."""
        return f"<Protected {', '.join(self.names) or 'nothing'} · {self.what} · key {self.key}>"


class KeyRequest(Request[Protected], frozen=True, kw_only=True):
    """Make a key to encrypt with.

    Attributes
    ----------
    file : str
        File that gets it, for its owner alone to read; it must not be there.
    """

    file: Annotated[str, option("file that gets the key", "FILE", "file", offer="files")]


class EncryptRequest(Request[ModelInfo], frozen=True, kw_only=True):
    """Encrypt a version with its exports, held-out rows and checkpoints; the readable ones are removed.

    Attributes
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    """

    model: Model


class SignRequest(Request[Protected], frozen=True, kw_only=True):
    """Sign the files of a version and of its exports.

    Attributes
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    key : str
        File with a private key of Ed25519 in PEM, without a password.
    days : float or None
        After which the signature ends; it does not when None.
    """

    model: Model
    key: Annotated[str, option("file with a private key of Ed25519 in PEM", "FILE", "--key", "-k", offer="files")]
    days: Annotated[float | None, option("days after which the signature ends; it does not if left out", "N")] = None


class RotateKeyRequest(Request[Protected], frozen=True, kw_only=True):
    """Wrap the data keys of what is encrypted by the first key of ``MAAS_KEY``; no file is encrypted anew.

    Attributes
    ----------
    model : str
        ``NAME`` for all versions, ``NAME:3`` or ``NAME@alias`` for one.
    """

    model: Model
