"""Versions copied between this machine's store and a place elsewhere, which is laid out as a store itself.

A version is sent file by file, its manifest last, so that no reader ever sees half of one; what arrived is not sent
again. One that is fetched is checked by the digests that its manifest holds before it becomes visible here.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from maas_magics.api import private
from maas_magics.api.errors import InvalidName, StoreError, did_you_mean
from maas_magics.core.seal.envelope import SEAL
from maas_magics.core.seal.signatures import SIGNATURE
from maas_magics.core.store.manifest import rename
from maas_magics.core.store.models import Store, check_name
from maas_magics.core.store.places import Place
from maas_magics.core.store.storage import LAST, LEFTOVER, MANIFEST, REPORT, staging

MODELS = "models"

CHANGING = (SEAL, SIGNATURE)
"""Files beside others that another key writes anew: no digest holds them."""

CLAIM = "claim"

ALIASES = "aliases"
"""Folder beside versions, with a file for each alias, which holds the number of its version."""

Check = Callable[[], None]


def push(store: Store, ref: str, url: str, check: Check) -> tuple[str, int]:
    """Send a version, and the exports and aliases that are not there yet; an alias that is there stays what it is.

    Parameters
    ----------
    store : Store
        This machine's.
    ref : str
        ``NAME``, ``NAME:3`` or ``NAME@alias``.
    url : str
        Of the place.
    check : callable
        Raises where the work is to end.

    Returns
    -------
    str
        Address of the version there.
    int
        Files that were sent.

    Raises
    ------
    StoreError
        If the place cannot be reached or written, or a file here is not what was published.
    """
    name, version = store.whole(ref)
    folder = store.folder(name, version)
    own = identity((folder / MANIFEST).read_bytes())
    place = Place(url)
    number, whole = _number(place, name, version, own)
    there = f"{MODELS}/{name}/{number}"
    sent = 0
    sealed = _digests(folder)
    for path in sorted(sealed, key=lambda path: (path.endswith(f"/{REPORT}"), path)):
        check()
        file = folder / path
        if not file.is_file() or (sealed[path] and _sha256(file) != sealed[path]):
            raise StoreError(f"{name}:{version} cannot be sent: its file {path} is not what was published.", "%maas rm")
        rewritten = file.name in CHANGING and place.read(f"{there}/{path}") != file.read_bytes()
        if rewritten or place.size(f"{there}/{path}") != file.stat().st_size:
            place.put(file, f"{there}/{path}")
            sent += 1
    if not whole:
        place.put(folder / MANIFEST, f"{there}/{MANIFEST}")
        sent += 1
    taken = _aliases(place, f"{MODELS}/{name}")
    for alias, meant in store.storage.aliases(name).items():
        if meant == version and alias not in taken:
            place.write(f"{MODELS}/{name}/{ALIASES}/{alias}", str(number).encode())
            sent += 1
    return f"{place.url}/{there}", sent


def pull(store: Store, url: str, name: str | None, check: Check) -> tuple[str, int]:
    """Fetch a version, with the aliases that are not here yet.

    Parameters
    ----------
    store : Store
        This machine's.
    url : str
        Of a version, of a model (its newest version), or of a place with one model.
    name : str or None
        What it is to be called here; as there when None.
    check : callable
        Raises where the work is to end.

    Returns
    -------
    str
        ``NAME:VERSION`` here.
    int
        Files that were fetched.

    Raises
    ------
    StoreError
        If there is no version, or what arrives is not what was published.
    """
    place, path = _found(url)
    called = name or path.parts[-2]
    check_name(called)
    manifest = place.read(f"{path}/{MANIFEST}")
    assert manifest is not None
    own = identity(manifest)
    for version in store.storage.versions(called):
        if identity((store.folder(called, version) / MANIFEST).read_bytes()) == own:
            return f"{called}:{version}", _take_aliases(store, place, path, called, version)
    parts = _parts(store.work) / own[:32]
    fetched = _fetch(place, str(path), manifest, parts, check)
    with staging(store.work) as work:
        staged = work / "version"
        shutil.copytree(parts, staged)
        if called != path.parts[-2]:
            rename(staged, called)
        version = store.storage.publish(called, staged)
    shutil.rmtree(parts, ignore_errors=True)
    return f"{called}:{version}", fetched + _take_aliases(store, place, path, called, version)


def send_folder(folder: Path, url: str, last: str) -> str:
    """Send the files of a folder to an address, one of them behind all others; what is there already is sent anew.

    Parameters
    ----------
    folder : Path
        Of an export.
    url : str
        Where its files go.
    last : str
        Name of the file that says that all are there.

    Returns
    -------
    str
        The address.
    """
    place = Place(url)
    files = (path for path in folder.rglob("*") if path.is_file())
    for file in sorted(files, key=lambda path: (path.name == last, path)):
        place.put(file, file.relative_to(folder).as_posix())
    return place.url


def remote_versions(url: str) -> list[tuple[str, int]]:
    """Name and number of every whole version at a place.

    Parameters
    ----------
    url : str
        Of the place.
    """
    place = Place(url)
    return [(name, number) for name in place.names(MODELS) for number in _whole(place, f"{MODELS}/{name}/")]


def identity(manifest: bytes) -> str:
    """What makes a version itself, whatever it is called: the digests of its files, and when it was made.

    Parameters
    ----------
    manifest : bytes
        Its ``manifest.json``.

    Raises
    ------
    StoreError
        If that cannot be read.
    """
    try:
        known = json.loads(manifest)
        told = [known.get("files", {}), known["info"]["created"], known["info"]["architecture"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StoreError("A manifest cannot be read.", "It is of no store of maas_magics, or is damaged.") from None
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _number(place: Place, name: str, version: int, own: str) -> tuple[int, bool]:
    """The number of a version at a place, and whether it is there whole: its own, else the next that is free."""
    entries = place.names(f"{MODELS}/{name}")
    for entry in (entry for entry in entries if entry.isdecimal()):
        manifest = place.read(f"{MODELS}/{name}/{entry}/{MANIFEST}")
        if manifest is not None and identity(manifest) == own:
            return int(entry), True
        if manifest is None and place.read(f"{MODELS}/{name}/{entry}/{CLAIM}") == own.encode():
            return int(entry), False  # a copy that was cut off
    taken = [int(entry.removeprefix(LAST)) for entry in entries if entry.removeprefix(LAST).isdecimal()]
    number = version if version > max(taken, default=0) else max(taken) + 1
    while not place.claim(f"{MODELS}/{name}/{number}/{CLAIM}", own.encode()):
        number += 1
    return number, False


def _aliases(place: Place, there: str) -> dict[str, int]:
    """Versions of the aliases of a model at a place."""
    found = {name: place.read(f"{there}/{ALIASES}/{name}") or b"" for name in place.names(f"{there}/{ALIASES}")}
    return {name: int(text) for name, text in found.items() if text.strip().isdigit()}


def _take_aliases(store: Store, place: Place, path: PurePosixPath, name: str, version: int) -> int:
    """Set the aliases that a version has at a place, those that are not here yet; how many these were."""
    here, taken = store.storage.aliases(name), 0
    for alias, meant in _aliases(place, str(path.parent)).items():
        if meant == int(path.name) and alias not in here:
            with suppress(InvalidName):  # of an export here, or none that a model may have
                store.alias(f"{name}:{version}", alias)
                taken += 1
    return taken


def _found(url: str) -> tuple[Place, PurePosixPath]:
    """The place and path of the version that an address names."""
    steps = url.rstrip("/").split("/")
    if steps[-1].isdecimal() and len(steps) > 2:
        place, path = Place("/".join(steps[:-2])), PurePosixPath(*steps[-2:])
        if place.size(f"{path}/{MANIFEST}") < 0:
            raise StoreError(f"There is no whole version at {url}.", "%maas pull URL/models/NAME takes the newest.")
        return place, path
    place = Place(url)
    versions = _whole(place, "")
    if versions:
        return Place("/".join(steps[:-1])), PurePosixPath(steps[-1], str(versions[-1]))
    names = [name for name in place.names(MODELS) if _whole(place, f"{MODELS}/{name}/")]
    if len(names) == 1:
        return place, PurePosixPath(MODELS, names[0], str(_whole(place, f"{MODELS}/{names[0]}/")[-1]))
    if names:
        raise StoreError(
            f"{url} holds {len(names)} models: {', '.join(names[:8])}.",
            f"%maas pull {url.rstrip('/')}/models/{names[0]}",
        )
    beside = Place("/".join(steps[:-1])).names("") if len(steps) > 3 else []
    near = did_you_mean(steps[-1], beside) if steps[-1] not in beside else ""
    raise StoreError(f"There is no model at {url}.", near or "%maas push NAME URL sends one there.")


def _whole(place: Place, path: str) -> list[int]:
    numbers = sorted(int(entry) for entry in place.names(path.rstrip("/")) if entry.isdecimal())
    return [number for number in numbers if place.size(f"{path}{number}/{MANIFEST}") >= 0]


def _fetch(place: Place, there: str, manifest: bytes, parts: Path, check: Check) -> int:
    """Bring the files of a version into a folder, those that are not there yet; how many these were."""
    fetched = 0
    known = _files(manifest)
    for part in ("", *(f"exports/{variant}/" for variant in place.names(f"{there}/exports"))):
        for name in CHANGING:
            if (found := place.read(f"{there}/{part}{name}")) is not None:
                _written(parts, f"{part}{name}").write_bytes(found)
    for variant in place.names(f"{there}/exports"):
        report = place.read(f"{there}/exports/{variant}/{REPORT}")
        if report is None:
            continue  # it is on its way there
        files = _files(report)
        known |= {f"exports/{variant}/{name}": digest for name, digest in files.items()}
        _written(parts, f"exports/{variant}/{REPORT}").write_bytes(report)
    if not known:  # a version of before digests
        known = dict.fromkeys(_walk(place, there, ""), "")
    for path, digest in known.items():
        check()
        file = _written(parts, path)
        if file.is_file() and digest and _sha256(file) == digest:
            continue
        with staging_file(file) as growing:
            place.get(f"{there}/{path}", growing)
            if digest and _sha256(growing) != digest:
                raise StoreError(
                    f"{path} arrived otherwise than it was published at {place.url}/{there}.",
                    "Type it again; if it stays so, push the version anew.",
                )
        fetched += 1
    _written(parts, MANIFEST).write_bytes(manifest)
    return fetched


class staging_file:  # noqa: N801
    """A file beside another one that takes its place if all went well.

    Parameters
    ----------
    file : Path
        The file.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._growing = file.with_name(file.name + ".part")

    def __enter__(self) -> Path:
        return self._growing

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self._growing.replace(self._file)
        else:
            self._growing.unlink(missing_ok=True)


