"""The target of rows that are read a part at a time: one, or several with a head each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import OptionError, did_you_mean
from maas_magics.core.batches.masks import MaskLayout
from maas_magics.core.batches.rows import Rows
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.labels import is_decimal
from maas_magics.core.data.sources.arrays import column
from maas_magics.core.data.target import named, part, target_names
from maas_magics.core.data.target_values import Beside, answered
from maas_magics.core.features.masked import check_classes, void_of
from maas_magics.core.features.processor import Processor
from maas_magics.core.losses.own import UNKNOWN, TargetForm, given_by
from maas_magics.core.store.sample import TARGET
from maas_magics.core.tasks.base import Family, Task, TaskName
from maas_magics.core.tasks.dense_profile import DenseProfile
from maas_magics.core.tasks.fit import respelled
from maas_magics.core.tasks.profile import Profile, TargetProfile
from maas_magics.core.tasks.several import (
    HeadsProfile,
    add_notes,
    answered_heads,
    columns_of,
    held_heads,
)

Standardise = Callable[[str], bool]
"""Whether quantities are learnt in units of their standard deviation, by the name of the head."""


class StreamedTarget(Protocol):
    """What is learnt of rows that are read a part at a time.

    Attributes
    ----------
    names : tuple of str
        Of its columns, or of its heads.
    columns : tuple of str
        Columns of the file that it takes.
    beside : Beside
        Notes on it.
    width : int
        Bytes that it takes of a row, where that is more than it takes in the file.
    """

    width: int
    names: tuple[str, ...]
    columns: tuple[str, ...]
    beside: Beside

    def parted(self, table: pa.Table, *, held: bool) -> tuple[pa.Table, Array]:
        """Features and target of some rows of the file; rows without a target are left out."""
        ...

    def laid(self, features: pa.Table, values: Array, first: int) -> tuple[pa.Table, Array]:
        """Features and target as a network gets them, of rows of which ``first`` is the place of the first."""
        ...

    def profile(self) -> Profile:
        """What fits it to the rows."""
        ...

    def is_laid_for(self, processor: Processor) -> bool:
        """Whether it was laid as columns are seen that were fitted since; else it is from now on."""
        ...

    def fitted(self, profile: Profile, standardise: Standardise) -> Task:
        """The task of all training rows."""
        ...

    def texts(self, values: Array) -> tuple[str, ...]:
        """Its columns that are text, by some of its values."""
        ...

    def beside_features(self, features: pa.Table, values: Array) -> pa.Table:
        """Features with the target beside them; see `apart`."""
        ...

    def apart(self, table: pa.Table) -> tuple[pa.Table, Array]:
        """Features and target of what `beside_features` made."""
        ...

    def validation(self, held: Any, csv: str | None) -> tuple[pa.Table, Array]:
        """Features and target of held-out rows in memory."""
        ...

    def forms(self, values: Array) -> tuple[TargetForm, tuple[TargetForm, ...]]:
        """How the target came, and each of several."""
        ...


class OneTarget:
    """A target of one column, or several columns of one kind.

    Parameters
    ----------
    target : Any
        As it was requested.
    present : list of str
        Columns of the file.
    task : TaskName, Family or None
        As it was requested.
    ignored : callable
        Returns the number that marks a row without a target.
    """

    def __init__(
        self, target: Any, present: list[str], task: TaskName | Family | None, ignored: Callable[[], int | None]
    ) -> None:
        self.names = self.columns = target_names(target, present, -1)
        self.beside, self.width = Beside(ignored=ignored), 0
        self._task = task

    def parted(self, table: pa.Table, *, held: bool) -> tuple[pa.Table, Array]:
        """Features and target of some rows of the file."""
        features, columns = named(table, self.names)
        if not held:
            self.beside.meet([table.schema.field(name) for name in self.names], columns)
        return answered(features, self.names, columns, self.beside)

    def laid(self, features: pa.Table, values: Array, first: int) -> tuple[pa.Table, Array]:
        """Features and target as they are."""
        return features, values

    def profile(self) -> Profile:
        """What fits it to the rows."""
        return TargetProfile(self.names, self._task)

    def is_laid_for(self, processor: Processor) -> bool:
        """It lies as it came."""
        return True

    def fitted(self, profile: Profile, standardise: Standardise) -> Task:
        """The task of all training rows."""
        return respelled(profile.fitted(standardise), self.beside.spelled)

    def texts(self, values: Array) -> tuple[str, ...]:
        """Its columns, where they are text."""
        return self.names if values.dtype.kind == "O" else ()

    def beside_features(self, features: pa.Table, values: Array) -> pa.Table:
        """Features with the target beside them."""
        return features.append_column(TARGET, _arrow(values))

    def apart(self, table: pa.Table) -> tuple[pa.Table, Array]:
        """Features and target of what `beside_features` made."""
        return answered(table.drop_columns([TARGET]), (TARGET,), [table.column(TARGET)])

    def validation(self, held: Any, csv: str | None) -> tuple[pa.Table, Array]:
        """Features and target of held-out rows in memory."""
        _, table, values, _ = part(held, None, beside=Beside(ignored=lambda: self.beside.no_target))
        return table, values

    def forms(self, values: Array) -> tuple[TargetForm, tuple[TargetForm, ...]]:
        """How the target came."""
        return given_by(None, values), ()


class MaskTarget(OneTarget):
    """A target of a mask a row, which lies as a network sees the picture that it is of.

    Parameters
    ----------
    target, present, task, ignored
        As of `OneTarget`.
    layout : MaskLayout
        How masks lie on their pictures.
    """

    def __init__(
        self,
        target: Any,
        present: list[str],
        task: TaskName | Family | None,
        ignored: Callable[[], int | None],
        layout: MaskLayout,
    ) -> None:
        super().__init__(target, present, task, ignored)
        self.layout, self.width = layout, math.prod(layout.feature.shape[1:])
        self._dtype = np.dtype(np.uint8)

    def laid(self, features: pa.Table, values: Array, first: int) -> tuple[pa.Table, Array]:
        """The column of pictures, and class numbers of each pixel."""
        rows = self.layout(Rows(features, values), first)
        self._dtype = np.promote_types(self._dtype, rows.target.dtype)
        return rows.table, rows.target.astype(self._dtype, copy=False)

    def profile(self) -> DenseProfile:
        """What fits it to the rows."""
        return DenseProfile(self.names, self._ignored)

    def _ignored(self, labels: Array) -> int | None:
        check_classes(labels, self.names[0])
        void = void_of(labels)
        return self.beside.no_target if void is None else void

    def is_laid_for(self, processor: Processor) -> bool:
        """Whether the pictures are seen in the size of the masks."""
        feature = processor.features[0]
        same = feature.shape == self.layout.feature.shape
        self.layout = replace(self.layout, feature=feature)
        return same

    def texts(self, values: Array) -> tuple[str, ...]:
        """None: masks are no labels of text."""
        return ()


class SeveralTargets:
    """Several targets, each with a head and a task of its own.

    Parameters
    ----------
    heads : mapping of str to Any
        Columns of each by its name.
    tasks : mapping, TaskName, Family or None
        Of each, or of all, as requested.
    """

    def __init__(self, heads: Mapping[str, Any], tasks: Any) -> None:
        self._heads, self._columns = dict(heads), columns_of(heads)
        self.names = tuple(self._columns)
        self.columns = tuple(dict.fromkeys(name for names in self._columns.values() for name in names))
        self.beside, self.width = Beside(), 0
        strange = next((name for name in tasks if name not in heads), "") if isinstance(tasks, Mapping) else ""
        if strange:
            raise OptionError(f"There is no target {strange!r} for a loss or a task.", did_you_mean(strange, heads))
        self._tasks = {name: tasks.get(name) if isinstance(tasks, Mapping) else tasks for name in heads}

    def parted(self, table: pa.Table, *, held: bool) -> tuple[pa.Table, Array]:
        """Features and records of some rows of the file."""
        features, values, notes = answered_heads(table, self._columns)
        if not held:
            add_notes(self.beside, notes)
        return features, values

    def laid(self, features: pa.Table, values: Array, first: int) -> tuple[pa.Table, Array]:
        """Features and records as they are."""
        return features, values

    def profile(self) -> HeadsProfile:
        """What fits each head to the rows."""
        return HeadsProfile(self._columns, self._tasks)

    def is_laid_for(self, processor: Processor) -> bool:
        """They lie as they came."""
        return True

    def fitted(self, profile: Profile, standardise: Standardise) -> Task:
        """The tasks of all training rows."""
        return profile.fitted(standardise)

    def texts(self, values: Array) -> tuple[str, ...]:
        """Columns of heads that are text."""
        return tuple(c for name in self.names if values.dtype[name].kind == "O" for c in self._columns[name])

    def beside_features(self, features: pa.Table, values: Array) -> pa.Table:
        """Features with the targets beside them."""
        for name in self.names:
            features = features.append_column(f"{TARGET}{name}", _arrow(values[name]))
        return features

    def apart(self, table: pa.Table) -> tuple[pa.Table, Array]:
        """Features and records of what `beside_features` made."""
        columns = {name: (f"{TARGET}{name}",) for name in self.names}
        features, values, _ = answered_heads(table, columns)
        return features, values

    def validation(self, held: Any, csv: str | None) -> tuple[pa.Table, Array]:
        """Features and records of held-out rows in memory."""
        return held_heads(held, self._heads, csv, ())

    def forms(self, values: Array) -> tuple[TargetForm, tuple[TargetForm, ...]]:
        """How each target came."""
        return UNKNOWN, tuple(given_by(None, values[name]) for name in self.names)


def _arrow(values: Array) -> pa.Array:
    if values.ndim > 1:
        return column(values, TARGET)
    if is_decimal(values):  # of one column, and so of one scale
        return pa.array(values, pa.decimal256(76, max(0, -int(values[0].as_tuple().exponent))))
    return pa.array(np.ascontiguousarray(values))
