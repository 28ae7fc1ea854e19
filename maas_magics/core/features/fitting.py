"""How features are fitted to the training rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

import pyarrow as pa

from maas_magics.core.features.base import Feature

Layout = Literal["tabular", "flat", "raw", "image", "ports", "prose", "captioned"]
"""What the network gets.

``tabular``
    ``numeric`` float32 (n, p) and ``categorical`` int64 codes (n, c).
``flat``
    One float32 (n, p + indicators of every category).
``raw``
    Each column as it is.
``image``
    One float32 array, standardised.
``ports``
    As ``tabular``, and then the tensor of each column that reaches the network by itself: texts, pictures, sounds.
``prose``
    Blocks of tokens, int32 (n, 2, tokens): of a text that is continued, see `maas_magics.core.batches.language`.
``captioned``
    As ``ports``: a caption, a noisy picture and its time, see `maas_magics.core.batches.captioned`.
"""

Tell = Callable[[str], None]
"""Gets a sentence."""


@dataclass(frozen=True)
class FitConfig:
    """What columns are fitted for.

    Attributes
    ----------
    layout : Layout
    scale : bool
        Whether numbers are scaled.
    given : mapping of str to mapping
        What a pretrained network requires of columns, by modality: the arguments of a feature that are not fitted.
    """

    layout: Layout
    scale: bool = True
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def joined(self) -> bool:
        """Whether the numbers of an array are laid beside those of other columns, and not handed on as an array."""
        return self.layout in ("tabular", "flat", "ports")

    @property
    def keep(self) -> bool:
        """Whether constant numbers are kept, as for a module, which expects a number of inputs."""
        return self.layout in ("flat", "raw")


class Profile(Protocol):
    """Fits a feature to the values of a column, some rows at a time.

    The same in memory (all rows at once), from a file (a chunk at a time) and over processes (`merge`).

    Parameters
    ----------
    field : pyarrow.Field
        Name, type and metadata of the column.
    fit : FitConfig
        What it is fitted for.
    """

    def __init__(self, field: pa.Field, fit: FitConfig) -> None: ...

    @classmethod
    def accepts(cls, field: pa.Field, fit: FitConfig) -> bool:
        """Whether a column is of this kind, by its name, type and metadata.

        Parameters
        ----------
        field : pyarrow.Field
            Name, type and metadata of the column.
        fit : FitConfig
            What it is fitted for.
        """
        ...

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in the values of some training rows.

        Parameters
        ----------
        values : pyarrow.ChunkedArray
            The column of these rows.
        """
        ...

    def merge(self, other: Self) -> None:
        """Take in what another profile of the same column found in other rows.

        Parameters
        ----------
        other : Profile
            Of the same class, and made with the same arguments.
        """
        ...

    def finish(self, sample: pa.ChunkedArray, notify: Tell) -> Feature | None:
        """The fitted feature; None where the column is of no use, with a note.

        Parameters
        ----------
        sample : pyarrow.ChunkedArray
            All of its values, or a sample of them, which medians are taken of.
        notify : callable
            Gets a note about the column, for the user.

        Raises
        ------
        DataError
            If it holds something that no model takes.
        """
        ...
