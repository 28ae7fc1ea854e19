"""Kinds of columns, by name: what one is once it is fitted, and how it is inferred from rows. One file for each.

Another package adds one, a `Modality`, by an entry point of the group ``maas_magics.modalities``; it is tried before
those here whether a column is one of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from maas_magics.core.features.base import Feature
from maas_magics.core.features.fitting import FitConfig, Profile
from maas_magics.core.registry import Registry


@dataclass(frozen=True)
class Modality:
    """A kind of column.

    Attributes
    ----------
    feature : type of Feature
        What is kept of a column with the model. Its tag is the modality's name.
    profile : type of Profile
        How it is fitted.
    """

    feature: type[Feature]
    profile: type[Profile]
    recognise: Callable[[pa.ChunkedArray], str] | None = None
    """Gets a column without a declared modality, and returns why it is of this kind; empty where it is not."""
    check: Callable[[bytes], None] | None = None
    """Raises `DataError` for a file of such a column that cannot be decoded; None where a column holds no files."""
    show: Callable[[Any], tuple[bytes, bytes] | None] | None = None
    """A small picture of a file or an array, and a short sound, for people; None where a column shows nothing."""
    options: tuple[str, ...] = ()
    """What may be declared of such a column, as ``clean`` in ``--feature review=text(clean=html)``; its profile reads
    it by `options_of`."""
    check_mask: Callable[[bytes, Any], None] | None = None
    """Raises `DataError` for a mask that is not one of a file; None where values of such a column have none."""

    def accepts(self, field: pa.Field, fit: FitConfig) -> bool:
        """Whether a column is of this kind.

        Parameters
        ----------
        field : pyarrow.Field
            Name, type and metadata of the column.
        fit : FitConfig
            What it is fitted for.
        """
        return self.profile.accepts(field, fit)


DECLARED = b"maas_magics.modality"
"""In the metadata of a field: the modality that a column was declared, or recognised, to be of."""

OPTIONS = b"maas_magics.options"
"""In the metadata of a field: what was declared of it besides, as JSON."""


def modality_of(field: pa.Field) -> str:
    """Name of the modality that a column was declared to be of; empty where none was.

    Parameters
    ----------
    field : pyarrow.Field
        Name, type and metadata of the column.
    """
    return str((field.metadata or {}).get(DECLARED, b"").decode())


def options_of(field: pa.Field) -> dict[str, str]:
    """What was declared of a column besides its modality, by name.

    Parameters
    ----------
    field : pyarrow.Field
        Name, type and metadata of the column.
    """
    found: dict[str, str] = json.loads((field.metadata or {}).get(OPTIONS, b"{}"))
    return found


modalities: Registry[Modality] = Registry("modality", __name__, "maas_magics.modalities")


def profile_of(field: pa.Field, fit: FitConfig) -> Profile:
    """The profile for a column; a column that no modality accepts is refused once its values are there.

    Parameters
    ----------
    field : pyarrow.Field
        Name, type and metadata of the column.
    fit : FitConfig
        What it is fitted for.
    """
    from maas_magics.core.features.refused import RefusedProfile

    declared = modality_of(field)
    if declared:
        found: Profile = modalities.get(declared).profile(field, fit)
        return found
    own: list[Modality] = []
    others: list[Modality] = []
    for name in modalities:
        modality = modalities.get(name)
        (own if modality.feature.__module__.startswith(f"{__name__}.") else others).append(modality)
    for modality in others + own:
        if modality.accepts(field, fit):
            found = modality.profile(field, fit)
            return found
    return RefusedProfile(field, fit)
