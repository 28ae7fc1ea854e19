"""The tasks behind ``%maas key``, ``encrypt``, ``rotate-key`` and ``sign``."""

from __future__ import annotations

from pathlib import Path

import msgspec

from maas_magics.api.errors import OptionError, Refused, SealError
from maas_magics.api.protect import EncryptRequest, KeyRequest, Protected, RotateKeyRequest, SignRequest
from maas_magics.api.results import Artifact, ModelInfo
from maas_magics.core.context import Context
from maas_magics.core.exporters.export import digest_of
from maas_magics.core.seal.envelope import SEAL, called, data_key, wrapped
from maas_magics.core.seal.files import has_seal, seal_copy
from maas_magics.core.seal.keys import NEW, known_keys, require_cryptography, write_key
from maas_magics.core.seal.signatures import SIGNATURE, key_id, manifest_digest, private_key, signed
from maas_magics.core.store.manifest import check_files, digests, seal, sealed_files
from maas_magics.core.store.storage import MANIFEST, REPORT, staging


def make_key(request: KeyRequest, context: Context) -> Protected:
    """Write a new key into a file."""
    if context.served:
        raise Refused("A service makes no keys for its clients.", "%connect kernel, and type it there.")
    file = Path(request.file).expanduser()
    return Protected(
        what=f"MAAS_KEY=file:{file.absolute()} encrypts with it", key=write_key(file).id, names=(str(file),)
    )


def encrypt(request: EncryptRequest, context: Context) -> ModelInfo:
    """Publish a version's files encrypted, as the next version, and remove the readable one.

    Raises
    ------
    OptionError
        If it is encrypted already.
    SealError
        If there is no key.
    """
    store = context.store
    name, version = store.whole(request.model)
    folder = store.folder(name, version)
    if has_seal(folder):
        raise OptionError(f"{name}:{version} is encrypted already.", f"%maas rotate-key {name} gives it another key.")
    check_files(folder)
    check_files(folder, "exports")
    context.notify(f"Encrypting {name}:{version}.")
    with staging(store.work) as work:
        staged = work / "version"
        seal_copy(folder, staged, ("exports", "claim", SIGNATURE))
        seal(staged)
        for export in sorted(folder.glob("exports/*")):
            seal_copy(export, staged / "exports" / export.name)
            _report_anew(staged / "exports" / export.name)
        context.check_stop()
        number = store.storage.publish(name, staged)
    for alias, named in store.storage.aliases(name).items():
        if named == version:
            store.storage.set_alias(name, alias, number)
    context.loader.move(name, version, name, number)
    store.delete(f"{name}:{version}")
    store.forget_trainings(name)
    return store.get(f"{name}:{number}")


def rotate_key(request: RotateKeyRequest, context: Context) -> Protected:
    """Wrap data keys by the first known key.

    Raises
    ------
    SealError
        If nothing is encrypted, or there is no key for it.
    """
    require_cryptography("Encryption")
    store, keys = context.store, known_keys()
    if not keys:
        raise SealError("There is no key to wrap with: the variable MAAS_KEY is not set.", NEW)
    name, version = store.whole(request.model)
    found = []
    for number in store.storage.versions(name) if request.model == name else [version]:
        folder = store.folder(name, number)
        found += [
            (number, each.parent)
            for each in (folder / SEAL, *sorted(folder.glob(f"exports/*/{SEAL}")))
            if each.is_file()
        ]
    if not found:
        raise SealError(f"Nothing of {request.model} is encrypted.", f"%maas encrypt {request.model}")
    anew = [(number, place, wrapped(data_key(place, keys), keys[0])) for number, place in found]
    for number, place, envelope in anew:
        part = (place / SEAL).relative_to(store.folder(name, number)).as_posix()
        store.storage.write(name, number, part, envelope)
        context.loader.forget(name, number)
    return Protected(what="wrapped anew", key=keys[0].id, names=tuple(called(place) for _, place in found))


def sign(request: SignRequest, context: Context) -> Protected:
    """Sign what is there of a version, its exports among it.

    Raises
    ------
    SealError
        If the file holds no key.
    StoreError
        If a file is not what was published.
    """
    if context.served:
        raise Refused("A service signs nothing with keys that its clients name.", "%connect kernel, and sign there.")
    if request.days is not None and not request.days > 0:
        raise OptionError(f"--days is {request.days:g}; a number above 0 was expected.", "--days 365")
    key = private_key(Path(request.key).expanduser())
    store = context.store
    name, version = store.whole(request.model)
    folder = store.folder(name, version)
    found = sealed_files(folder)
    check_files(folder, *found, trusting=True)
    for report in folder.glob(f"exports/*/{REPORT}"):
        found[report.relative_to(folder).as_posix()] = digest_of(report)
    found[MANIFEST] = manifest_digest((folder / MANIFEST).read_bytes())
    store.storage.write(name, version, SIGNATURE, signed(found, key, request.days))
    context.loader.forget(name, version)
    until = "" if request.days is None else f", for {request.days:g} days"
    return Protected(what=f"signed{until}", key=key_id(key.public_key()), names=(f"{name}:{version}",))


def _report_anew(folder: Path) -> None:
    """Have an export's report say the digests and bytes of its encrypted files."""
    report = folder / REPORT
    made = msgspec.json.decode(report.read_bytes(), type=Artifact)
    report.unlink()
    files = digests(folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    file = next((path for path in sorted(folder.glob("model.*")) if path.suffix != ".data"), None)
    made = msgspec.structs.replace(
        made,
        files=files,
        digest=digest_of(file) if file is not None else made.digest,
        verification=msgspec.structs.replace(made.verification, bytes_after=size),
    )
    report.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1))
