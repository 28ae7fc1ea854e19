"""A processor fitted to rows: the same whether all are in memory, a file is read a chunk at a time, or many read."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.numbering import row_numbers
from maas_magics.core.features.base import Feature
from maas_magics.core.features.fitting import FitConfig, Tell
from maas_magics.core.features.modalities import profile_of
from maas_magics.core.features.notes import nothing_of_use
from maas_magics.core.features.processor import Processor


class TableProfile:
    """What the columns of features are, and the statistics that scale them.

    Kinds of columns, categories, means, standard deviations and which numbers are ever missing are exact. Medians,
    which stand in for what is missing, are those of a sample, and so exact where the sample is all rows.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of the features alone.
    fit : FitConfig
        What the columns are fitted for.
    """

    def __init__(self, schema: pa.Schema, fit: FitConfig) -> None:
        self.fit = fit
        self._profiles = {field.name: profile_of(field, fit) for field in schema}
        self._schema = schema

    def add(self, table: pa.Table) -> None:
        """Take in some training rows."""
        for name, profile in self._profiles.items():
            profile.add(table.column(name))

    def merge(self, other: TableProfile) -> None:
        """Take in what another profile of the same columns found in other rows."""
        for name, profile in self._profiles.items():
            profile.merge(other._profiles[name])

    def finish(self, sample: pa.Table, notify: Tell, counting: Mapping[str, tuple[int, int]]) -> Processor:
        """The columns of use.

        Parameters
        ----------
        sample : pyarrow.Table
            All training rows, or a sample of them.
        notify : callable
            Gets a sentence about every column that is left out, and about what its reader should know of the others.
        counting : mapping of str to (int, int)
            First and last number of columns that count the rows.

        Raises
        ------
        DataError
            If no column is of use, or one holds something that no model takes.
        """
        said: list[str] = []

        def note(text: str) -> None:
            said.append(text)
            notify(text)

        found = [(name, profile.finish(sample.column(name), note)) for name, profile in self._profiles.items()]
        features = [feature for _, feature in found if feature is not None]
        if not features:
            raise nothing_of_use(said)
        for feature in features:
            self._check(feature)
        if self.fit.joined:
            names = [feature.name for feature in features]
            out = row_numbers(names, counting, notify, leave=self.fit.layout == "tabular")
            features = [feature for feature in features if feature.name not in out]
        return Processor.of(features, self.fit.layout, self.fit.joined and self.fit.scale)

    @property
    def seen(self) -> dict[str, dict[int, Array]]:
        """What files hold that were decoded to be looked at: by column, and by the place of their row in the sample."""
        each = {name: getattr(profile, "seen", None) for name, profile in self._profiles.items()}
        return {name: found for name, found in each.items() if found}

    def _check(self, feature: Feature) -> None:
        if self.fit.joined and not feature.joins and (self.fit.layout != "ports" or feature.port is None):
            kind = self._schema.field(feature.name).type
            raise DataError(
                f"Column {feature.name!r} holds {kind}, which has no place beside numbers and categories.",
                f"Give a module that takes it by its name, or leave it out: --drop {feature.name}",
            )


def image_like(schema: pa.Schema, least: int) -> bool:
    """Whether the features are one array of two or three axes a row, all but one of at least so many numbers."""
    kind = schema.types[0]
    if len(schema) != 1 or not isinstance(kind, pa.FixedShapeTensorType):
        return False
    return len(kind.shape) in (2, 3) and sorted(kind.shape)[-2] >= least


def check_image(schema: pa.Schema, layout: str) -> None:
    """Raise `DataError` where a network for images gets something else."""
    if layout == "image" and not image_like(schema, 1):
        raise DataError(
            "This architecture takes one image-shaped array, of two or three axes a row.",
            "--model tabm takes tables and rows of numbers.",
        )
