"""What is written beside the weights of a version. Read without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from maas_magics.api.errors import SealError, StoreError
from maas_magics.api.results import ModelInfo
from maas_magics.core.features.processor import Processor, restored, saved
from maas_magics.core.seal.envelope import SEAL
from maas_magics.core.seal.files import contents, is_sealed, put
from maas_magics.core.seal.signatures import SIGNATURE, check_signed, is_required, manifest_digest
from maas_magics.core.store.storage import MANIFEST, REPORT
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.fit import restored as restored_task

T = TypeVar("T")

PREPROCESS = "preprocess/preprocess.json"


class _Written(msgspec.Struct, frozen=True, kw_only=True):
    """All of a manifest that can be read without the package that has its task."""

    info: ModelInfo
    params: dict[str, Any] = {}
    settled: dict[str, Any] = {}
    declared: bool = True
    source: str = ""
    plan: dict[str, str] = {}
    history: dict[str, list[float | None]] = {}
    best_epoch: int = 0
    seconds: float = 0.0
    metrics: tuple[str, ...] = ()
    runtime: str = ""
    graph: str = ""
    files: dict[str, str] = {}


class _Saved(_Written, frozen=True, kw_only=True):
    answers: dict[str, Any]


class Manifest(_Written, frozen=True, kw_only=True):
    """A version of a model.

    Attributes
    ----------
    info : ModelInfo
    answers : Task
    params : dict of str to Any
        Hyperparameters of a declared architecture that were requested.
    settled : dict of str to Any
        The others, as they were where nothing was requested, so that the network can be built once that is otherwise.
        Empty in versions of before.
    declared : bool
        Whether ``info.architecture`` names a registered architecture, so that the network can be built anywhere.
    source : str
        Python source of a notebook-defined module; kept to be read, never run.
    plan : dict of str to str
        How it was trained.
    history : dict of str to list of float
    best_epoch : int
    seconds : float
    metrics : tuple of str
        Metrics by name that it was trained with; empty for the usual ones.
    runtime : str
        Runtime that opens it; empty for those of this package. See `maas_magics.core.runtimes`.
    graph : str
        The ONNX file that the version is, by its path in the version's folder; empty where it is a network of torch.
    files : dict of str to str
        SHA-256 of every file beside it, by its path in the version's folder; an export's are in its own report. Empty
        in versions of before, of which nothing is checked.
    """

    answers: Task


def write_manifest(folder: Path, manifest: Manifest, processor: Processor) -> None:
    """Write both parts as JSON into a version's folder."""
    (folder / "preprocess").mkdir(exist_ok=True)
    put(folder / PREPROCESS, saved(processor))
    write_plain_manifest(folder, manifest)


def write_plain_manifest(folder: Path, manifest: Manifest) -> None:
    """Write that of a version whose own runtime takes its inputs as they are."""
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def seal(folder: Path) -> None:
    """Write down the digests of all files of a version that is not published yet."""
    write_plain_manifest(folder, msgspec.structs.replace(read_manifest(folder), files=digests(folder)))


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by path; a version's manifest and exports hold their own."""
    return {
        path.relative_to(folder).as_posix(): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path not in (folder / MANIFEST, folder / SEAL, folder / SIGNATURE)  # another key may wrap or sign it
        and folder / "exports" not in path.parents
    }


def sealed_files(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a version and of its exports, by path, as the manifest and the reports say them.

    Parameters
    ----------
    folder : Path
        ``…/NAME/VERSION``.
    """
    found = dict(read_manifest(folder).files)
    for report in sorted(folder.glob(f"exports/*/{REPORT}")):  # exports come later, with digests of their own
        later = msgspec.json.decode(report.read_bytes(), type=_Report)
        place = report.parent.relative_to(folder).as_posix()
        found |= {f"{place}/{name}": digest for name, digest in later.files.items()}
    return found


def check_files(folder: Path, *parts: str, trusting: bool = False) -> None:
    """Check that files of a version are those that were published, and signed where only signed ones are opened.

    Parameters
    ----------
    folder : Path
        ``…/NAME/VERSION``.
    *parts : str
        Files, or folders of files such as ``exports/onnx``; everything but the exports where none is named.
    trusting : bool
        Whether no signature is asked for, as where one is made.

    Raises
    ------
    StoreError
        If one was changed, or is missing.
    SealError
        If one is not signed.
    """

    def asked(name: str) -> bool:
        named = any(name == part or name.startswith(f"{part}/") for part in parts)
        return named if parts else not name.startswith("exports/")

    ref = f"{folder.parent.name}:{folder.name}"
    checked = {name: digest for name, digest in sealed_files(folder).items() if asked(name)}
    for name, digest in checked.items():
        file = folder / name
        if file.is_file() and not is_required() and is_sealed(file):
            continue  # it is compared with its tags when it is opened, by a key of its own
        if not file.is_file() or _sha256(file) != digest:
            what = "was changed after it was published" if file.is_file() else "is missing"
            raise StoreError(
                f"{ref} cannot be used: its file {name} {what}.", f"%maas rm {ref} removes it; train again."
            )
    if not trusting and is_required():
        _check_signed(folder, checked, asked, ref)


def _check_signed(folder: Path, checked: dict[str, str], asked: Callable[[str], bool], ref: str) -> None:
    """Check signatures of files whose digests were checked, and that no others are there."""
    checked = checked | {MANIFEST: manifest_digest((folder / MANIFEST).read_bytes())}
    there = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    there = [name for name in there if asked(name) and Path(name).name not in (SEAL, SIGNATURE, "claim")]
    reports = [name for name in there if Path(name).name == REPORT]
    check_signed(folder, checked | {name: _sha256(folder / name) for name in reports}, there, ref)


class _Report(msgspec.Struct, frozen=True):
    """What an export's report says of its files."""

    files: dict[str, str] = {}


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def rename(folder: Path, name: str) -> None:
    """Have the manifest of a version that is not published yet say another model's name."""
    manifest = read_manifest(folder)
    info = msgspec.structs.replace(manifest.info, name=name)
    write_plain_manifest(folder, msgspec.structs.replace(manifest, info=info))


def read_manifest(folder: Path) -> Manifest:
    """Manifest of a version."""
    return _read(folder, MANIFEST, _restored)


def _restored(data: bytes) -> Manifest:
    saved = msgspec.json.decode(data, type=_Saved)
    return Manifest(**msgspec.structs.asdict(saved) | {"answers": restored_task(saved.answers)})


def read_processor(folder: Path) -> Processor:
    """Preprocessing of a version."""
    return _read(folder, PREPROCESS, restored)


def _read(folder: Path, file: str, decode: Callable[[bytes], T]) -> T:
    """JSON of a version's folder, ``…/NAME/VERSION``.

    Raises
    ------
    StoreError
        If it is missing or broken.
    """
    try:
        return decode(contents(folder / file))
    except SealError:
        raise
    except (OSError, ValueError) as error:
        ref = f"{folder.parent.name}:{folder.name}"
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise StoreError(f"{ref} cannot be read: {file}: {why}", f"%maas rm {ref} removes it.") from None
