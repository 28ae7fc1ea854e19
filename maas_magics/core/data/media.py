"""Columns of pictures and sounds: bytes of files, structs of bytes and a path (as Hugging Face has them), or paths."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from glob import glob
from itertools import compress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import Array, is_text

T = TypeVar("T")

LARGEST = 256 * 2**20
"""Bytes of one file that are read."""

PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
SOUNDS = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".aiff", ".aif")

OPENS: ContextVar[bool] = ContextVar("opens", default=True)
"""Whether a text in a column of files is opened as a path: not one that was sent from another machine."""

SHUFFLED: ContextVar[bool] = ContextVar("shuffled", default=False)
"""Whether rows are in another order than they came in, so that a place among them says nothing to anyone."""

LEAVES_OUT: ContextVar[bool] = ContextVar("leaves_out", default=False)
"""Whether rows whose files cannot be read may be left out, if that is requested."""

SEEN = 20
"""Values that are looked at to recognise a column of files."""


@contextmanager
def opening(allowed: bool) -> Iterator[None]:
    """Open paths in columns of files, or do not, while the block lasts; never where a block around does not."""
    token = OPENS.set(allowed and OPENS.get())
    try:
        yield
    finally:
        OPENS.reset(token)


@contextmanager
def shuffled() -> Iterator[None]:
    """Name no places of rows while the block lasts."""
    token = SHUFFLED.set(True)
    try:
        with leaving_out():
            yield
    finally:
        SHUFFLED.reset(token)


@contextmanager
def leaving_out() -> Iterator[None]:
    """Say in errors about files how rows are left out, while the block lasts."""
    token = LEAVES_OUT.set(True)
    try:
        yield
    finally:
        LEAVES_OUT.reset(token)


def bad_file(message: str, hint: str) -> DataError:
    """The error for a file that cannot be read."""
    return DataError(message, "--max-bad 1% leaves out as many such rows." if LEAVES_OUT.get() else hint)


def embedded(table: pa.Table) -> pa.Table:
    """The table with what files hold in place of their paths, so that it can be sent to another machine."""
    for place, field in enumerate(table.schema):
        values = table.column(place)
        if is_text(field.type) and first_bytes(values, (*PICTURES, *SOUNDS)):
            found = kept(values, field.name)
            table = table.set_column(place, field.name, found)
    return table


def folder_of_files(path: str) -> pa.Table | None:
    """A row for each picture, or each sound, of a folder on this machine: its path, and the folder that it lies in.

    Columns are ``picture`` or ``sound``, and ``label`` where all lie in folders of the folder.

    Parameters
    ----------
    path : str
        Of the folder.

    Returns
    -------
    pyarrow.Table or None
        None where most files are neither.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        return None
    found = _of_one_kind(_below(str(root)))
    if found is None:
        return None
    name, files = found
    columns = {name: [os.path.join(root, *file) for file in files]}
    if all(len(file) > 1 for file in files):
        columns["label"] = [file[0] for file in files]
    return pa.table(columns)


def files_of_pattern(path: str) -> pa.Table | None:
    """A row for each picture, or each sound, that a pattern such as ``photos/*/*.png`` names on this machine.

    Columns are ``picture`` or ``sound``, and ``label`` where they lie in several folders.

    Parameters
    ----------
    path : str
        The pattern.

    Returns
    -------
    pyarrow.Table or None
        None where it is no pattern, or most files are neither.
    """
    if not any(char in path for char in "*?[") or os.path.exists(path):
        return None
    matching = sorted(file for file in glob(os.path.expanduser(path), recursive=True) if os.path.isfile(file))
    found = _of_one_kind([(os.path.basename(os.path.dirname(file)), file) for file in matching])
    if found is None:
        return None
    name, files = found
    columns = {name: [file[-1] for file in files]}
    if len({os.path.dirname(file[-1]) for file in files}) > 1:
        columns["label"] = [file[0] for file in files]
    return pa.table(columns)


def _of_one_kind(found: list[tuple[str, ...]]) -> tuple[str, list[tuple[str, ...]]] | None:
    """What most files hold, and those that do; None where they are neither pictures nor sounds."""
    for name, endings in (("picture", PICTURES), ("sound", SOUNDS)):
        files = [file for file in found if file[-1].lower().endswith(endings)]
        if len(files) > len(found) / 2:
            return name, files
    return None


def _below(root: str) -> list[tuple[str, ...]]:
    """The files below a folder, each as the names that lead to it, in the order of paths; hidden ones are left out."""
    found: list[tuple[str, ...]] = []
    open_: list[tuple[str, tuple[str, ...]]] = [(root, ())]
    while open_:
        folder, names = open_.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        open_.append((entry.path, (*names, entry.name)))
                    elif not entry.name.startswith(".") and entry.is_file():
                        found.append((*names, entry.name))
        except OSError:
            continue  # as `Path.rglob` does with a folder that may not be read
    return sorted(found)


