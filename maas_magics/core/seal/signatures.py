"""Signatures of versions: a statement of in-toto about the digests of all files, in an envelope of DSSE, by Ed25519.

``signature.json`` stands beside the manifest. It has the form in which OpenSSF's ``model-signing`` keeps a statement;
that package itself signs by the curves of NIST alone, and its signatures by a bare key have no end. A version keeps its
signature under another name and number, and with another key around that of what is encrypted.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maas_magics.api.errors import SealError
from maas_magics.core.seal.keys import require_cryptography

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE = "signature.json"

VARIABLE = "MAAS_REQUIRE_SIGNED"
"""Names a file of public keys in PEM, or a folder of such files: no version is opened that none of them signed."""

PAYLOAD = "application/vnd.in-toto+json"

STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "urn:maas-magics:signature:v1"

MAKE = "openssl genpkey -algorithm ed25519 -out FILE; openssl pkey -in FILE -pubout -out FILE.pub"

END = b"-----END PUBLIC KEY-----"


def signed(digests: Mapping[str, str], key: Ed25519PrivateKey, days: float | None) -> bytes:
    """A signature of some files, as JSON.

    Parameters
    ----------
    digests : mapping of str to str
        SHA-256 of each file, by its path.
    key : Ed25519PrivateKey
        What signs.
    days : float or None
        After which it ends; it does not when None.
    """
    now = time.time()
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digests[name]}} for name in sorted(digests)],
        "predicateType": PREDICATE,
        "predicate": {"signed": now, "expires": None if days is None else now + 86_400 * days},
    }
    body = json.dumps(statement, sort_keys=True).encode()
    signature = {"keyid": key_id(key.public_key()), "sig": base64.b64encode(key.sign(_encoded(body))).decode()}
    payload = base64.b64encode(body).decode()
    return json.dumps({"payloadType": PAYLOAD, "payload": payload, "signatures": [signature]}, indent=1).encode()


def verified(data: bytes, keys: Sequence[Ed25519PublicKey], ref: str) -> dict[str, str]:
    """SHA-256 of each file that one of some keys has signed, by its path.

    Parameters
    ----------
    data : bytes
        What `signed` returned.
    keys : sequence of Ed25519PublicKey
        Those that count.
    ref : str
        What an error calls the version.

    Raises
    ------
    SealError
        If none of them has, or the signature was changed, or has ended.
    """
    from cryptography.exceptions import InvalidSignature

    again = f"%maas sign {ref} --key FILE signs it anew."
    try:
        envelope = json.loads(data)
        body = base64.b64decode(envelope["payload"], validate=True)
        given = {str(each["keyid"]): base64.b64decode(each["sig"], validate=True) for each in envelope["signatures"]}
        kind = envelope["payloadType"]
    except (ValueError, KeyError, TypeError):
        raise SealError(f"The {SIGNATURE} of {ref} cannot be read.", again) from None
    known = [key for key in keys if key_id(key) in given]
    if not known:
        by = ", ".join(given) or "no key"
        raise SealError(f"{ref} is signed by {by[:80]}, which is none of the keys that count here.", again)
    try:
        known[0].verify(given[key_id(known[0])], _encoded(body, str(kind)))
        statement = json.loads(body)
        found = {str(each["name"]): str(each["digest"]["sha256"]) for each in statement["subject"]}
        expires = statement["predicate"]["expires"]
        if (kind, statement["_type"], statement["predicateType"]) != (PAYLOAD, STATEMENT, PREDICATE):
            raise SealError(f"The {SIGNATURE} of {ref} is no signature of a version.", again)
    except (InvalidSignature, ValueError, KeyError, TypeError):
        raise SealError(f"The {SIGNATURE} of {ref} was changed: it does not hold.", again) from None
    if expires is not None and expires < time.time():
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(expires))
        raise SealError(f"The signature of {ref} has ended, on {when}.", again)
    return found


def require_signed(place: str) -> None:
    """Have this process, and those that it starts, open signed versions alone.

    Parameters
    ----------
    place : str
        File of public keys in PEM, or a folder of such files; any version is opened where it is empty.

    Raises
    ------
    SealError
        If there is no key.
    """
    if place:
        public_keys(Path(place).expanduser())
        os.environ[VARIABLE] = str(Path(place).expanduser().absolute())
    else:
        os.environ.pop(VARIABLE, None)


def is_required() -> bool:
    """Whether this process opens signed versions alone."""
    return bool(os.environ.get(VARIABLE))


def check_signed(folder: Path, digests: Mapping[str, str], there: Sequence[str], ref: str) -> None:
    """Check that files are signed, where only signed versions are opened.

    Parameters
    ----------
    folder : Path
        Of the version.
    digests : mapping of str to str
        SHA-256 of the files that are opened, which was compared with the files.
    there : sequence of str
        Files that are there, where they may be opened.
    ref : str
        What an error calls the version.

    Raises
    ------
    SealError
        If one is not.
    """
    keys = public_keys(Path(os.environ[VARIABLE]).expanduser())
    try:
        data = (folder / SIGNATURE).read_bytes()
    except FileNotFoundError:
        raise SealError(
            f"{ref} is not signed, and only signed models are opened here.", f"%maas sign {ref} --key FILE"
        ) from None
    trusted = verified(data, keys, ref)
    for name in {**digests, **dict.fromkeys(there)}:
        if name not in digests or trusted.get(name) != digests[name]:
            raise SealError(
                f"{ref} cannot be used: its file {name} is not one that was signed.", f"%maas sign {ref} --key FILE"
            )


def manifest_digest(manifest: bytes) -> str:
    """SHA-256 of a manifest, whatever the version is called.

    Parameters
    ----------
    manifest : bytes
        ``manifest.json``.
    """
    known: Any = json.loads(manifest)
    for name in ("name", "version"):
        known["info"].pop(name, None)
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def private_key(file: Path) -> Ed25519PrivateKey:
    """The key of a file in PEM that signs.

    Parameters
    ----------
    file : Path
        As ``openssl genpkey`` writes it, without a password.

    Raises
    ------
    SealError
        If it holds none.
    """
    require_cryptography("A signature")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        found = load_pem_private_key(_read(file), None)
    except (ValueError, TypeError):
        raise SealError(f"The file {file} holds no private key in PEM without a password.", MAKE) from None
    if not isinstance(found, Ed25519PrivateKey):
        raise SealError(f"The key of {file} is not one of Ed25519.", MAKE)
    return found


def public_keys(place: Path) -> list[Ed25519PublicKey]:
    """The public keys of a file, or of the files of a folder.

    Parameters
    ----------
    place : Path
        Keys in PEM, one or several.

    Raises
    ------
    SealError
        If there is none, or one cannot be read.
    """
    require_cryptography("The check of a signature")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    found = []
    for file in sorted(path for path in place.iterdir() if path.is_file()) if place.is_dir() else [place]:
        for block in _read(file).split(END)[:-1]:
            try:
                key = load_pem_public_key(block.strip() + b"\n" + END + b"\n")
            except ValueError:
                raise SealError(f"The file {file} holds no public key in PEM.", MAKE) from None
            if not isinstance(key, Ed25519PublicKey):
                raise SealError(f"The key of {file} is not one of Ed25519.", MAKE)
            found.append(key)
    if not found:
        raise SealError(f"{place} holds no public key in PEM, so no model could be opened.", MAKE)
    return found


def key_id(key: Ed25519PublicKey) -> str:
    """What names a key: the first 16 digits of the SHA-256 of its public half."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _encoded(body: bytes, kind: str = PAYLOAD) -> bytes:
    """What DSSE signs of a payload: its kind and its bytes, each with its length."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except (OSError, ValueError) as error:  # the latter of a name that no file can have
        why = getattr(error, "strerror", None) or error
        raise SealError(f"The key {str(file)!r} cannot be read: {why}.", MAKE) from None
