"""A folder or bucket elsewhere, by an fsspec URL: asked again where it fails, with errors that say why."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from maas_magics.api.errors import MaasError, MissingDependency, StoreError
from maas_magics.core.store.storage import unwritable

T = TypeVar("T")

TRIES = 4

PAUSE = 0.2
"""Seconds before the second try; each later one waits twice as long."""

PART = 16 * 2**20
"""Bytes of one part of an upload in parts."""

FINAL = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
"""What no other try changes."""


def is_address(out: str) -> bool:
    """Whether a place is named by a URL rather than as a folder or file of this machine.

    Parameters
    ----------
    out : str
        As the user named it.
    """
    return "://" in out


class Place:
    """Files below a URL.

    Parameters
    ----------
    url : str
        As fsspec takes it: ``s3://bucket/prefix``, ``gs://…``, ``file:///folder``; a folder of this machine.

    Raises
    ------
    StoreError
        If there is no such kind of place.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        scheme = url.partition("://")[0] if "://" in url else "file"
        try:
            self._fs, base = fsspec.core.url_to_fs(self.url if "://" in url else str(Path(url).expanduser().absolute()))
        except ImportError as error:
            extra = "maas-magics[s3]" if scheme in ("s3", "s3a") else _distribution(error, scheme)
            raise MissingDependency(
                f"{url} needs a package that is not installed.", f"%pip install '{extra}'"
            ) from None
        except Exception as error:  # each kind of place has errors of its own
            raise StoreError(f"{url} cannot be opened: {_line(error)}", "s3://BUCKET/PREFIX, or a folder") from None
        self._base = base.rstrip("/")

    def names(self, path: str) -> list[str]:
        """Names in a folder; none where there is no such folder."""

        def listed() -> list[str]:
            self._fs.invalidate_cache()
            found = self._fs.ls(self._at(path), detail=False)
            return [entry.rstrip("/").rpartition("/")[2] for entry in found]

        try:
            return sorted(name for name in self._tried(listed, path) if name)
        except _Absent:
            return []

    def size(self, path: str) -> int:
        """Bytes of a file; −1 where there is none."""

        def measured() -> int:
            self._fs.invalidate_cache()
            return int(self._fs.info(self._at(path))["size"])

        try:
            return self._tried(measured, path)
        except _Absent:
            return -1

    def read(self, path: str) -> bytes | None:
        """All bytes of a small file; None where there is none."""
        try:
            return self._tried(lambda: bytes(self._fs.cat_file(self._at(path))), path)
        except _Absent:
            return None

    def write(self, path: str, data: bytes) -> None:
        """Write a small file."""
        self._made(path)
        self._tried(lambda: self._fs.pipe_file(self._at(path), data), path)

    def claim(self, path: str, data: bytes) -> bool:
        """Write a small file where there is none, in one step; whether there was none."""
        self._made(path)
        there = self._at(path)

        def claimed() -> bool:
            try:
                if "file" in self._protocols:
                    with self._fs.open(there, "xb") as file:
                        file.write(data)
                else:
                    self._fs.pipe_file(there, data, mode="create")
                    if "memory" in self._protocols:  # it makes an empty file
                        self._fs.pipe_file(there, data)
            except FileExistsError:
                return False
            return True

        return self._tried(claimed, path)

    def put(self, file: Path, path: str) -> None:
        """Send a file, in parts where it is large; it is there whole, or is sent again."""
        self._made(path)
        size = file.stat().st_size
        in_parts = {"chunksize": PART} if "s3" in self._protocols else {}

        def sent() -> None:
            self._fs.put_file(str(file), self._at(path), **in_parts)
            self._fs.invalidate_cache()
            if (there := int(self._fs.info(self._at(path))["size"])) != size:
                raise OSError(errno.EIO, f"{there:,} of {size:,} bytes arrived")

        self._tried(sent, path)

    def get(self, path: str, file: Path) -> None:
        """Fetch a file."""

        def fetched() -> None:
            self._fs.get_file(self._at(path), str(file))

        self._tried(fetched, path)

    @property
    def _protocols(self) -> tuple[str, ...]:
        found = self._fs.protocol
        return found if isinstance(found, tuple) else (found,)

    def _at(self, path: str) -> str:
        return f"{self._base}/{path}" if path else self._base

    def _made(self, path: str) -> None:
        """Make the folder of a file, where a place has folders: a bucket is never made."""
        if "file" in self._protocols or "memory" in self._protocols:
            self._tried(lambda: self._fs.makedirs(self._at(path).rpartition("/")[0], exist_ok=True), path)

    def _tried(self, ask: Callable[[], T], path: str) -> T:
        """What a place answers, asked again where the network fails."""
        for left in reversed(range(TRIES)):
            try:
                return ask()
            except MaasError:
                raise
            except Exception as error:  # botocore, aiohttp and others have errors of their own
                if isinstance(error, FINAL) or unwritable(error) or not left:
                    raise self._told(error, path) from error
                time.sleep(PAUSE * 2 ** (TRIES - 1 - left))
        raise AssertionError

    def _told(self, error: Exception, path: str) -> StoreError:
        bucket = self._base.partition("/")[0] or self._base
        if isinstance(error, FileNotFoundError):
            if "bucket does not exist" in str(error).lower():
                return StoreError(f"There is no bucket {bucket!r}.", "Make it first, or name another one.")
            return _Absent(f"There is no {path or 'such place'} at {self.url}.", "Look at its address.")
        if isinstance(error, PermissionError) or "credentials" in str(error).lower():
            return StoreError(
                f"{self.url} gives no permission: {_line(error)}",
                "Look at the credentials, and who may write there.",
            )
        if unwritable(error):
            return StoreError(f"{self.url} cannot be written: {_line(error)}", "Free some space, and type it again.")
        return StoreError(
            f"{self.url} was lost after {TRIES} tries: {_line(error)}",
            "Type it again: what arrived is not sent twice.",
        )


class _Absent(StoreError):
    """There is no such file."""


def _distribution(error: ImportError, scheme: str) -> str:
    known = {"gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs", "hf": "huggingface_hub"}
    return known.get(scheme, error.name or "fsspec[full]")


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
