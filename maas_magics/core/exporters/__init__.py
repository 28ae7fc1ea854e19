"""File formats a model is converted to. A new file registers itself and is tested with the others.

Another package adds one, an `Exporter`, by an entry point of the group ``maas_magics.exporters``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from maas_magics.api.signature import Signature
from maas_magics.core.data.arrow import Array
from maas_magics.core.registry import Registry

if TYPE_CHECKING:
    from maas_magics.core.model import Model

Run = Callable[[Sequence[Array]], Array]
"""From arrays as `Processor.hosted_raw` makes them to decoded answers: probabilities or predictions."""


class Exporter(Protocol):
    """An export format: what a module of this package registers."""

    file: str
    """Name of the model file inside the variant's folder."""

    isolated: bool
    """Whether its files are opened in a process of their own when they are verified.

    One whose runtime is not for this machine has a property ``unopened``, too, which says why: its files are reported
    as not verified.
    """

    def export(self, model: Model, file: Path) -> Signature:
        """Write ``model`` to ``file``; returns the inputs and outputs as the file names them.

        Parameters
        ----------
        model : Model
            A version in torch, from raw columns to answers.
        file : Path
            Where to write; its folder is there, and may get further files.
        """

    def load(self, file: Path, version: Path, model: Model | None) -> Run:
        """Open ``file``.

        Parameters
        ----------
        file : Path
            What `export` wrote.
        version : Path
            Folder of the model's own files.
        model : Model or None
            The model where it is in memory.
        """


exporters: Registry[Exporter] = Registry("export format", __name__, "maas_magics.exporters")
