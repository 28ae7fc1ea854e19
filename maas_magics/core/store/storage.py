"""Where versions lie: a folder of this machine, or a bucket behind fsspec.

A version becomes visible in one step and whole: a folder is renamed into place, a bucket
gets its ``manifest.json`` last. A reader never sees half of one, and two writers of the same
name get two versions. A version never changes and its number is never given again, so whoever
keeps a copy of ``NAME:3`` may trust it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from maas_magics.api import private
from maas_magics.api.errors import StoreError

MANIFEST = "manifest.json"

SAMPLE = "sample.arrow"
"""Rows of the users, kept beside a version: readable for the store's owner alone, even in a shared store."""

REPORT = "artifact.json"
"""What is written down of an export, beside its files. In a bucket it comes last, so an export with it is whole."""

LAST = "last-"
"""Begins the name of a marker that outlives a removed version, so that its number is never given again."""

LEFTOVER = 86_400.0
"""Seconds after which work in progress is what a killed process left behind."""

FRESH = 0.1
"""Seconds in which a file system may give two changes of a folder the same time."""


class Storage(Protocol):
    """Versions of models, by name and number."""

    def names(self) -> list[str]:
        """Names that have a version."""

    def versions(self, name: str) -> list[int]:
        """Published versions, ascending.

        Parameters
        ----------
        name : str
            Name of a model.
        """

    def stamp(self, name: str) -> object:
        """A value that changes when a version is published or removed; cheap.

        Parameters
        ----------
        name : str
            Name of a model.
        """

    def folder(self, name: str, version: int) -> Path:
        """A local folder with the version's files, to read.

        Parameters
        ----------
        name : str
            Name of a model.
        version : int
            Number of a published version.
        """

    def publish(self, name: str, staged: Path) -> int:
        """Make a folder's content the next version, and return its number.

        Parameters
        ----------
        name : str
            Name of a model, which may be new.
        staged : Path
            A folder that `staging` made, with the whole version; it may be moved away.
        """

    def add(self, name: str, version: int, part: str, staged: Path, replace: bool = True) -> None:
        """Add a folder to a version.

        Parameters
        ----------
        name : str
            Name of a model.
        version : int
            Number of a published version.
        part : str
            Path of the folder in the version, such as ``"exports/onnx"``.
        staged : Path
            A folder that `staging` made, with the content; it may be moved away.
        replace : bool
            Whether it takes the place of one that is there already, or is dropped then.
        """

    def write(self, name: str, version: int, part: str, data: bytes) -> None:
        """Write one small file of a version in one step, such as its envelope, which its digests do not hold.

        Parameters
        ----------
        name : str
            Name of a model.
        version : int
            Number of a published version.
        part : str
            Path of the file in the version.
        data : bytes
            What it holds from now on.
        """

    def aliases(self, name: str) -> dict[str, int]:
        """Version of each alias, by its name.

        Parameters
        ----------
        name : str
            Name of a model.
        """

    def set_alias(self, name: str, alias: str, version: int | None) -> None:
        """Set one alias, or remove it.

        Parameters
        ----------
        name : str
            Name of a model.
        alias : str
            Name of the alias.
        version : int or None
            Number of a published version; None removes the alias.
        """

    def delete(self, name: str, version: int | None) -> None:
        """Remove a version, or every one.

        Parameters
        ----------
        name : str
            Name of a model.
        version : int or None
            Number of a published version; None for all of them.
        """


