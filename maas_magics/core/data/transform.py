"""Preprocessing as a torch module: the same code prepares the training rows and stands in every export."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from maas_magics.core.data.columns import NAT, Array, Category, Column, Columns, Moment, Numeric
from maas_magics.core.data.columns import Tensor as TensorColumn
from maas_magics.core.data.running import Running, figures
from maas_magics.core.data.scaling import Layout, Scaling

CLIP = 10.0
"""Standard deviations that scaled numbers stay within."""

ROUNDING = 4 * float(np.finfo(np.float64).eps)
"""Numbers whose standard deviation is at most this share of the largest of them vary by rounding alone."""

SMALLEST = float(np.finfo(np.float64).tiny)
"""Standard deviation below which float64 has fewer digits, and no number to divide by it with."""

PHASE_ROUNDING = 1e-9
"""Phases whose standard deviation is at most this vary by too little for sines of different libraries, which differ
by 1e-16: dates a millisecond apart do in a year. What such phases say, the days say as well."""

COARSE_PIXELS = ("float16", "float32", "uint8", "int8", "uint16", "int16", "bool")
"""Types of arrays whose numbers float32 holds."""

DAY = 86_400_000_000
"""Microseconds of a day."""

PERIODS = (31_556_952_000_000, 7 * DAY, DAY)
"""Microseconds after which a year of 365.2425 days, a week and a day repeat."""


def fit_scaling(
    columns: Columns,
    layout: Layout,
    raw: list[Array],
    scale: bool,
    origins: tuple[int, ...] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Scaling:
    """Figures for `Transform` from the raw arrays of the training rows; ``tell`` gets what no figures scale.

    A missing number is filled with the median. Numbers are standardised, then squeezed by
    z / √(1 + (z / 10)²), which is z itself but for far outliers: the smooth clipping of Holzmüller et al. (2024),
    "Better by default", with a wider range, since long tails carry information.
    """
    if layout == "raw":
        return Scaling()
    if layout == "image":
        pixels = raw[0]
        return standardised_pixels(figures(pixels.reshape(-1, 1)))
    numeric = [
        (column, as_tensor(array)) for column, array in zip(columns.columns, raw, strict=True) if _is_number(column)
    ]
    if not numeric:
        return Scaling()
    if origins is None:
        moments = [values.numpy() for column, values in numeric if isinstance(column, Moment)]
        origins = tuple(map(origin_of, moments)) if scale else ()
    values = side_by_side(numeric, turns(), origin_tensor(origins)).numpy().astype(np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    missing = np.isnan(values)
    indicators = tuple(np.flatnonzero(missing.any(axis=0)).tolist())
    fill = np.zeros(values.shape[1])
    present = ~missing.all(axis=0)
    if len(values):
        fill[present] = np.nanmedian(values[:, present], axis=0)
    if not scale:
        return Scaling(tuple(fill.tolist()), (0.0,) * len(fill), (1.0,) * len(fill), indicators)
    filled = np.where(missing, fill, values)
    found = figures(filled)
    scaling = standardised(columns, fill, found.mean, found.spread, found.largest, indicators, origins)
    if tell is not None:
        tell_flat(columns, scaling, found.low, found.high, tell)
    return scaling


def standardised(
    columns: Columns,
    fill: Array,
    center: Array,
    spread: Array,
    largest: Array,
    indicators: tuple[int, ...],
    origins: tuple[int, ...],
) -> Scaling:
    """Figures that take away ``center`` and divide by ``spread``, each (p,); numbers that do not vary become 0."""
    phases = np.concatenate([_phases(column) for column in columns.columns if _is_number(column)])
    flat = (spread <= np.where(phases, PHASE_ROUNDING, ROUNDING * largest)) | (spread < SMALLEST)
    factor = np.where(flat, 0.0, 1 / np.where(flat, 1.0, spread))
    return Scaling(tuple(fill.tolist()), tuple(center.tolist()), tuple(factor.tolist()), indicators, CLIP, origins)


def tell_flat(columns: Columns, scaling: Scaling, low: Array, high: Array, tell: Callable[[str], None]) -> None:
    """Say which numbers, each from ``low`` to ``high``, (p,), differ by too little to be scaled, and so became 0."""
    flat = (np.array(scaling.scale) == 0) & (low < high)
    at = 0
    for column in columns.columns:
        width = len(_phases(column)) if _is_number(column) else 0
        found = np.flatnonzero(flat[at : at + width]) + at
        at += width
        if not len(found) or isinstance(column, Moment):
            continue
        which = (
            f"Column {column.name!r}" if width == 1 else f"{len(found):,} of the {width:,} numbers of {column.name!r}"
        )
        least, most = float(low[found[0]]), float(high[found[0]])
        tiny = max(abs(least), abs(most)) < SMALLEST / ROUNDING
        what = "Multiply it by 1e300" if tiny else "Take away what its values share"
        shown = f"{least:.6g} to {most:.6g}" if f"{least:.6g}" != f"{most:.6g}" else f"{least!r} to {most!r}"
        tell(
            f"{which} differ{'s' if width == 1 else ''} by too little for float64 ({shown}), "
            f"and count{'s' if width == 1 else ''} as one value. {what}, before it is trained on."
        )


def standardised_pixels(found: Running) -> Scaling:
    """Figures that standardise all pixels alike, from those of pixels as one column."""
    spread = float(found.spread[0])
    return Scaling(center=(float(found.mean[0]),), scale=(1 / spread if spread else 0.0,))


def as_tensor(values: Array) -> Tensor:
    """Array as a tensor that shares its memory, or a copy of it where the array may not be written to."""
    return torch.from_numpy(values if values.flags.writeable else values.copy())


def _is_number(column: object) -> bool:
    return isinstance(column, (Numeric, Moment))


def _phases(column: Column) -> Array:
    """Which of a column's numbers are phases, bool (p,)."""
    if isinstance(column, Moment):
        return np.arange(1 + 2 * len(PERIODS)) > 0
    return np.zeros(column.width if isinstance(column, Numeric) else 1, dtype=bool)


