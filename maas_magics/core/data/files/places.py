"""From a path, a URL, a folder, a pattern, or a list of them to the files that hold rows."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from maas_magics.api.errors import DataError, did_you_mean

FORMATS = {
    "csv": "csv",
    "tsv": "csv",
    "txt": "csv",
    "parquet": "parquet",
    "pq": "parquet",
    "jsonl": "json",
    "ndjson": "json",
    "json": "json",
    "arrow": "ipc",
    "feather": "ipc",
    "ipc": "ipc",
}
"""Format of each file ending."""

PACKED = (".gz", ".bz2", ".zst")
"""Endings of compressed files, which are unpacked as they are read."""

NOBODY = "__HIVE_DEFAULT_PARTITION__"
"""Name of a partition whose value is missing."""


@dataclass(frozen=True)
class Place:
    """One file.

    Attributes
    ----------
    filesystem : pyarrow.fs.FileSystem
    path : str
    keys : dict of str to str or None
        Columns that its folders name (``year=2024/``), the same in all its rows.
    """

    filesystem: Any
    path: str
    keys: dict[str, str | None]

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.rpartition("/")[2]

    @property
    def ending(self) -> str:
        """Ending of its name, without that of its compression."""
        return ending_of(self.path)

    @property
    def kind(self) -> str:
        """Its format, or nothing."""
        return FORMATS.get(self.ending, "")

    @property
    def packed(self) -> bool:
        """Whether it is compressed as a whole."""
        return self.path.lower().endswith(PACKED)

    @property
    def size(self) -> int:
        """Bytes of it on disk."""
        return int(self.filesystem.get_file_info(self.path).size or 0)

    def stream(self) -> Any:
        """It as a stream of bytes, unpacked."""
        import pyarrow as pa

        packing = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}.get(os.path.splitext(self.path.lower())[1])
        opened = self.filesystem.open_input_stream(self.path, compression=None)
        return opened if packing is None else pa.CompressedInputStream(opened, packing)


def find(data: Any) -> tuple[list[Place], list[str]]:
    """Files that hold the rows of what the user named, and notes on files beside them that are not read.

    Raises
    ------
    DataError
        If there is no such file, none of a known format, or they are of several.
    """
    if isinstance(data, (list, tuple)):
        found, notes = [], []
        for item in data:
            places, said = find(item)
            found += places
            notes += said
        kinds = {place.kind for place in found}
        if len(kinds) > 1:
            raise DataError(f"The files are of several formats: {', '.join(sorted(kinds))}.", "Give those of one.")
        return found, notes
    path = os.fspath(data)
    if "\0" in path:
        raise DataError(f"There is no file {path!r}.")
    filesystem, inner = _filesystem(path)
    info = filesystem.get_file_info(inner)
    if info.type.name == "NotFound" and any(char in path for char in "*?["):
        matching = _matching(path)
        if not matching:
            raise DataError(f"No file matches {path!r}.", f"The working folder is {os.getcwd()!r}.")
        return find(matching)
    if info.type.name == "NotFound":
        raise DataError(f"There is no file {path!r}.", f"The working folder is {os.getcwd()!r}.")
    if info.type.name == "Directory":
        return _folder(filesystem, inner.rstrip("/"), path)
    place = Place(filesystem, inner, _keys_above(inner))
    if not place.kind:
        raise DataError(f"The format of {path!r} is not known from its ending.", did_you_mean(place.ending, FORMATS))
    return [place], []


def looks_like_files(data: Any) -> bool:
    """Whether a list holds nothing but paths: path objects, URLs, folders, and names with a file's ending."""
    if not isinstance(data, (list, tuple)) or not data:
        return False
    return all(isinstance(item, (str, os.PathLike)) and _is_path(item) for item in data)


def _is_path(item: Any) -> bool:
    if not isinstance(item, str):
        return True
    return bool(item) and "\n" not in item and (ending_of(item) in FORMATS or os.path.isdir(os.path.expanduser(item)))


