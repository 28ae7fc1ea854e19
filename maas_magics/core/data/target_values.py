"""Values of a target: which rows have one, as what values, and notes on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import (
    Array,
    as_text,
    is_length,
    is_moment,
    is_number,
    is_text,
    numbers,
    tensors,
)
from maas_magics.core.data.labels import is_decimal
from maas_magics.core.data.masked import holds_masks, masks_of_rows
from maas_magics.core.data.media import holds_files
from maas_magics.core.data.nested import is_listed
from maas_magics.core.data.origin import several_labels
from maas_magics.core.data.spanned import is_list_of_spans, spans_of_rows
from maas_magics.core.data.tagged import is_lists_of_text, tags_of
from maas_magics.core.data.values import SPELLED

AS_SECONDS = "The target {!r} is {}: it is learnt and answered in seconds."


@dataclass
class Beside:
    """Notes on a target beside its values.

    Attributes
    ----------
    empty : str
        A sentence where texts are empty, and so no labels.
    units : dict of str to str
        For each target that is a time: a sentence about the unit that it is answered in.
    left : str
        A sentence where rows have no target, and so are left out.
    bad : str
        A sentence where rows have files that cannot be read, and so are left out.
    spelled : dict of str to str
        How decimals came, by how Arrow spells them.
    ignored : callable
        Returns the number that marks a row without a target, such as the label that a loss ignores; or None. It is
        called where there are whole numbers.
    odd : str
        A sentence where a few texts stand among the numbers of a CSV file, and so are not targets.
    counting : dict of str to (int, int)
        Columns that count the rows of a table, with their first and last number.
    labels : bool
        Whether labels were requested, which texts are.
    """

    empty: str = ""
    odd: str = ""
    labels: bool = False
    counting: dict[str, tuple[int, int]] = dataclass_field(default_factory=dict)
    left: str = ""
    bad: str = ""
    spelled: dict[str, str] = dataclass_field(default_factory=dict)
    units: dict[str, str] = dataclass_field(default_factory=dict)
    ignored: Callable[[], int | None] = lambda: None
    _met: bool = False

    @cached_property
    def no_target(self) -> int | None:
        """The number that marks a row without a target."""
        return self.ignored()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that belong to the result."""
        return tuple(text for text in (self.left, self.bad, self.empty, self.odd, *self.units.values()) if text)

    def meet(self, fields: Sequence[pa.Field], columns: Sequence[pa.ChunkedArray]) -> None:
        """Take in the target of some rows."""
        for field, values in zip(fields, columns, strict=True):
            kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            if not self.empty and is_text(kind) and pc.any(pc.equal(values.cast(kind), "")).as_py():
                self.empty = (
                    f"Rows whose target {field.name!r} is an empty text are left out: it counts as missing. "
                    "Where it is a label, write it out, such as 'none'."
                )
            if is_length(kind):
                what = "a length of time" if pa.types.is_duration(kind) else "a time of day"
                self.units[field.name] = AS_SECONDS.format(field.name, what)
            self.spelled |= json.loads((field.metadata or {}).get(SPELLED, b"{}"))

    def present(self, columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray | pa.Array:
        """Rows that have an answer: of several numbers a row, those that have all of them."""
        found = _present(columns[0])
        for other in columns[1:]:
            found = pc.and_(found, _present(other))
        whole = _whole_numbers(columns[0]) if len(columns) == 1 else None
        if whole is None or self.no_target is None or not (whole == self.no_target).any():
            return found
        self._met = True
        return pc.and_(found, pa.array(whole != self.no_target))

    def left_out(self, rows: int, kept: int, names: Sequence[str], where: str = "") -> str:
        """A sentence where some rows have no target; ``where`` says which rows they are."""
        said = left_out(rows, kept, names, where)
        return f"{said} The loss ignores the label {self.no_target}: its rows are among them." if self._met else said


def left_out(rows: int, kept: int, names: Sequence[str], where: str = "") -> str:
    """A sentence where some rows have no target; ``where`` says which rows they are."""
    left = rows - kept
    if not left:
        return ""
    one = left == 1
    lack = f"{'has' if one else 'have'} no target" if len(names) == 1 else f"{'lacks' if one else 'lack'} a target"
    return f"{left:,} of {rows:,} {where}rows {lack} and {'is' if one else 'are'} left out."


def answered(
    table: pa.Table, names: Sequence[str], columns: Sequence[pa.ChunkedArray], beside: Beside | None = None
) -> tuple[pa.Table, Array]:
    """Features and target of the rows whose target is there, which may be none.

    Parameters
    ----------
    table : pyarrow.Table
        Features.
    names : sequence of str
    columns : sequence of pyarrow.ChunkedArray
        The target.
    beside : Beside, optional
        Says which number marks a row without a target.

    Returns
    -------
    features : pyarrow.Table
        Columns beside the target, n rows.
    values : ndarray, shape (n,) or (n, k)
        The target as it came.
    """
    columns = [_answers(values) for values in columns]
    if not table.num_columns:
        raise DataError("The data has no column beside the target.", "Give at least one column of features.")
    present = (beside or Beside()).present(columns)
    kept = pc.sum(present).as_py() or 0
    if not kept:
        return table.slice(0, 0), np.empty(0)
    if kept < table.num_rows:
        table, columns = table.filter(present), [values.filter(present) for values in columns]
    values = [_values(name, item) for name, item in zip(names, columns, strict=True)]
    if len(values) > 1:
        return table, _side_by_side(values)
    only = values[0]
    return table, only[:, 0] if only.ndim == 2 and only.shape[1] == 1 else only


def _side_by_side(columns: list[Array]) -> Array:
    """Targets of one row in one row (n, k). Zeros and ones beside truth values are truth values too."""
    columns = [values.astype(np.float64) if is_decimal(values) else values for values in columns]
    kinds = {values.dtype.kind for values in columns}
    if "b" in kinds and kinds <= set("biuf") and all(((v == 0) | (v == 1)).all() for v in columns):
        columns = [values.astype(bool) for values in columns]
    return np.stack(columns, axis=1)


def _whole_numbers(values: pa.ChunkedArray) -> Array | None:
    """The numbers of a column, one a row, where all that are there are whole."""
    if isinstance(values.type, pa.FixedShapeTensorType):
        found = tensors(values)
        if found.dtype.kind not in "iuf" or found[:1].size != 1:
            return None
        found = found.reshape(-1)
    elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        found = np.asarray(values.to_numpy())
    else:
        return None
    there = found[~np.isnan(found)] if found.dtype.kind == "f" else found
    return found if there.dtype.kind != "f" or bool((there == np.floor(there)).all()) else None


def _present(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Rows that have an answer: of several numbers a row, those that have all of them."""
    if not isinstance(values.type, pa.FixedShapeTensorType):
        return pc.invert(pc.is_null(values, nan_is_null=True))
    found = tensors(values)
    axes = tuple(range(1, found.ndim))
    return pa.chunked_array(
        [
            pa.array(
                np.asarray(~np.isnan(found).any(axis=axes))
                if found.dtype.kind == "f"
                else np.ones(len(found), dtype=bool)
            )
        ]
    )


def _answers(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Target without dictionaries, and with missing values for empty texts."""
    kind = values.type
    if pa.types.is_dictionary(kind) and not is_text(kind.value_type):
        return values.cast(kind.value_type)
    return as_text(values) if is_text(kind) else values


def _values(name: str, values: pa.ChunkedArray) -> Array:
    """Target column as numpy: text as str objects, decimals as such, numbers of their own type, times as seconds."""
    kind = values.type
    if isinstance(kind, pa.FixedShapeTensorType):
        found = tensors(values)
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise DataError(f"The target {name!r} holds missing or infinite values.", "Drop those rows.")
        return found
    if pa.types.is_boolean(kind):
        return np.asarray(values.to_numpy(), dtype=bool)
    if holds_masks(values):
        return masks_of_rows(values)
    if is_text(kind):
        return np.asarray(values.to_numpy(zero_copy_only=False), dtype=object)
    if pa.types.is_integer(kind):
        return np.asarray(values.to_numpy())
    if pa.types.is_decimal(kind):
        decimals = np.empty(len(values), dtype=object)
        decimals[:] = values.to_pylist()
        return decimals
    if is_number(kind):
        found = np.asarray(values.to_numpy()) if pa.types.is_floating(kind) else numbers(values)
        if np.isinf(found).any():
            raise DataError(f"The target {name!r} holds infinite values.", "Drop those rows.")
        return found
    if is_moment(kind):
        raise DataError(
            f"The target {name!r} holds dates, which are neither labels nor quantities.",
            "Turn them into numbers, such as days since the first, or into text to have each taken for a label.",
        )
    if is_lists_of_text(kind):
        return tags_of(name, values)
    if is_list_of_spans(kind):
        return spans_of_rows(name, values)
    if is_listed(kind):
        raise lists_of_labels(name, kind)
    if holds_files(kind):
        raise DataError(
            f"The target {name!r} holds bytes, or files, which are neither labels nor quantities.",
            f"Where they are texts: df[{name!r}] = df[{name!r}].str.decode(). A mask a row is learnt where most files "
            "are pictures.",
        )
    raise DataError(f"The target {name!r} holds {kind}, which cannot be learnt.", "Give labels or numbers.")


def lists_of_labels(name: str, kind: pa.DataType | None = None) -> DataError:
    """The error for a target of lists."""
    what = f"lists ({kind})" if kind is not None else "lists of different lengths, or of texts"
    hint = several_labels(name)
    if kind is not None and pa.types.is_integer(kind.value_type):  # as data sets of Hugging Face have tags of words
        hint = f"Tags of words are texts: df[{name!r}] = [[names[tag] for tag in row] for row in df[{name!r}]]. {hint}"
    return DataError(f"The target {name!r} holds {what}; one column of 0 and 1 for each label was expected.", hint)
