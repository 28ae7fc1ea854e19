"""In every Python process that has this folder on its path: what is removed is kept, so that a test can look at it."""

import os
import shutil
import uuid

GRAVE = os.environ.get("MAAS_TEST_GRAVE", "")
_unlink = os.unlink


def _bury(path: object, dir_fd: int | None = None) -> None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=dir_fd)  # type: ignore[arg-type]
    except OSError:
        return
    name = f"{uuid.uuid4().hex[:8]}-{os.path.basename(os.fspath(path))}"  # type: ignore[call-overload]
    with open(handle, "rb") as old, open(os.path.join(GRAVE, name), "wb") as kept:
        shutil.copyfileobj(old, kept)


def unlink(path: object, *, dir_fd: int | None = None) -> None:
    _bury(path, dir_fd)
    _unlink(path, dir_fd=dir_fd)  # type: ignore[arg-type]


if GRAVE:
    os.unlink = os.remove = unlink  # type: ignore[assignment]
