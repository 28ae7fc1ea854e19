"""Files of versions and exports, encrypted or not: whoever reads or writes one does so here.

A file is encrypted if the folder that it is written to has an envelope. Decrypted bytes are in memory alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from maas_magics.api.errors import SealError
from maas_magics.core.seal import chunks
from maas_magics.core.seal.envelope import SEAL, begin, called, data_key

READABLE = ("manifest.json", "artifact.json", "README.md", "signature.json", "claim", SEAL)
"""Files that stay as they are: names, columns, labels, sizes, metrics, by which models are found and compared."""


def is_sealed(file: Path) -> bool:
    """Whether a file is encrypted.

    Parameters
    ----------
    file : Path
        A file of a version or of an export.
    """
    with file.open("rb") as stream:
        return stream.read(len(chunks.MAGIC)) == chunks.MAGIC


def has_seal(folder: Path) -> bool:
    """Whether what is written into a folder is encrypted.

    Parameters
    ----------
    folder : Path
        Of a version or of an export.
    """
    return (folder / SEAL).is_file()


def contents(file: Path) -> bytes:
    """What a file holds, decrypted where it is encrypted.

    Parameters
    ----------
    file : Path
        A file of a version or of an export.

    Raises
    ------
    SealError
        If there is no key for it, or it is not what was written there.
    """
    if not is_sealed(file):
        return file.read_bytes()
    root = _root(file)
    if root is None:
        raise SealError(f"{file.name} is encrypted, and no {SEAL} stands beside it.", "Copy the whole folder.")
    key = data_key(root)
    try:
        with file.open("rb") as stream:
            return chunks.read(stream, file.stat().st_size, key, file.relative_to(root).as_posix())
    except chunks.Broken as error:
        raise SealError(f"{called(root)} cannot be used: its file {file.name} {error}.", "Copy it anew.") from None


def put(file: Path, data: bytes | Iterable[bytes | memoryview], name: str = "") -> None:
    """Write a file, encrypted where its folder is.

    Parameters
    ----------
    file : Path
        Where to write.
    data : bytes, or iterable of bytes
        What it holds.
    name : str
        What the file will be called, where that is something else.
    """
    parts: Iterable[bytes | memoryview] = [data] if isinstance(data, bytes) else data
    root = _root(file)
    key = None if root is None else data_key(root)
    with file.open("wb") as stream:
        if root is None or key is None:
            stream.writelines(parts)
        else:
            chunks.write(stream, parts, key, file.with_name(name or file.name).relative_to(root).as_posix())


def seal_copy(source: Path, folder: Path, leave: tuple[str, ...] = ()) -> None:
    """Copy the files of a folder into another one, encrypted by a data key of its own.

    Parameters
    ----------
    source : Path
        Of a version or of an export, encrypted or not.
    folder : Path
        Which must not be there.
    leave : tuple of str
        Names of files and folders that are left out.
    """
    folder.mkdir(parents=True)
    begin(folder)
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        path = file.relative_to(source)
        if path.parts[0] in leave or file.name == SEAL:
            continue
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if file.name in READABLE:
            (folder / path).write_bytes(file.read_bytes())
        else:
            put(folder / path, contents(file))


def _root(file: Path) -> Path | None:
    """The folder with the envelope of a file: its own, or the one above, as of ``preprocess/preprocess.json``."""
    return next((folder for folder in (file.parent, file.parent.parent) if has_seal(folder)), None)
