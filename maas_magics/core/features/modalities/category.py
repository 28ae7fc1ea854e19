"""Text with few different values, and columns of text that may turn out to be dates or numbers."""

from __future__ import annotations

import math
from collections import Counter
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.signature import TensorSpec
from maas_magics.core.data.arrow import Array, as_text, dates, is_text
from maas_magics.core.data.origin import is_csv
from maas_magics.core.data.units import NumberTally
from maas_magics.core.data.values import MIXED, number_of
from maas_magics.core.features.base import Coded, Feature
from maas_magics.core.features.fitting import FitConfig, Tell
from maas_magics.core.features.mismatch import mismatch
from maas_magics.core.features.modalities import Modality, modalities
from maas_magics.core.features.modalities.number import NumberProfile
from maas_magics.core.features.modalities.timestamp import TimestampProfile
from maas_magics.core.features.notes import ONE_EACH, leave_out, meant, mostly_numbers, tell_odd, tell_words

MOST_CATEGORIES = 512
RARE = 3
"""Texts in fewer rows than this count as unseen, in tables of 300 rows or more."""
IDENTIFIER = 0.5
"""A text column with more different values than this share of the rows names rows, and is left out."""

MOST_TEXTS = 100_000
"""Different texts of a column that are counted; past it the rarer half of them is forgotten."""


class Category(Coded, frozen=True, tag="category"):
    """Text with few different values. Code 0 is missing or unseen, code ``i`` is ``values[i - 1]``.

    One rule holds for a text and the value it is, in a table, a CSV or JSON file, a cell, a service's tensor and an
    exported graph: a text is itself, letter for letter, spaces, ``NA``, ``null``, ``true``, ``007`` and ``1e3``
    included; the empty one alone is missing. What is not text is spelled as `maas_magics.core.data.values.text_of` has
    it. Where values were not texts (``spelled``), their other usual spellings mean them as well: ``1.0`` and ``True``.
    """

    values: tuple[str, ...]
    spelled: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """The values, in the order of their codes."""
        return self.values

    @property
    def spec(self) -> TensorSpec:
        """Text, (n, 1)."""
        return TensorSpec(self.name, "BYTES", (-1, 1), "missing: the empty text")

    @property
    def vocabulary(self) -> tuple[tuple[str, int], ...]:
        """Every text that means one of the values, with its code; the values themselves come first."""
        known = {value: code for code, value in enumerate(self.values, start=1)}
        others = ((other, code) for value, code in known.items() for other in _others(value)) if self.spelled else ()
        return tuple(known.items()) + tuple({other: code for other, code in others if other not in known}.items())

    def encode(self, values: pa.ChunkedArray) -> Array:
        """Texts, object (n, 1), empty for what is missing."""
        if isinstance(values.type, pa.FixedShapeTensorType) or pa.types.is_nested(values.type):
            raise mismatch(self.name, str(values.type), "text", "Give one text a row.")
        text = pc.fill_null(as_text(values), "")
        return np.asarray(text.to_numpy(zero_copy_only=False), dtype=object).reshape(-1, 1)

    def enter(self, raw: Array) -> Array:
        """Codes of raw text, int64 (n, 1): what the label encoder of an exported graph computes."""
        spellings = self.vocabulary
        place = pc.index_in(pa.array(raw.ravel(), pa.string()), pa.array([word for word, _ in spellings], pa.string()))
        code = np.array([0, *(number for _, number in spellings)], dtype=np.int64)
        return np.asarray(code[np.asarray(pc.fill_null(place, -1).to_numpy()) + 1]).reshape(-1, 1)

    def blank(self, raw: Array) -> Array:
        """Rows whose text is missing or unknown, bool (n,)."""
        return np.asarray(self.enter(raw)[:, 0] == 0)

    def drawn(self, rows: int, random: np.random.Generator) -> Array:
        """Texts that are known, or missing."""
        return random.choice(np.array([*self.values, ""], dtype=object), (rows, 1))


def _others(value: str) -> tuple[str, ...]:
    """How Python and spreadsheets spell values that are not text."""
    if value in ("true", "false"):
        return value.capitalize(), value.upper()
    number = number_of(value)
    if number is None or not math.isfinite(number):
        return ()
    return (repr(number),) if number != int(number) or abs(number) >= 1e16 else (f"{number:.1f}", str(int(number)))