class Folder:
    """Versions in a folder of this machine: ``models/<name>/<version>/``.

    Parameters
    ----------
    root : Path
        Folder of the store.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._models = root / "models"

    def names(self) -> list[str]:
        """Names that have a version."""
        if not self._models.is_dir():
            return []
        return sorted(entry.name for entry in self._models.iterdir() if entry.is_dir() and self.versions(entry.name))

    def versions(self, name: str) -> list[int]:
        """Published versions, ascending."""
        return sorted(int(entry) for entry in self._list(name) if entry.isdecimal())

    def _list(self, name: str) -> list[str]:
        try:
            return os.listdir(self._models / name)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def stamp(self, name: str) -> object:
        """Modification time of the model's folder; equal to nothing while a further change could hide behind it."""
        try:
            changed = os.stat(self._models / name).st_mtime_ns
        except FileNotFoundError:
            return None
        return changed if abs(time.time_ns() - changed) > FRESH * 1e9 else object()

    def folder(self, name: str, version: int) -> Path:
        """The version's own folder."""
        return self._models / name / str(version)

    def publish(self, name: str, staged: Path) -> int:
        """Rename ``staged`` to the next free number."""
        parent = self._models / name
        self._open_up(staged)
        _sync(staged)
        while True:
            for place in (self._models, parent):
                place.mkdir(mode=_mode(self.root), parents=True, exist_ok=True)
            version = _next(self._list(name))
            try:
                os.rename(staged, parent / str(version))
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                    continue
                raise
            _sync_folder(parent)
            return version

    def add(self, name: str, version: int, part: str, staged: Path, replace: bool = True) -> None:
        """Rename ``staged`` into the version's folder."""
        place = self.folder(name, version) / part
        place.parent.mkdir(mode=_mode(self.root), exist_ok=True)
        self._open_up(staged)
        _sync(staged)
        while True:
            old = Path(tempfile.mkdtemp(dir=staged.parent)) / "old"
            if replace:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(place, old)
            try:
                os.rename(staged, place)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                if replace:  # another process was faster
                    continue
            break
        _sync_folder(place.parent)
        shutil.rmtree(old.parent, ignore_errors=True)

    def write(self, name: str, version: int, part: str, data: bytes) -> None:
        """Rename a new file into the place of the old one."""
        with staging(self.root) as work:
            file = work / Path(part).name
            file.write_bytes(data)
            self._open_up(work)
            _sync(work)
            os.replace(file, self.folder(name, version) / part)

    def _open_up(self, staged: Path) -> None:
        """Let those read a version who may read the store, but for its rows."""
        if os.name == "posix":
            mode = _mode(self.root)
            for path in (staged, *staged.rglob("*")):
                path.chmod(0o600 if path.name == SAMPLE else mode if path.is_dir() else mode & 0o666)

    def aliases(self, name: str) -> dict[str, int]:
        """Version of each alias."""
        found: dict[str, int] = {}
        with contextlib.suppress(FileNotFoundError):
            for file in (self._models / name / "aliases").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    found[file.name] = int(file.read_text())
        return found

    def set_alias(self, name: str, alias: str, version: int | None) -> None:
        """Set one alias in one step, or take it away; each is a file, so that two writers lose nothing."""
        place = self._models / name / "aliases" / alias
        if version is None:
            place.unlink(missing_ok=True)
            return
        with staging(self.root) as work:
            place.parent.mkdir(exist_ok=True)
            (work / alias).write_text(str(version))
            _sync(work)
            os.replace(work / alias, place)

    def delete(self, name: str, version: int | None) -> None:
        """Rename away first, so that a reader never sees half a version, then remove."""
        with staging(self.root) as trash:
            (self._models / name / f"{LAST}{_next(self._list(name)) - 1}").touch()
            for number in self.versions(name) if version is None else [version]:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(self.folder(name, number), trash / str(number))


class Bucket:
    """Versions in a bucket, by an fsspec URL; read through a local copy, since versions never change.

    Parameters
    ----------
    url : str
        As fsspec takes it: ``s3://bucket/prefix``, ``gs://…``, ``memory://…``.
    cache : Path
        Local folder for the copies.
    """

    def __init__(self, url: str, cache: Path) -> None:
        import fsspec

        try:
            self._fs, self._base = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise StoreError(
                f"The store {url!r} cannot be opened: {error}", "Set MAAS_STORE to a folder or a URL."
            ) from None
        self._base = self._base.rstrip("/") + "/models"
        self._cache = Folder(cache)

    def names(self) -> list[str]:
        """Names that have a version."""
        return sorted(name for name in self._list(self._base) if self.versions(name))

    def versions(self, name: str) -> list[int]:
        """Versions whose manifest is there, ascending."""
        here = f"{self._base}/{name}"
        numbers = sorted(int(entry) for entry in self._list(here) if entry.isdecimal())
        return [number for number in numbers if self._fs.exists(f"{here}/{number}/{MANIFEST}")]

    def stamp(self, name: str) -> object:
        """The versions themselves."""
        return tuple(self.versions(name))

    def folder(self, name: str, version: int) -> Path:
        """Local copy; exports that came later are fetched too."""
        place = self._cache.folder(name, version)
        there = f"{self._base}/{name}/{version}"
        if not place.is_dir():
            with staging(self._cache.root) as work:
                self._fs.get(there, str(work / "copy"), recursive=True)
                for export in (work / "copy").glob("exports/*"):
                    if not (export / REPORT).is_file():  # it is on its way into the bucket
                        shutil.rmtree(export)
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                for rows in (work / "copy").rglob(SAMPLE):
                    private.close(rows)
                with contextlib.suppress(OSError):
                    os.rename(work / "copy", place)
        for variant in self._list(f"{there}/exports"):
            whole = f"{there}/exports/{variant}"
            if not (place / "exports" / variant).is_dir() and self._fs.exists(f"{whole}/{REPORT}"):
                with staging(self._cache.root) as work:
                    self._fs.get(whole, str(work / "copy"), recursive=True)
                    self._cache.add(name, version, f"exports/{variant}", work / "copy", replace=False)
        return place

    def publish(self, name: str, staged: Path) -> int:
        """Claim the next free number, upload, and write the manifest last."""
        version = _next(self._list(f"{self._base}/{name}"))
        while True:
            there = f"{self._base}/{name}/{version}"
            try:
                self._fs.makedirs(there, exist_ok=True)
                self._claim(f"{there}/claim")
                break
            except FileExistsError:
                version += 1
        for file in sorted(path for path in staged.rglob("*") if path.is_file() and path.name != MANIFEST):
            self._put(file, f"{there}/{file.relative_to(staged).as_posix()}")
        self._put(staged / MANIFEST, f"{there}/{MANIFEST}")
        return version

    def add(self, name: str, version: int, part: str, staged: Path, replace: bool = True) -> None:
        """Upload into the version, the report last."""
        there = f"{self._base}/{name}/{version}/{part}"
        if not replace and REPORT in self._list(there):
            return
        files = (path for path in staged.rglob("*") if path.is_file())
        for file in sorted(files, key=lambda path: (path.name == REPORT, path)):
            self._put(file, f"{there}/{file.relative_to(staged).as_posix()}")
        if self._cache.folder(name, version).is_dir():
            self._cache.add(name, version, part, staged, replace)

    def write(self, name: str, version: int, part: str, data: bytes) -> None:
        """Write it there, and into the copy."""
        self._fs.pipe_file(f"{self._base}/{name}/{version}/{part}", data)
        if self._cache.folder(name, version).is_dir():
            self._cache.write(name, version, part, data)

    def aliases(self, name: str) -> dict[str, int]:
        """Version of each alias."""
        there = f"{self._base}/{name}/aliases"
        return {alias: int(self._fs.cat_file(f"{there}/{alias}")) for alias in self._list(there)}

    def set_alias(self, name: str, alias: str, version: int | None) -> None:
        """Set one alias, or take it away."""
        there = f"{self._base}/{name}/aliases"
        if version is None:
            self._fs.rm_file(f"{there}/{alias}")
            return
        self._fs.makedirs(there, exist_ok=True)
        self._fs.pipe_file(f"{there}/{alias}", str(version).encode())

    def delete(self, name: str, version: int | None) -> None:
        """Remove the manifests first, then the rest."""
        here = f"{self._base}/{name}"
        gone = self.versions(name) if version is None else [version]
        self._fs.pipe_file(f"{here}/{LAST}{_next(self._list(here)) - 1}", b"")
        for number in gone:
            self._fs.rm_file(f"{here}/{number}/{MANIFEST}")
            self._fs.rm(f"{here}/{number}", recursive=True)
            if self._cache.folder(name, number).is_dir():
                self._cache.delete(name, number)

    def _claim(self, there: str) -> None:
        """Make an empty file, or raise FileExistsError, in one step; a disk behind an URL has a mode for that."""
        if "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,)):
            self._fs.open(there, "xb").close()
        else:
            self._fs.pipe_file(there, b"", mode="create")

    def _put(self, file: Path, there: str) -> None:
        self._fs.makedirs(there.rpartition("/")[0], exist_ok=True)
        self._fs.put_file(str(file), there)

    def _list(self, there: str) -> list[str]:
        try:
            self._fs.invalidate_cache()
            return [entry.rstrip("/").rpartition("/")[2] for entry in self._fs.ls(there, detail=False)]
        except FileNotFoundError:
            return []


