"""Versions that a runtime of another package opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maas_magics.api.errors import MaasError, MissingDependency, NotFound, OptionError, StoreError
from maas_magics.api.signature import TensorSpec
from maas_magics.core.runtimes import RUNTIMES, IterativeSession, Session
from maas_magics.core.store.manifest import check_files, read_manifest


def open_session(
    folder: Path, shared: bool, variant: str = "", kv_memory: int | None = None
) -> Session | IterativeSession:
    """Open a version whose manifest names a runtime, or an export of it.

    Parameters
    ----------
    folder : Path
        The version's folder.
    shared : bool
        Whether the processor is shared with a server's other work.
    variant : str
        Name of the export; of the version itself where empty.
    kv_memory : int or None
        Bytes of keys and values at most, where the runtime keeps any.

    Raises
    ------
    MissingDependency
        If there is no such runtime here.
    StoreError
        If its files are not those that were published, or cannot be opened.
    """
    check_files(folder)
    manifest = read_manifest(folder)
    ref = f"{folder.parent.name}:{folder.name}"
    try:
        runtime = RUNTIMES.get(manifest.runtime)
    except NotFound as error:
        raise MissingDependency(
            f"{ref} needs the runtime {manifest.runtime!r}, which is not installed.",
            error.hint or "%pip install the package that brings it.",
        ) from None
    except ImportError as error:
        raise MissingDependency(f"The runtime {manifest.runtime!r} of {ref} cannot be imported: {error}") from error
    try:
        opener: Any = runtime()
        if kv_memory is not None and hasattr(opener, "kv_memory"):
            opener.kv_memory = kv_memory
        if not variant:
            return opener.open(folder, shared)  # type: ignore[no-any-return]
        if not hasattr(opener, "open_variant"):
            raise OptionError(f"{ref}@{variant} is a file that no engine here answers with.", f"{ref} answers.")
        return opener.open_variant(folder, shared, variant)  # type: ignore[no-any-return]
    except MaasError:
        raise
    except Exception as error:  # whatever another package raises
        why = str(error) or type(error).__name__
        raise StoreError(f"{ref} cannot be opened: {why}", f"%maas rm {ref} removes it.") from error


def open_iterative(
    folder: Path, shared: bool, variant: str = "", kv_memory: int | None = None
) -> tuple[IterativeSession, tuple[TensorSpec, ...]] | None:
    """Open a version that answers in several passes, or an export of it, with its inputs; None for any other."""
    info = read_manifest(folder).info
    if not info.iterative:
        return None
    session = open_session(folder, shared, variant, kv_memory)
    if not isinstance(session, IterativeSession):
        raise _wrong(folder, "several passes, and its runtime in one")
    return session, info.signature.inputs


def open_one_pass(folder: Path, shared: bool) -> Session:
    """Open a version that answers in one pass."""
    session = open_session(folder, shared)
    if isinstance(session, IterativeSession):
        raise _wrong(folder, "one pass, and its runtime in several")
    return session


def _wrong(folder: Path, what: str) -> StoreError:
    ref = f"{folder.parent.name}:{folder.name}"
    return StoreError(f"{ref} answers in {what}.", f"%maas rm {ref} removes it.")