class CategoryProfile:
    """Fits `Category` to a column of texts, or what they spell: dates, or numbers in a text file.

    Parameters
    ----------
    field : pyarrow.Field
        Name, type and metadata of the column.
    fit : FitConfig
        What it is fitted for.
    """

    def __init__(self, field: pa.Field, fit: FitConfig) -> None:
        self.field, self.name, self.fit = field, field.name, fit
        self._counted: Counter[str] = Counter()
        self._rows = self._missing = 0
        self._many = False
        self._tally = NumberTally() if is_csv() and fit.joined else None
        self._numbers = NumberProfile(field, fit)
        self._times = TimestampProfile(field, fit)
        self._zones: set[str] | None = set()
        """Time zones of the dates so far; None once a text was none."""

    @classmethod
    def accepts(cls, field: pa.Field, fit: FitConfig) -> bool:
        """Texts, unless most of them are numbers."""
        return is_text(field.type) and not (fit.joined and mostly_numbers(field))

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in some rows."""
        values = as_text(values)
        self._rows += len(values)
        self._missing += values.null_count
        counts = pc.value_counts(values.drop_null())
        each = dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
        self._counted.update(each)
        if not self.fit.joined:
            return
        if self._tally is not None:
            self._tally.add(each)
            self._tally = None if self._tally.codes else self._tally
            if self._tally is not None:
                self._numbers.add(values)
        if len(self._counted) > MOST_TEXTS:
            self._many = True
            self._counted = Counter(dict(self._counted.most_common(MOST_TEXTS // 2)))
        if self._zones is None:
            return
        if values.null_count == len(values):
            self._times.add(pa.chunked_array([pa.nulls(len(values), pa.timestamp("us"))]))
            return
        times = dates(values)
        self._zones = None if times is None else self._zones | {times.type.tz or ""}
        if times is not None:
            self._times.add(times)

    def merge(self, other: Self) -> None:
        """Take in what was found in other rows."""
        self._rows += other._rows
        self._missing += other._missing
        self._counted.update(other._counted)
        self._many = self._many or other._many
        if self._tally is not None:
            self._tally = None if other._tally is None else self._tally
        if self._tally is not None and other._tally is not None:
            self._tally.merge(other._tally)
            self._numbers.merge(other._numbers)
        if self._zones is not None:
            self._zones = None if other._zones is None else self._zones | other._zones
            self._times.merge(other._times)

    def finish(self, sample: pa.ChunkedArray, notify: Tell) -> Feature | None:
        """What the column is."""
        if not self.fit.joined:
            return Category(self.name, tuple(sorted(self._counted)))
        odd = self._tally.odd if self._tally is not None else None
        if odd is not None and odd.few:
            tell_odd(self.name, odd.texts, notify)
            return self._numbers.finish(sample, notify, told=True)
        if self._missing == self._rows:
            notify(f"Column {self.name!r} is empty and is left out.")
            return None
        if self._zones is not None and len(self._zones) == 1:
            self._times.zone = next(iter(self._zones))
            return self._times.finish(sample, notify)
        if self._many:
            texts = as_text(sample)
            if pc.count_distinct(texts).as_py() > IDENTIFIER * (len(texts) - texts.null_count):
                leave_out(self.name, self._counted, f"has more than {MOST_TEXTS:,} different texts", notify)
                return None
        return self._category(notify)

    def _category(self, notify: Tell) -> Category | None:
        name, counted = self.name, self._counted
        by_count = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))
        present = self._rows - self._missing
        if len(by_count) + (self._missing > 0) < 2:
            leave_out(name, counted, "has one value only", notify)
            return None
        if len(by_count) > 20 and len(by_count) > IDENTIFIER * present:
            leave_out(name, counted, f"has {len(by_count):,} different texts in {self._rows:,} rows", notify)
            return None
        least = min(RARE, max(1, self._rows // 100))
        known = [label for label, number in by_count if number >= least]
        if not known:
            leave_out(name, counted, f"has no text that occurs {least} times", notify)
            return None
        what, fix = meant(name, counted)
        if what:
            notify(f"Column {name!r} {what}.{ONE_EACH} {fix}")
        if len(known) > MOST_CATEGORIES:
            notify(f"Column {name!r}: the {MOST_CATEGORIES:,} most frequent of {len(by_count):,} texts are kept apart.")
        tell_words(f"Column {name!r}", known, notify)
        if MIXED in (self.field.metadata or {}):
            notify(f"Column {name!r} holds texts and numbers; each is taken as a text.")
        return Category(name, tuple(sorted(known[:MOST_CATEGORIES])), _is_spelled(self.field))


def _is_spelled(field: pa.Field) -> bool:
    """Whether texts of a column stand for values that were not all texts."""
    kind = field.type
    return MIXED in (field.metadata or {}) or (pa.types.is_dictionary(kind) and not is_text(kind.value_type))


modalities.register("category")(Modality(Category, CategoryProfile))