def turns() -> Tensor:
    """Radians that a microsecond is of `PERIODS`, as a tensor: an exporter rounds a double that is a plain number."""
    return torch.tensor([2 * math.pi / period for period in PERIODS], dtype=torch.float64)


def origin_of(values: Array) -> int:
    """What the days of some moments are counted from: the first that is not missing; 1970 where all are."""
    there = values[values != NAT]
    return int(there[0]) if len(there) else 0


def origin_tensor(origins: Sequence[int]) -> Tensor:
    """Whole days of each origin, and the microseconds after them, float64 (k, 2)."""
    return torch.tensor([divmod(origin, DAY) for origin in origins], dtype=torch.float64).reshape(-1, 2)


def side_by_side(columns: Sequence[tuple[Column, Tensor]], turns: Tensor, origins: Tensor) -> Tensor:
    """Numbers and moments side by side, (n, p); a moment becomes days and phases of year, week and day.

    Whole numbers are subtracted and divided as such, so that moments that are microseconds apart stay so. The start
    of a day is a multiple of 2¹³ microseconds, which float64 holds.
    """
    parts: list[Tensor] = []
    moments = 0
    for column, values in columns:
        if isinstance(column, Numeric):
            parts.append(values)
            continue
        missing = values == NAT
        after = values % DAY
        day, time = (values - after).to(torch.float64) / DAY, after.to(torch.float64)
        if len(origins):
            day, time = day - origins[moments, 0], time - origins[moments, 1]
        moments += 1
        parts.append(torch.where(missing, torch.nan, day + time / DAY))
        for period, turn in zip(PERIODS, turns, strict=True):
            phase = torch.where(missing, torch.nan, (values % period).to(torch.float64)) * turn
            parts += [torch.sin(phase), torch.cos(phase)]
    if len({part.dtype for part in parts}) > 1:
        parts = [part.to(torch.float64) for part in parts]
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


