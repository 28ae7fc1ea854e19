"""Dates and times."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError
from maas_magics.api.signature import TensorSpec
from maas_magics.core.data.arrow import Array, as_text, dates, is_moment, is_text
from maas_magics.core.data.origin import as_dates
from maas_magics.core.data.running import RunningStatistics
from maas_magics.core.data.together import tell_fallen
from maas_magics.core.data.zones import zone_assumed, zone_of
from maas_magics.core.features.base import NumberLike
from maas_magics.core.features.fitting import FitConfig, Tell
from maas_magics.core.features.mismatch import fix, mismatch, texts_of
from maas_magics.core.features.modalities import Modality, modalities
from maas_magics.core.features.scaling import ROUNDING, fitted

if TYPE_CHECKING:
    from torch import nn

NAT = -(2**63)
"""Microseconds that stand for a missing time (numpy's NaT)."""

DAY = 86_400_000_000
"""Microseconds of a day."""

PERIODS = (31_556_952_000_000, 7 * DAY, DAY)
"""Microseconds after which a year of 365.2425 days, a week and a day repeat."""

PHASE_ROUNDING = 1e-9
"""Phases whose standard deviation is at most this vary by too little for sines of different libraries, which differ
by 1e-16: dates a millisecond apart do in a year. What such phases say, the days say as well."""

YEARS = 946_684_800_000_000, 1_893_456_000_000_000
"""Microseconds from 2000 to 2030."""


class Timestamp(NumberLike, frozen=True, kw_only=True, tag="timestamp"):
    """Dates and times, as microseconds since 1970 in UTC.

    ``zone`` is the time zone of those in training, empty where they had none; None in a model of before it was kept.
    ``origin`` is what days count from, in microseconds since 1970: a float of days since then has steps of a third of
    a microsecond.
    """

    zone: str | None = None
    origin: int = 0

    timed: ClassVar[bool] = True

    @property
    def spec(self) -> TensorSpec:
        """Whole microseconds, (n, 1)."""
        if self.zone is None:
            learnt = ""
        elif self.zone:
            learnt = f" (learnt as times in {self.zone})" if self.zone != "UTC" else ""
        else:
            learnt = " (learnt as times without a zone, taken as UTC)"
        meaning = f"microseconds since 1970-01-01 00:00 UTC{learnt}; missing: {NAT}"
        return TensorSpec(self.name, "INT64", (-1, 1), meaning)

    @property
    def names(self) -> list[str]:
        """Days, then the sine and cosine of each phase."""
        return [self.name, *(f"{self.name} {f}({p})" for p in ("year", "week", "day") for f in ("sin", "cos"))]

    def encode(self, values: pa.ChunkedArray) -> Array:
        """Microseconds, int64 (n, 1)."""
        kind = values.type
        if is_text(kind):
            text = as_text(values)
            times = pa.nulls(len(values), pa.timestamp("us")) if text.null_count == len(text) else dates(values)
            if times is None:
                hint = fix(self.name, texts_of(values)) or as_dates(self.name)
                raise mismatch(self.name, "text that is not a date", "dates", hint)
            values = times
        elif not is_moment(kind) and not pa.types.is_null(kind):
            raise mismatch(self.name, str(kind), "dates", as_dates(self.name))
        fine = getattr(values.type, "unit", "s") == "ns"
        try:
            whole = values.cast(pa.timestamp("us", getattr(values.type, "tz", None)), safe=not fine).cast(pa.int64())
        except pa.ArrowInvalid:
            raise DataError(
                f"Column {self.name!r} holds a date that is too far away for microseconds, in which dates are kept.",
                "Mark it as missing, or give numbers.",
            ) from None
        return np.asarray(pc.fill_null(whole, NAT).to_numpy(), dtype=np.int64).reshape(-1, 1)

    def blank(self, raw: Array) -> Array:
        """Rows without a time, bool (n,)."""
        return np.asarray(raw[:, 0] == NAT)

    def module(self) -> nn.Module:
        """From microseconds to days, and the phases of year, week and day."""
        from maas_magics.core.features.phases import Phases

        return Phases(PERIODS, DAY, NAT, self.origin)

    def zone_assumed(self, values: pa.ChunkedArray) -> tuple[str, str] | None:
        """Zone of some times, and of those in training, where one of the two has none."""
        return zone_assumed(values, self.zone)

    def drawn(self, rows: int, random: np.random.Generator) -> Array:
        """Times from 2000 to 2030."""
        return random.integers(*YEARS, (rows, 1))


class TimestampProfile:
    """Fits `Timestamp` to a column of dates and times.

    Parameters
    ----------
    field : pyarrow.Field
        Name, type and metadata of the column.
    fit : FitConfig
        What it is fitted for.
    """

    def __init__(self, field: pa.Field, fit: FitConfig) -> None:
        self.name, self.fit = field.name, fit
        self.zone = zone_of(field.type) if is_moment(field.type) else ""
        self.figures = RunningStatistics()
        self.origin: int | None = None
        """What days are counted from, once a time was there."""
        self._told = False
        self._fallen: list[str] = []

    @classmethod
    def accepts(cls, field: pa.Field, fit: FitConfig) -> bool:
        """Dates and time stamps."""
        return is_moment(field.type)

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in some rows."""
        if not self.fit.joined:
            return
        if not self._told:
            self._told = tell_fallen(self.name, values, self._fallen.append)
        raw = Timestamp(self.name).encode(values)
        there = raw[raw != NAT]
        if self.origin is None and len(there):
            self.origin = int(there[0])
        self.figures.add(self._numbers(raw))

    def _numbers(self, raw: Array) -> Array:
        from maas_magics.core.features.tensors import as_tensor

        return np.asarray(Timestamp(self.name, origin=self._from).module()(as_tensor(raw)).numpy())

    @property
    def _from(self) -> int:
        return (self.origin or 0) if self.fit.scale else 0

    def merge(self, other: Self) -> None:
        """Take in what was found in other rows, whose days may count from elsewhere."""
        days = np.zeros(1 + 2 * len(PERIODS))
        if self.origin is not None and other.origin is not None:
            days[0] = (other._from - self._from) / DAY
        self.origin = other.origin if self.origin is None else self.origin
        other.figures.shift(days)
        self.figures.merge(other.figures)
        if not self._told:
            self._told, self._fallen = other._told, other._fallen

    def finish(self, sample: pa.ChunkedArray, notify: Tell) -> Timestamp | None:
        """What the column is."""
        for text in self._fallen:
            notify(text)
        if not self.fit.joined:
            return Timestamp(self.name, zone=self.zone)
        found = self.figures
        if not found.count.any():
            notify(f"Column {self.name!r} is empty and is left out.")
            return None
        if not self.fit.keep and not found.missing[0] and found.low[0] == found.high[0]:
            to_a_model = " to a model" if self._told else ""
            notify(f"Column {self.name!r} has one value only{to_a_model} and is left out.")
            return None
        plain = Timestamp(self.name, zone=self.zone, origin=self._from)
        least = np.where(np.arange(1 + 2 * len(PERIODS)) > 0, PHASE_ROUNDING, ROUNDING * found.largest)
        scaling = fitted(found, self._numbers(plain.encode(sample)), self.fit.scale, least)
        return msgspec.structs.replace(plain, scaling=scaling)


modalities.register("timestamp")(Modality(Timestamp, TimestampProfile))