def ending_of(path: str) -> str:
    """Ending of a file's name, without that of its compression."""
    name = path.partition("?")[0].rstrip("/").rpartition("/")[2].lower() if "://" in path else path.rstrip("/").lower()
    name = name.rpartition("/")[2]
    for compression in PACKED:
        name = name.removesuffix(compression)
    return name.rpartition(".")[2] if "." in name else ""


def _matching(path: str) -> list[str]:
    """Files that a pattern names, sorted; of those, folders only where no file is named."""
    if "://" in path:
        import fsspec

        filesystem, inner = fsspec.core.url_to_fs(path)
        return sorted(str(filesystem.unstrip_protocol(name)) for name in filesystem.glob(inner))
    import glob

    found = sorted(glob.glob(os.path.expanduser(path), recursive=True))
    return [name for name in found if os.path.isfile(name)] or found


def _folder(filesystem: Any, folder: str, shown: str) -> tuple[list[Place], list[str]]:
    """Parts of a folder: files of the format that most of it are of."""
    from pyarrow.fs import FileSelector

    files = sorted(info.path for info in filesystem.get_file_info(FileSelector(folder, recursive=True)) if info.is_file)
    inside = {path: path[len(folder) :].lstrip("/") for path in files}
    empty = {info.path for info in filesystem.get_file_info(files) if info.size == 0} if files else set()
    parts = [path for path in files if not _aside(inside[path]) and path not in empty]
    counted = Counter(_group(path) for path in parts)
    counted.pop("", None)
    if not counted:
        raise DataError(
            f"The folder {shown!r} holds no file of rows.", f"Files that are read end in {', '.join(FORMATS)}."
        )
    chosen = max(counted, key=lambda group: (group != "text", counted[group], group))
    taken = [path for path in parts if _group(path) == chosen]
    others = [inside[path] for path in files if path not in set(taken)]
    notes = []
    if others:
        names = ", ".join(others[:5]) + (f" and {len(others) - 5:,} more" if len(others) > 5 else "")
        notes.append(f"Of the folder {shown!r}, {len(taken):,} parts are read; not read: {names}.")
    return [Place(filesystem, path, _keys_above(path) | _keys(inside[path])) for path in taken], notes


def _group(path: str) -> str:
    """What a file counts as among the parts of a folder: plain text is data only where nothing else is."""
    ending = ending_of(path)
    return "text" if ending == "txt" else FORMATS.get(ending, "")


def _aside(inner: str) -> bool:
    """Whether a file's name, or a folder's above it, says that it is not data; a partition may begin like that."""
    return any(word.startswith((".", "_")) and "=" not in word for word in inner.split("/"))


def _keys_above(path: str) -> dict[str, str | None]:
    """Columns that the folders right above a file name, up to the first that names none."""
    words = path.split("/")
    start = len(words) - 1
    while start and "=" in words[start - 1]:
        start -= 1
    return _keys("/".join(words[start:]))


def _keys(inner: str) -> dict[str, str | None]:
    """Columns that the folders above a file name, as Hive and Spark write them."""
    pairs = [word.partition("=") for word in inner.split("/")[:-1] if "=" in word]
    return {unquote(name): None if value == NOBODY else unquote(value) for name, _, value in pairs if name}


def _filesystem(path: str) -> tuple[Any, str]:
    from pyarrow.fs import FSSpecHandler, LocalFileSystem, PyFileSystem

    if "://" not in path:
        return LocalFileSystem(), os.path.abspath(os.path.expanduser(path))
    import fsspec

    try:
        filesystem, inner = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise DataError(f"{path!r} cannot be opened: {first_line(error)}") from None
    return PyFileSystem(FSSpecHandler(filesystem)), inner


def first_line(error: BaseException) -> str:
    """What an error says first."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def names_of(places: Sequence[Place]) -> str:
    """A file, or how many there are, for display."""
    return repr(places[0].name) if len(places) == 1 else f"{places[0].name!r} and {len(places) - 1:,} more"