def holds_files(kind: pa.DataType) -> bool:
    """Whether an Arrow type may hold the bytes of files."""
    types = pa.types
    if types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def is_path(text: str, endings: Iterable[str]) -> bool:
    """Whether a text names a file that is there, of one of some endings."""
    return text.lower().endswith(tuple(endings)) and Path(text).expanduser().is_file()


def is_missing(value: object) -> bool:
    """Whether there is no file in a value."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    return value is None or value == "" or value == b""


def file_bytes(value: object, name: str, row: int) -> bytes:
    """The bytes of a value: itself, those of a struct, or those of the file that a text names; none of what is missing.

    Raises
    ------
    DataError
        If it is something else, or the file cannot be read.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if value is None or value == "":
        return b""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str) and not OPENS.get():
        raise DataError(f"Column {name!r} holds paths in row {row}; a service opens none.", "Send what the files hold.")
    if not isinstance(value, str):
        raise bad_file(
            f"Column {name!r} holds no file in row {row}, but {type(value).__name__}.",
            "Give bytes or paths of files, or pictures of Pillow: Image.fromarray(array).",
        )
    path, shown = Path(value).expanduser(), f"{value[:80]!r} of row {row}"
    try:
        if path.stat().st_size > LARGEST:
            raise bad_file(f"{value[:80]!r} is larger than {LARGEST // 2**20} MB.", "Cut it, or leave the row out.")
        found = path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise bad_file(f"{shown} cannot be read: {why}.", "Give paths of files.") from None
    if not found:
        raise bad_file(f"{shown} is empty.", "Leave the row out.")
    return found


def sent_bytes(value: object) -> bytes:
    """The bytes of a raw value. A text is base64, as JSON brings it, or bytes that are UTF-8; no path is opened."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    try:
        return base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        return str(value).encode(errors="surrogatepass")


def first_bytes(values: pa.ChunkedArray, endings: Iterable[str]) -> list[bytes]:
    """The first bytes of some files of a column; none where it holds others than files."""
    few = (values.slice(0, 50 * SEEN).drop_null() or values.drop_null()).slice(0, SEEN).to_pylist()
    if holds_files(values.type):
        return [file_bytes(value, "", row)[:64] for row, value in enumerate(few) if _known(value)]
    if not few or not OPENS.get() or not all(isinstance(value, str) for value in few):
        return []
    there = [is_path(value, endings) for value in few]
    if not are_most(there):
        return []
    found = []
    for value in compress(few, there):
        with Path(value).expanduser().open("rb") as stream:
            found.append(stream.read(64))
    return found


def are_most(found: Iterable[bool]) -> bool:
    """Whether something is so of three in four or more: a bad file among good ones is a file all the same."""
    each = list(found)
    return bool(each) and 4 * sum(each) >= 3 * len(each)


def _known(value: object) -> bool:
    return not isinstance(value, dict) or bool(value.get("bytes")) or Path(str(value.get("path"))).is_file()


def each(
    values: Sequence[Any], decode: Callable[[bytes], T], read: Callable[[Any, int], bytes], name: str, missing: T
) -> list[T]:
    """What each file holds; ``missing`` where there is none.

    Raises
    ------
    DataError
        For the first that cannot be read, with its row.
    """
    found = []
    for row, value in enumerate(values):
        data = read(value, row)
        try:
            found.append(decode(data) if data else missing)
        except DataError as error:
            raise bad_file(f"Column {name!r}, {_where(value, row)}: {error.message}", error.hint) from None
    return found


def kept(values: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """The bytes of a column's files, however they came."""
    each = values.to_pylist()
    found = [None if value is None else file_bytes(value, name, row) for row, value in enumerate(each)]
    return pa.chunked_array([pa.array(found, pa.large_binary())])


def path_of(value: Any) -> str:
    """The path of a file, in quotes; empty where there is none."""
    path = value.get("path") if isinstance(value, dict) else value
    return repr(path) if isinstance(path, str) and len(path) < 200 else ""


def _where(value: Any, row: int) -> str:
    return path_of(value) or ("one of its files" if SHUFFLED.get() else f"row {row}")


def objects(values: pa.ChunkedArray, name: str) -> Array:
    """The bytes of a column's files, object (n, 1)."""
    found = np.empty((len(values), 1), dtype=object)
    for row, value in enumerate(values.to_pylist()):
        found[row, 0] = file_bytes(value, name, row)
    return found
