"""All columns of a model's input: the way from a table to raw arrays, and what a network gets of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError, MaasError, did_you_mean
from maas_magics.api.signature import TensorSpec
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.sources import ARRAY
from maas_magics.core.data.zones import cautions
from maas_magics.core.features.base import Coded, Feature, NumberLike
from maas_magics.core.features.fitting import Layout
from maas_magics.core.features.modalities import modalities
from maas_magics.core.features.old import is_old, upgraded
from maas_magics.core.features.port import Port
from maas_magics.core.features.scaling import CLIP


class NetworkInputs(msgspec.Struct, frozen=True):
    """What preprocessing hands to a network.

    Attributes
    ----------
    numeric : int
        Float32 numbers, imputed and scaled; 0/1 indicators of missing values stand last.
    categories : tuple of int
        Codes of each categorical column, code 0 (missing or unseen) included.
    image : tuple of int
        Shape of one image for the ``image`` layout.
    ports : tuple of Port
        Tensors of columns that reach the network by themselves, for the ``ports`` layout.
    """

    numeric: int = 0
    categories: tuple[int, ...] = ()
    image: tuple[int, ...] = ()
    ports: tuple[Port, ...] = ()


class Processor(msgspec.Struct, frozen=True, kw_only=True):
    """The columns a model takes, in order, and how they are laid out for its network.

    Attributes
    ----------
    features : tuple of Feature
    layout : Layout
    clip : float
        Standard deviations that scaled numbers are squeezed smoothly into; 0 leaves them as they are.
    dtype : str
        Of what a network gets of the ``flat`` layout.
    """

    features: tuple[Feature, ...]
    layout: Layout
    clip: float = 0.0
    dtype: str = "float32"

    @classmethod
    def of(cls, features: Iterable[Feature], layout: Layout, scaled: bool = False) -> Processor:
        """Features laid out for a network; numbers that are ``scaled`` are clipped."""
        return cls(features=tuple(features), layout=layout, clip=CLIP if scaled else 0.0)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [feature.name for feature in self.features]

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Raw inputs of a model with these columns."""
        return tuple(feature.spec for feature in self.features)

    @property
    def asked(self) -> tuple[TensorSpec, ...]:
        """Raw inputs that rows have: all but those of a sampler."""
        return tuple(feature.spec for feature in self.features if not feature.sampled)

    @property
    def numbers(self) -> list[NumberLike]:
        """Features whose numbers stand side by side."""
        return [feature for feature in self.features if isinstance(feature, NumberLike)]

    @property
    def codes(self) -> list[Coded]:
        """Features whose codes stand side by side."""
        return [feature for feature in self.features if isinstance(feature, Coded)]

    @property
    def texts(self) -> list[str]:
        """Names of the columns of text."""
        return [feature.name for feature in self.features if feature.spec.datatype == "BYTES"]

    @property
    def lazy(self) -> bool:
        """Whether rows are encoded as an epoch requests them."""
        return any(feature.lazy for feature in self.features)

    def lengths(self, ready: pa.Table) -> Array | None:
        """Length of each row, int64 (n,), the longest of its columns; None where rows do not differ in it."""
        found = (feature.lengths(ready.column(feature.name)) for feature in self.features)
        each = [lengths for lengths in found if lengths is not None]
        return np.max(each, axis=0) if each else None

    def sizes(self, raw: Sequence[Array]) -> Array | None:
        """About how many tokens each raw row has, int64 (n,), of its longest column; None where rows do not differ."""
        found = (feature.sizes(values) for feature, values in zip(self.features, raw, strict=True))
        each = [sizes for sizes in found if sizes is not None]
        return np.max(each, axis=0) if each else None

    @property
    def indicators(self) -> list[int]:
        """Places of the numbers that get a 0/1 companion, among all numbers."""
        found: list[int] = []
        start = 0
        for feature in self.numbers:
            found += [start + place for place in feature.scaling.indicators]
            start += len(feature.scaling.fill)
        return found

    @property
    def inputs(self) -> NetworkInputs:
        """What a network by name is built for."""
        if self.layout == "image":
            return NetworkInputs(image=self.features[0].shape)
        numeric = sum(len(feature.scaling.fill) for feature in self.numbers) + len(self.indicators)
        ports = tuple(feature.port for feature in self.features if feature.port is not None)
        return NetworkInputs(numeric, tuple(len(feature.words) + 1 for feature in self.codes), ports=ports)

    @property
    def hosted(self) -> bool:
        """Whether raw values of some column are understood before they enter a graph."""
        return any(feature.hosted for feature in self.features)

    def hosted_raw(self, raw: Sequence[Array]) -> list[Array]:
        """Raw arrays as the graph of an export takes them: texts as token ids, files decoded."""
        pairs = zip(self.features, raw, strict=True)
        return [feature.enter(values) if feature.hosted else values for feature, values in pairs]

    def entered_sizes(self, entered: Sequence[Array]) -> list[Array | None]:
        """Tokens of each row of every array that enters a graph; None of those whose padding cannot be cut off."""
        pairs = zip(self.features, entered, strict=True)
        return [feature.entered_sizes(values) if feature.hosted else None for feature, values in pairs]

    @property
    def entries(self) -> tuple[TensorSpec, ...]:
        """What enters the graph of an export."""
        return tuple(feature.entry for feature in self.features)

    @property
    def files(self) -> dict[str, bytes]:
        """Files that stand beside an export; those of several columns that differ have the column's name in front."""
        each = [(feature.name, name, data) for feature in self.features for name, data in feature.files.items()]
        same = {name: len({data for _, other, data in each if other == name}) == 1 for _, name, _ in each}
        return {name if same[name] else f"{column}.{name}": data for column, name, data in each}

    def kept(self, table: pa.Table) -> pa.Table:
        """Rows as they are kept with a model."""
        return pa.table({feature.name: feature.kept(table.column(feature.name)) for feature in self.features})

    def ready(self, table: pa.Table) -> pa.Table:
        """What is kept of rows while they are trained on."""
        table = self._taken(table)
        return pa.table({feature.name: feature.ready(table.column(feature.name)) for feature in self.features})

    @property
    def flat_names(self) -> list[str]:
        """A name for each number of the ``flat`` layout."""
        plain = [name for feature in self.numbers for name in feature.names]
        hot = [f"{feature.name}={word}" for feature in self.codes for word in feature.words]
        return plain + [f"{plain[i]} missing" for i in self.indicators] + hot

    @property
    def open_axes(self) -> tuple[tuple[int, ...], ...]:
        """Axes of each input of the network, besides the batch, that may have any length."""
        return tuple(spec.open_axes for spec in self.specs) if self.layout == "raw" else ()

    def encode(self, table: pa.Table) -> list[Array]:
        """Raw arrays of a table, in the order and with the types of `specs`.

        Raises
        ------
        DataError
            If a column is missing or holds another kind of value than in training.
        """
        table = self._taken(table)
        return [feature.encode(table.column(feature.name)) for feature in self.features]

    def _taken(self, table: pa.Table) -> pa.Table:
        """A table that has every column, by the names that the model knows."""
        table = self._respaced(table)
        there = set(table.column_names)
        absent = [name for name in self.names if name not in there]
        if absent:
            shown = ", ".join(map(repr, absent[:5])) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
            raise DataError(
                f"The data lacks {'column' if len(absent) == 1 else 'columns'} {shown}.",
                self._instead(absent[0], table.column_names),
            )
        return table

    def check(self, raw: Sequence[Array]) -> None:
        """Raise `DataError` for what no network learns from, such as infinite numbers."""
        for feature, values in zip(self.features, raw, strict=True):
            feature.check(values)

    def blank(self, raw: Sequence[Array]) -> Array:
        """Rows of raw arrays without any information: each value is missing, or a text that is unknown.

        Parameters
        ----------
        raw : sequence of ndarray, shape (n, …)
            What `encode` made, one for each feature.

        Returns
        -------
        ndarray of bool, shape (n,)
            Whether each row is blank.
        """
        found = np.ones(len(raw[0]), dtype=bool)
        pairs = list(zip(self.features, raw, strict=True))
        for feature, values in sorted(pairs, key=lambda pair: pair[0].vocabulary is not None):  # the costly ones last
            found[found] = feature.blank(values[found])
            if not found.any():
                break
        return found

    def cautions(self, table: pa.Table) -> list[str]:
        """Sentences about what had to be assumed of rows."""
        assumed = []
        for feature in self.features:
            if feature.timed and feature.name in table.column_names:
                zones = feature.zone_assumed(table.column(feature.name))
                if zones is not None:
                    assumed.append((feature.name, *zones))
        return cautions(assumed)

    def _respaced(self, table: pa.Table) -> pa.Table:
        """The table with the names that a model knows, where they differ by the spaces around them only."""
        takes = {name.strip(): name for name in self.names}
        there = {name.strip(): name for name in table.column_names}
        new = {came: takes[bare] for bare, came in there.items() if bare in takes and came != takes[bare]}
        new = {came: name for came, name in new.items() if name not in table.column_names}
        if not new or len(takes) < len(self.features) or len(there) < table.num_columns:
            return table
        return table.rename_columns([new.get(name, name) for name in table.column_names])

    def _instead(self, absent: str, there: Sequence[str]) -> str:
        """What to type in place of a column that the data lacks: a near name, else what there is."""
        near = did_you_mean(absent, set(there) - set(self.names))
        if near.startswith("Did you mean"):
            return near
        if set(there) <= {*self.names, ARRAY}:
            return f"The model takes: {_listed(self.names)}."
        return f"There is: {_listed(there)}."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")


class _Saved(msgspec.Struct):
    features: list[dict[str, Any]]
    layout: Layout
    clip: float = 0.0
    dtype: str = "float32"


def saved(processor: Processor) -> bytes:
    """A processor as JSON."""
    return msgspec.json.encode(processor)


def restored(data: bytes) -> Processor:
    """A processor of JSON, also as version 0.1 wrote it.

    Raises
    ------
    ValueError
        If it is none, or has a feature of a modality that is not installed.
    """
    found = msgspec.json.decode(data)
    if is_old(found):
        found = upgraded(found)
    plain = msgspec.convert(found, _Saved)
    try:
        features = tuple(msgspec.convert(one, modalities.get(str(one.get("type"))).feature) for one in plain.features)
    except MaasError as error:
        raise ValueError(f"{error.message} The package that has it is not installed.") from None
    return Processor(features=features, layout=plain.layout, clip=plain.clip, dtype=plain.dtype)