def _walk(place: Place, there: str, path: str) -> Iterator[str]:
    for name in place.names(f"{there}/{path}".rstrip("/")):
        inner = f"{path}/{name}".lstrip("/")
        if name in (CLAIM, MANIFEST):
            continue
        if re.search(r"\.\w+$", name):
            yield inner
        else:
            yield from _walk(place, there, inner)


def _files(written: bytes) -> dict[str, str]:
    """Digests of files, by their paths, of a manifest or a report."""
    try:
        return {str(path): str(digest) for path, digest in json.loads(written).get("files", {}).items()}
    except (ValueError, AttributeError):
        raise StoreError("A manifest cannot be read.", "It is of no store of maas_magics, or is damaged.") from None


def _digests(folder: Path) -> dict[str, str]:
    """Files of a version with their digests; reports of exports, which hold those of others, without."""
    found = _files((folder / MANIFEST).read_bytes())
    for report in sorted(folder.glob(f"exports/*/{REPORT}")):
        place = report.parent.relative_to(folder).as_posix()
        found |= {f"{place}/{name}": digest for name, digest in _files(report.read_bytes()).items()}
        found[f"{place}/{REPORT}"] = ""
    for file in (folder / SEAL, folder / SIGNATURE, *folder.glob(f"exports/*/{SEAL}")):
        if file.is_file():
            found[file.relative_to(folder).as_posix()] = ""
    if not found:
        there = (path for path in folder.rglob("*") if path.is_file() and path.name not in (MANIFEST, CLAIM))
        found = {path.relative_to(folder).as_posix(): "" for path in there}
    return found


def _written(parts: Path, path: str) -> Path:
    """A file below a folder; what a manifest says must not lead out of it."""
    file = (parts / path).resolve()
    if not file.is_relative_to(parts.resolve()) or path.startswith("/"):
        raise StoreError(f"The manifest names a file outside of the version: {path[:80]!r}.", "Trust another place.")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return file


def _parts(work: Path) -> Path:
    """Where versions lie that are on their way here; those that nobody fetched on for a day are removed."""
    place = work / "parts"
    private.folder(place)
    for entry in place.iterdir():
        if time.time() - entry.stat().st_mtime > LEFTOVER:
            shutil.rmtree(entry, ignore_errors=True)
    return place


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
