"""Where versions lie: a folder of this machine, or a bucket behind fsspec.

A version becomes visible in one step and whole: a folder is renamed into place, a bucket
gets its ``manifest.json`` last. A reader never sees half of one, and two writers of the same
name get two versions.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from maas_magics.api.errors import StoreError

MANIFEST = "manifest.json"


class Storage(Protocol):
    """Versions of models, by name and number."""

    def names(self) -> list[str]:
        """Names that have a version."""

    def versions(self, name: str) -> list[int]:
        """Published versions, ascending."""

    def stamp(self, name: str) -> object:
        """Something that changes when a version is published or removed; cheap."""

    def folder(self, name: str, version: int) -> Path:
        """A local folder with the version's files, to read."""

    def publish(self, name: str, staged: Path) -> int:
        """Make a folder's content the next version."""

    def add(self, name: str, version: int, part: str, staged: Path) -> None:
        """Add a folder to a version, in place of one of the same name."""

    def aliases(self, name: str) -> dict[str, int]:
        """Version of each alias."""

    def write_aliases(self, name: str, aliases: dict[str, int]) -> None:
        """Replace the aliases."""

    def delete(self, name: str, version: int | None) -> None:
        """Remove a version, or every one."""


class Folder:
    """Versions in a folder of this machine: ``models/<name>/<version>/``."""

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
        try:
            return sorted(int(entry) for entry in os.listdir(self._models / name) if entry.isdigit())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def stamp(self, name: str) -> object:
        """Modification time of the model's folder."""
        try:
            return os.stat(self._models / name).st_mtime_ns
        except FileNotFoundError:
            return None

    def folder(self, name: str, version: int) -> Path:
        """The version's own folder."""
        return self._models / name / str(version)

    def publish(self, name: str, staged: Path) -> int:
        """Rename ``staged`` to the next free number."""
        parent = self._models / name
        parent.mkdir(parents=True, exist_ok=True)
        _sync(staged)
        while True:
            version = max([0, *self.versions(name)]) + 1
            try:
                os.rename(staged, parent / str(version))
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                    continue
                raise
            _sync_folder(parent)
            return version

    def add(self, name: str, version: int, part: str, staged: Path) -> None:
        """Rename ``staged`` into the version's folder."""
        place = self.folder(name, version) / part
        place.parent.mkdir(exist_ok=True)
        _sync(staged)
        old = Path(tempfile.mkdtemp(dir=staged.parent)) / "old"
        with contextlib.suppress(FileNotFoundError):
            os.rename(place, old)
        os.rename(staged, place)
        _sync_folder(place.parent)
        shutil.rmtree(old.parent, ignore_errors=True)

    def aliases(self, name: str) -> dict[str, int]:
        """Version of each alias."""
        try:
            found: dict[str, int] = json.loads((self._models / name / "aliases.json").read_text())
            return found
        except FileNotFoundError:
            return {}

    def write_aliases(self, name: str, aliases: dict[str, int]) -> None:
        """Replace the aliases in one step."""
        parent = self._models / name
        with tempfile.NamedTemporaryFile("w", dir=parent, suffix=".tmp", delete=False) as file:
            json.dump(aliases, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, parent / "aliases.json")

    def delete(self, name: str, version: int | None) -> None:
        """Rename away first, so that a reader never sees half a version, then remove."""
        place = self._models / name if version is None else self.folder(name, version)
        with staging(self.root) as trash:
            os.rename(place, trash / "gone")


class Bucket:
    """Versions in a bucket, by an fsspec URL; read through a local copy, since versions never change.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``, ``gs://…``, ``memory://…``
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
        numbers = sorted(int(entry) for entry in self._list(here) if entry.isdigit())
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
                place.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(OSError):
                    os.rename(work / "copy", place)
        for variant in self._list(f"{there}/exports"):
            if not (place / "exports" / variant).is_dir():
                with staging(self._cache.root) as work:
                    self._fs.get(f"{there}/exports/{variant}", str(work / "copy"), recursive=True)
                    self._cache.add(name, version, f"exports/{variant}", work / "copy")
        return place

    def publish(self, name: str, staged: Path) -> int:
        """Claim the next free number, upload, and write the manifest last."""
        version = max([0, *(int(entry) for entry in self._list(f"{self._base}/{name}") if entry.isdigit())])
        while True:
            version += 1
            there = f"{self._base}/{name}/{version}"
            try:
                self._fs.makedirs(there, exist_ok=True)
                self._fs.pipe_file(f"{there}/claim", b"", mode="create")
                break
            except FileExistsError:
                continue
        for file in sorted(path for path in staged.rglob("*") if path.is_file() and path.name != MANIFEST):
            self._put(file, f"{there}/{file.relative_to(staged).as_posix()}")
        self._put(staged / MANIFEST, f"{there}/{MANIFEST}")
        return version

    def add(self, name: str, version: int, part: str, staged: Path) -> None:
        """Upload into the version."""
        for file in sorted(path for path in staged.rglob("*") if path.is_file()):
            self._put(file, f"{self._base}/{name}/{version}/{part}/{file.relative_to(staged).as_posix()}")
        if self._cache.folder(name, version).is_dir():
            self._cache.add(name, version, part, staged)

    def aliases(self, name: str) -> dict[str, int]:
        """Version of each alias."""
        try:
            found: dict[str, int] = json.loads(self._fs.cat_file(f"{self._base}/{name}/aliases.json"))
            return found
        except FileNotFoundError:
            return {}

    def write_aliases(self, name: str, aliases: dict[str, int]) -> None:
        """Replace the aliases."""
        self._fs.pipe_file(f"{self._base}/{name}/aliases.json", json.dumps(aliases).encode())

    def delete(self, name: str, version: int | None) -> None:
        """Remove the manifests first, then the rest."""
        there = f"{self._base}/{name}" if version is None else f"{self._base}/{name}/{version}"
        for number in self.versions(name) if version is None else [version]:
            self._fs.rm_file(f"{self._base}/{name}/{number}/{MANIFEST}")
        self._fs.rm(there, recursive=True)
        if self._cache.versions(name):
            self._cache.delete(name, version)

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
    """An empty folder on the store's disk that is gone afterwards, whatever happened; write errors become short."""
    place = root / "tmp"
    try:
        place.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=place))
    except OSError as error:
        raise StoreError(
            f"The store {root} cannot be written: {error.strerror}.", "Set MAAS_STORE to another folder."
        ) from error
    try:
        yield work
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise StoreError(
                f"The store {root} cannot be written: {error.strerror}. Nothing was published.",
                "Free some space, or set MAAS_STORE to another folder.",
            ) from error
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
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
    """Storage at a folder or URL, and a local folder for work in progress and the journal."""
    if "://" not in place:
        root = Path(place).expanduser().absolute()
        return Folder(root), root
    import hashlib

    from platformdirs import user_cache_path

    cache: Path = user_cache_path("maas_magics") / hashlib.sha256(place.encode()).hexdigest()[:16]
    return Bucket(place, cache), cache