@contextlib.contextmanager
def staging(root: Path) -> Iterator[Path]:
    """An empty folder on the store's disk that is gone afterwards, whatever happened; write errors become short.

    Parameters
    ----------
    root : Path
        Local folder of the store.
    """
    place = root / "tmp"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        private.folder(place)
        _sweep(place)
        work = Path(tempfile.mkdtemp(dir=place))
    except OSError as error:
        raise StoreError(
            f"The store {root} cannot be written: {error.strerror}.", "Set MAAS_STORE to another folder."
        ) from error
    try:
        yield work
    except Exception as error:
        reason = unwritable(error)
        if reason is None:
            raise
        raise StoreError(
            f"The store {root} cannot be written: {reason}. Nothing was published.",
            "Free some space, or set MAAS_STORE to another folder.",
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


def unwritable(error: BaseException) -> str | None:
    """Why a disk took no more, if that is what an error is about: not every library raises an `OSError`.

    Parameters
    ----------
    error : BaseException
        What a write raised.
    """
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno in UNWRITABLE else None
    return next((text for code in UNWRITABLE if (text := os.strerror(code)).lower() in str(error).lower()), None)


def _mode(root: Path) -> int:
    """Mode of folders in a store: as open as the store's own."""
    return 0o700 | (stat.S_IMODE(root.stat().st_mode) & 0o077)


def _sweep(place: Path) -> None:
    """Remove what processes that were killed left behind."""
    for entry in os.scandir(place):
        with contextlib.suppress(OSError):
            if time.time() - entry.stat().st_mtime > LEFTOVER:
                shutil.rmtree(entry.path, ignore_errors=True)


def _next(entries: Iterable[str]) -> int:
    """Number of the next version, by the names in a model's folder."""
    numbers = (re.fullmatch(rf"(?:{LAST})?(\d+)", entry, re.ASCII) for entry in entries)
    return 1 + max((int(found[1]) for found in numbers if found), default=0)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
        else:
            _sync_folder(path)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_storage(place: str) -> tuple[Storage, Path]:
    """Storage at a folder or URL, and a local folder for work in progress and the journal.

    Parameters
    ----------
    place : str
        A folder, or a URL that fsspec opens.
    """
    if "://" not in place:
        root = Path(place).expanduser().absolute()
        return Folder(root), root
    import hashlib

    from platformdirs import user_cache_path

    cache: Path = user_cache_path("maas_magics") / hashlib.sha256(place.encode()).hexdigest()[:16]
    return Bucket(place, cache), cache
