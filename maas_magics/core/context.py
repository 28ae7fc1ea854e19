"""What a running task may use: the store, a way to notify, and a way to learn that it should stop."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from maas_magics.api.errors import Stopped, Suspended
from maas_magics.api.events import Event, Level, Message
from maas_magics.core.store.models import Store
from maas_magics.core.store.uploads import Uploads

if TYPE_CHECKING:
    from maas_magics.core.inference.loader import Loader


Stopping = Literal["", "soft", "hard", "suspend"]
"""Nothing; end with the best epoch; end at once; keep the state and suspend."""


@dataclass(frozen=True)
class Context:
    """Handed to every task.

    Attributes
    ----------
    store : Store
    loader : Loader
        Models in memory.
    emit : callable
        Takes an event; sets its ``seq`` and ``time``.
    stopping : callable
        Returns what is requested of the task; see `Stopping`.
    uploads : Uploads, optional
        Data that a request may name by digest.
    checkpoints : Path, optional
        Folder for the state of a training, to resume from; none is kept when None.
    allow_code : bool
        Whether source that was sent may run.
    written : callable
        Has every event so far written down before it returns.
    served : bool
        Whether the request came from elsewhere, so that paths in it name nothing that its sender may open.
    exports_later : bool
        Whether a module is published without its ONNX export, which is made when it is first needed.
    """

    store: Store
    loader: Loader
    emit: Callable[[Event], None]
    stopping: Callable[[], Stopping]
    uploads: Uploads | None = None
    checkpoints: Path | None = None
    allow_code: bool = False
    written: Callable[[], None] = lambda: None
    exports_later: bool = False
    served: bool = False

    def check_stop(self) -> None:
        """Raise `Stopped` if the task should end; for tasks that have nothing to keep half-way."""
        wanted = self.stopping()
        if wanted == "suspend":
            raise Suspended("The job was suspended.")
        if wanted:
            raise Stopped("The job was stopped; nothing was kept.")

    def notify(self, text: str, level: Level = "info") -> None:
        """One sentence for the user."""
        self.emit(Message(text=text, level=level))


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    return {"python": platform.python_version()} | {
        name: _version(name) for name in ("maas-magics", "torch", "numpy", "onnxruntime")
    }


def _version(name: str) -> str:
    """Version of a distribution, or of the module where another distribution brings it (``onnxruntime-gpu``)."""
    try:
        return version(name)
    except PackageNotFoundError:
        return str(getattr(import_module(name.replace("-", "_")), "__version__", "unknown"))