class Transform(nn.Module):
    """From the raw columns to what the network takes.

    Parameters
    ----------
    columns : Columns
    layout : Layout
    scaling : Scaling
    """

    def __init__(self, columns: Columns, layout: Layout, scaling: Scaling) -> None:
        super().__init__()
        self.columns = columns
        self.layout = layout
        self.clip = scaling.clip
        self.dtype = getattr(torch, scaling.dtype)
        self.indicators = list(scaling.indicators)
        numbers = columns.of(Numeric) + columns.of(Moment)
        if layout == "image":
            coarse = columns.of(TensorColumn)[0].dtype in COARSE_PIXELS
        else:
            coarse = all(isinstance(column, Numeric) and column.width > 1 and not column.exact for column in numbers)
        dtype = torch.float32 if coarse else torch.float64
        self.register_buffer("turns", turns(), persistent=False)
        self.turns: Tensor
        self.register_buffer("origins", origin_tensor(scaling.origins), persistent=False)
        self.origins: Tensor
        for name in ("fill", "center", "scale"):
            self.register_buffer(name, torch.tensor(getattr(scaling, name), dtype=dtype), persistent=False)
        self.fill: Tensor
        self.center: Tensor
        self.scale: Tensor

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Raw columns in order, categories as int64 codes (n, 1), to the network's inputs."""
        if self.layout == "raw":
            return inputs
        if self.layout == "image":
            return (((inputs[0].to(self.center.dtype) - self.center) * self.scale).to(torch.float32),)
        numeric, categorical = self._numeric(inputs), self._categorical(inputs)
        if self.layout == "tabular":
            return numeric, categorical
        hot = [
            torch.nn.functional.one_hot(categorical[:, i], len(column.values) + 1)[:, 1:].to(torch.float32)
            for i, column in enumerate(self.columns.of(Category))
        ]
        return (torch.cat([numeric, *hot], dim=1).to(self.dtype),)

    def _numeric(self, inputs: tuple[Tensor, ...]) -> Tensor:
        pairs = [(c, x) for c, x in zip(self.columns.columns, inputs, strict=True) if _is_number(c)]
        if not pairs:
            return torch.zeros((inputs[0].shape[0], 0), dtype=torch.float32, device=inputs[0].device)
        values = side_by_side(pairs, self.turns, self.origins)
        missing = ~(torch.abs(values) < torch.inf)
        scaled = (torch.where(missing, self.fill, values) - self.center) * self.scale
        if self.clip:
            scaled = scaled / torch.sqrt(1 + (scaled / self.clip) ** 2)
        scaled = scaled.to(torch.float32)
        if not self.indicators:
            return scaled
        return torch.cat([scaled, missing[:, self.indicators].to(torch.float32)], dim=1)

    def _categorical(self, inputs: tuple[Tensor, ...]) -> Tensor:
        found = [x for column, x in zip(self.columns.columns, inputs, strict=True) if isinstance(column, Category)]
        if not found:
            return torch.zeros((inputs[0].shape[0], 0), dtype=torch.int64, device=inputs[0].device)
        return torch.cat(found, dim=1) if len(found) > 1 else found[0]

    @property
    def numeric(self) -> int:
        """Float32 numbers that come out, indicators included."""
        return len(self.fill) + len(self.indicators)

    @property
    def names(self) -> list[str]:
        """A name for each number of the ``flat`` layout."""
        plain: list[str] = []
        for column in self.columns.columns:
            if isinstance(column, Numeric):
                plain += [column.name] if column.width == 1 else [f"{column.name}[{i}]" for i in range(column.width)]
            elif isinstance(column, Moment):
                plain += [
                    column.name,
                    *(f"{column.name} {f}({p})" for p in ("year", "week", "day") for f in ("sin", "cos")),
                ]
        hot = [f"{column.name}={value}" for column in self.columns.of(Category) for value in column.values]
        return plain + [f"{plain[i]} missing" for i in self.indicators] + hot


def image_shape(columns: Columns) -> tuple[int, ...] | None:
    """Shape of the only column if it is an array of two or three axes, such as an image."""
    only = columns.columns[0]
    if len(columns.columns) == 1 and isinstance(only, TensorColumn) and len(only.shape) in (2, 3):
        return only.shape
    return None
