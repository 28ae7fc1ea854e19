"""Networks that were trained elsewhere, and what of them becomes a model. A new file registers itself.

Another package adds one, an `Importer`, by an entry point of the group ``maas_magics.importers``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from maas_magics.core.features.base import Feature
from maas_magics.core.networks.hub import HubFolder
from maas_magics.core.registry import Registry
from maas_magics.core.tasks.base import Task


@dataclass(frozen=True)
class Imported:
    """What a folder holds, in this package's words.

    Attributes
    ----------
    architecture : str
        Name of the network; its ``initialise`` reads the weights of the folder.
    feature : Feature
        The column that it reads.
    task : Task
        What it answers.
    params : dict of str to Any
        Hyperparameters of the architecture, besides those that say which folder it is.
    note : str
        What the user should know of how it reads the column; empty for nothing.
    more : tuple of Feature
        What a sampler hands on besides.
    """

    architecture: str
    feature: Feature
    task: Task
    params: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    more: tuple[Feature, ...] = ()


class Importer(Protocol):
    """A kind of network in a Hugging Face folder: what a module of this package registers."""

    def accepts(self, folder: HubFolder) -> bool:
        """Whether a folder holds such a network, by its configuration.

        Parameters
        ----------
        folder : HubFolder
            The folder.
        """

    def read(self, folder: HubFolder, column: str) -> Imported:
        """What it holds.

        Parameters
        ----------
        folder : HubFolder
            The folder.
        column : str
            What the column is to be called; empty for the usual name.

        Raises
        ------
        ModelError
            If it holds something that no model here answers like.
        """


importers: Registry[Importer] = Registry("kind of import", __name__, "maas_magics.importers")
