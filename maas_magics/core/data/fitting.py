"""What each column of features is, told from the training rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import as_text, dates, is_length, is_moment, is_number, is_text, read_numbers
from maas_magics.core.data.columns import (
    IDENTIFIER,
    MOST_CATEGORIES,
    RARE,
    Category,
    Column,
    Columns,
    Moment,
    Numeric,
    Tensor,
)
from maas_magics.core.data.files.dialect import WORDS as MISSING
from maas_magics.core.data.looks import AS_TEXTS, look
from maas_magics.core.data.nested import is_listed
from maas_magics.core.data.origin import as_missing, odd_missing
from maas_magics.core.data.together import is_one, tell_fallen
from maas_magics.core.data.units import odd_ones
from maas_magics.core.data.values import FEW, MIXED, number_of
from maas_magics.core.data.zones import zone_of

WORDS = 3
"""Words a text, on average, from which a column is taken to hold sentences."""

MISSING_WORDS = frozenset({"NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "?", "-"})
"""Texts that a person may want to be told about, for they may mean that nothing is there."""

SENTENCES = "holds free text"
ONE_EACH = " Each is taken as one category, not for its words, and one that was not learnt tells nothing."
TO_NUMBERS = "Turn them into numbers first: TfidfVectorizer of scikit-learn with .toarray(), or an array of embeddings."


def fit(table: pa.Table, tell: Callable[[str], None], *, vectors: bool, keep: bool = False) -> Columns:
    """Kinds of the columns of a table of training rows.

    Parameters
    ----------
    table : pyarrow.Table
        Features only.
    tell : callable
        Gets a sentence about every column that is left out.
    vectors : bool
        Whether an array in each row is taken as that many numbers, rather than handed on as it is.
    keep : bool
        Whether numbers stay that are one only, as for a module, which expects so many.

    Raises
    ------
    DataError
        If no column is of use, or one holds something no model takes.
    """
    said: list[str] = []

    def note(text: str) -> None:
        said.append(text)
        tell(text)

    found = [column for field in table.schema if (column := _fit(field, table.column(field.name), note, vectors, keep))]
    if not found:
        raise nothing_of_use(said)
    return Columns(tuple(found))


def nothing_of_use(said: Sequence[str]) -> DataError:
    """Why no column can be learnt from, as far as ``said`` tells of the columns."""
    for text in said:
        if SENTENCES in text:
            return DataError(f"No column is of use as a feature. {text.removesuffix(' ' + TO_NUMBERS)}", TO_NUMBERS)
        if AS_TEXTS in text:
            told, _, fix = text.partition(" and is left out. ")
            return DataError(f"No column is of use as a feature. {told} and is left out.", fix)
    return DataError(
        "No column is of use as a feature: each is empty, constant, or names single rows.",
        "Give at least one column that varies.",
    )


def tell_words(where: str, texts: Iterable[object], tell: Callable[[str], None]) -> None:
    """Say so where a text that often stands for a missing value was learnt as what it is."""
    texts = list(texts)
    odd = [str(text) for text in texts if text in MISSING_WORDS]
    if odd:
        tell(f"{where} has {', '.join(map(repr, odd[:3]))} as a text like any other. {as_missing(odd[0])}")


def tell_labels(names: Sequence[str], classes: Sequence[object], tell: Callable[[str], None]) -> None:
    """Say so where labels may have been meant as something else: as missing, or as quantities."""
    where = f"The target {', '.join(names)!r}"
    tell_words(where, classes, tell)
    texts = [label for label in classes if isinstance(label, str)]
    if len(names) > 1 or len(texts) <= FEW:
        return
    found, odd = look(names[0], texts), odd_ones(dict.fromkeys(texts, 1))
    if found is not None:
        tell(f"{where} {found}; each is taken as a label. {found.fix}")
    elif odd is not None:
        share = f"all but {odd.rows:,} of its {odd.present:,} labels are numbers: not {odd}"
        tell(f"{where} holds texts; {share}. {odd_missing(names[0], odd.texts)}")


def _meant(name: str, counted: Mapping[str, int]) -> tuple[str, str]:
    """What texts were meant as where they are no names of categories, as the rest of a sentence, and what to do.

    Both are empty where they are.
    """
    rows = sum(counted.values())
    words = sum(len(text.split()) * number for text, number in counted.items())
    found = look(name, (text for text in counted if text not in MISSING_WORDS))
    if found is not None:
        return str(found), found.fix
    if (odd := odd_ones(counted)) is not None:
        share = f"all but {odd.rows:,} of {odd.present:,} values are numbers"
        return f"holds numbers{AS_TEXTS} ({share}: not {odd})", odd_missing(name, odd.texts)
    if not rows or words < WORDS * rows:
        return "", ""
    example = max(counted, key=lambda text: (len(text.split()), text))
    shown = example if len(example) <= 40 else example[:39] + "…"
    return f"{SENTENCES} (sentences such as {shown!r})", TO_NUMBERS


def leave_out(name: str, counted: Mapping[str, int], why: str, tell: Callable[[str], None]) -> None:
    """Say that a column of texts is left out, and what else it might have been."""
    meant, fix = _meant(name, counted)
    if meant:
        tell(f"Column {name!r} {meant}, {why}, and is left out. {fix}")
    else:
        tell(f"Column {name!r} {why} and is left out.")


def _fit(
    field: pa.Field, values: pa.ChunkedArray, tell: Callable[[str], None], vectors: bool, keep: bool
) -> Column | None:
    name, kind = field.name, values.type
    if isinstance(kind, pa.FixedShapeTensorType):
        if vectors:
            tell_fallen(name, values, tell)
            return Numeric(name, math.prod(kind.shape))
        dtype = str(kind.value_type.to_pandas_dtype().__name__)
        return Tensor(
            name, tuple(kind.shape), {"float64": "float32", "float16": "float32", "bool": "uint8"}.get(dtype, dtype)
        )
    if is_text(kind):
        values = as_text(values)
    if len(values) == values.null_count:
        tell(f"Column {name!r} is empty and is left out.")
        return None
    texts = is_text(kind) and mostly_numbers(field)
    if texts:
        tell_mixed(name, values, tell)
        values = read_numbers(values)
        kind = values.type
    if is_text(kind) and (moments := dates(values)) is not None:
        values, kind = moments, moments.type
    if is_text(kind):
        return _fit_category(field, values, tell)
    if is_moment(kind) or is_number(kind):
        together = tell_fallen(name, values, tell)
        if not keep and (pc.count_distinct(values, mode="all").as_py() == 1 or (together and is_one(values))):
            tell(f"Column {name!r} has one value only{' to a model' if together else ''} and is left out.")
            return None
        return Moment(name, zone_of(kind)) if is_moment(kind) else Numeric(name, texts=texts, seconds=is_length(kind))
    raise not_taken(name, kind)


def not_taken(name: str, kind: pa.DataType, who: str = "model here") -> DataError:
    """What is to be said of a column of lists, records, bytes and the like."""
    if is_listed(kind):
        inner = kind
        while is_listed(inner):
            inner = inner.value_type
        if is_number(inner) and not is_length(inner):
            return DataError(
                f"Column {name!r} holds {kind}, lists of several lengths; arrays of one shape were expected.",
                f"Pad or cut them to one length, or leave the column out: --drop {name}",
            )
        return DataError(
            f"Column {name!r} holds {kind}, which no {who} takes.",
            f"Turn it into numbers or text, such as a column of 0 and 1 for each label, or leave it out: --drop {name}",
        )
    return DataError(
        f"Column {name!r} holds {kind}, which no {who} takes.",
        f"Turn it into columns of numbers or text, or leave it out: --drop {name}",
    )


def _fit_category(field: pa.Field, values: pa.ChunkedArray, tell: Callable[[str], None]) -> Category | None:
    counts = pc.value_counts(values)
    labels, numbers = counts.field("values").to_pylist(), counts.field("counts").to_pylist()
    counted = {label: number for label, number in zip(labels, numbers, strict=True) if label is not None}
    return category(field, counted, values.null_count, tell)


def category(field: pa.Field, counted: Mapping[str, int], missing: int, tell: Callable[[str], None]) -> Category | None:
    """A column of texts from how often each occurs, and how many rows have none; None where it is of no use."""
    name = field.name
    by_count = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))
    present = sum(counted.values())
    rows = present + missing
    if len(by_count) + (missing > 0) < 2:
        leave_out(name, counted, "has one value only", tell)
        return None
    if len(by_count) > 20 and len(by_count) > IDENTIFIER * present:
        leave_out(name, counted, f"has {len(by_count):,} different texts in {rows:,} rows", tell)
        return None
    least = min(RARE, max(1, rows // 100))
    known = [label for label, number in by_count if number >= least]
    if not known:
        leave_out(name, counted, f"has no text that occurs {least} times", tell)
        return None
    meant, fix = _meant(name, counted)
    if meant:
        tell(f"Column {name!r} {meant}.{ONE_EACH} {fix}")
    if len(known) > MOST_CATEGORIES:
        tell(f"Column {name!r}: the {MOST_CATEGORIES:,} most frequent of {len(by_count):,} texts are told apart.")
    tell_words(f"Column {name!r}", known, tell)
    if MIXED in (field.metadata or {}):
        tell(f"Column {name!r} holds texts and numbers; each is taken as a text.")
    return Category(name, tuple(sorted(known[:MOST_CATEGORIES])), _is_spelled(field))


def _is_spelled(field: pa.Field) -> bool:
    """Whether texts of a column stand for values that were not all texts."""
    kind = field.type
    return MIXED in (field.metadata or {}) or (pa.types.is_dictionary(kind) and not is_text(kind.value_type))


def mostly_numbers(field: pa.Field) -> bool:
    """Whether a column of texts is one of objects most of which were numbers."""
    return (field.metadata or {}).get(MIXED) == b"numbers"


def tell_mixed(name: str, values: pa.ChunkedArray, tell: Callable[[str], None]) -> None:
    """Say which texts among numbers count as missing."""
    text = as_text(values)
    odd = [word for word in pc.unique(text).to_pylist() if word is not None and number_of(word) is None]
    tell_odd(name, [word for word in odd if word not in MISSING] or odd, tell)


def tell_odd(name: str, odd: Sequence[str], tell: Callable[[str], None]) -> None:
    """Say which texts among numbers count as missing; nothing where there are none."""
    if not odd:
        return
    shown = ", ".join(map(repr, odd[:3])) + (f" and {len(odd) - 3:,} more" if len(odd) > 3 else "")
    tell(f"Column {name!r} holds texts among its numbers ({shown}); they count as missing.")


def fit_arrays(table: pa.Table) -> Columns:
    """Columns of arrays that a module takes each as it is: none is left out, or becomes another kind.

    Raises
    ------
    DataError
        If one holds something no module takes, or lacks values.
    """
    return Columns(tuple(_fit_array(name, table.column(name)) for name in table.column_names))


def _fit_array(name: str, values: pa.ChunkedArray) -> Column:
    kind = values.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return Tensor(name, tuple(kind.shape), _dtype(kind.value_type))
    if is_text(kind):
        counted = as_text(values).unique().drop_null().to_pylist()
        return Category(name, tuple(sorted(counted)))
    if is_moment(kind):
        return Moment(name, zone_of(kind))
    if not is_number(kind):
        raise not_taken(name, kind, "module")
    if values.null_count:
        raise DataError(
            f"Array {name!r} holds {values.null_count} missing values.", "Fill them: a module gets arrays as they are."
        )
    plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return Tensor(name, (), _dtype(kind) if plain else "float64")


def _dtype(kind: pa.DataType) -> str:
    return "bool" if pa.types.is_boolean(kind) else str(np.dtype(kind.to_pandas_dtype()).name)
