"""Preprocessing as a torch module: the same code prepares the training rows and stands in every export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
import torch
from torch import Tensor, nn

from maas_magics.core.data.arrow import Array
from maas_magics.core.features.base import Feature
from maas_magics.core.features.processor import Processor
from maas_magics.core.features.tensors import as_tensor


def entered(processor: Processor, raw: Sequence[Array]) -> tuple[Tensor, ...]:
    """Raw arrays as the graph takes them: text becomes codes."""
    pairs = zip(processor.features, raw, strict=True)
    return tuple(as_tensor(feature.enter(values)) for feature, values in pairs)


def entered_hosted(processor: Processor, arrays: Sequence[Array]) -> tuple[Tensor, ...]:
    """Arrays that `Processor.hosted_raw` made, as the graph takes them."""
    pairs = zip(processor.features, arrays, strict=True)
    return tuple(as_tensor(values if feature.hosted else feature.enter(values)) for feature, values in pairs)


Keeps = Callable[[Sequence[int], Callable[[list[int]], Array]], Array]
"""From the places of some rows, and what decodes some of these, by places among them, to what enters the graph."""


def entered_ready(
    processor: Processor, ready: pa.Table, rows: Sequence[int] | None = None, keeps: Mapping[str, Keeps] | None = None
) -> tuple[Tensor, ...]:
    """What enters the graph, of rows of what `Processor.ready` kept.

    Parameters
    ----------
    processor : Processor
        Of the columns.
    ready : pyarrow.Table
        What was kept.
    rows : sequence of int, optional
        Places of the rows; all in order when None.
    keeps : mapping of str to Keeps, optional
        By column, what keeps what was decoded.
    """
    keeps, taken = keeps or {}, None if rows is None else pa.array(rows, pa.int64())

    def entered_of(feature: Feature) -> Array:
        values = ready.column(feature.name)
        keep = keeps.get(feature.name)
        if keep is None or rows is None:
            return feature.entered(values if taken is None else values.take(taken))
        return keep(rows, lambda at: feature.entered(values.take(pa.array([rows[place] for place in at], pa.int64()))))

    return tuple(as_tensor(entered_of(feature)) for feature in processor.features)


class Preprocessing(nn.Module):
    """From the raw columns to what the network takes.

    Parameters
    ----------
    processor : Processor
        The fitted columns.
    """

    def __init__(self, processor: Processor) -> None:
        super().__init__()
        self.layout = processor.layout
        self.clip = processor.clip
        self.dtype = getattr(torch, processor.dtype)
        self.joins = [feature.joins for feature in processor.features]
        self.parts = nn.ModuleDict()
        """What each column goes through first, by its place, where it goes through anything."""
        for place, feature in enumerate(processor.features):
            part = None if self.alone and feature.joins else feature.module()
            if part is not None:
                self.parts[str(place)] = part
        numbers = processor.numbers if not self.alone else []
        self.indicators = processor.indicators if numbers else []
        self.known = [len(feature.words) for feature in processor.codes]
        dtype = torch.float64 if any(feature.exact for feature in numbers) else torch.float32
        for name in ("fill", "center", "scale"):
            figures = [figure for feature in numbers for figure in getattr(feature.scaling, name)]
            self.register_buffer(name, torch.tensor(figures, dtype=dtype), persistent=False)
        self.fill: Tensor
        self.center: Tensor
        self.scale: Tensor

    @property
    def alone(self) -> bool:
        """Whether the network gets each column by itself."""
        return self.layout in ("raw", "image")

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Raw columns in order, categories as int64 codes (n, 1), to the network's inputs."""
        values = [self.parts[str(i)](x) if str(i) in self.parts else x for i, x in enumerate(inputs)]
        if self.alone:
            return tuple(values)
        pairs = list(zip(self.joins, values, strict=True))
        rows, device = inputs[0].shape[0], inputs[0].device
        numeric = self._numeric([x for joins, x in pairs if joins == "numbers"], rows, device)
        codes = [x for joins, x in pairs if joins == "codes"]
        categorical = _beside(codes) if codes else torch.zeros((rows, 0), dtype=torch.int64, device=device)
        if self.layout == "tabular":
            return numeric, categorical
        if self.layout == "ports":
            return numeric, categorical, *(x for joins, x in pairs if not joins)
        hot = [
            torch.nn.functional.one_hot(categorical[:, i], known + 1)[:, 1:].to(torch.float32)
            for i, known in enumerate(self.known)
        ]
        return (torch.cat([numeric, *hot], dim=1).to(self.dtype),)

    def _numeric(self, parts: list[Tensor], rows: int, device: torch.device) -> Tensor:
        """Numbers filled and scaled, and indicators of missing ones, float32 (n, p).

        Scaled numbers are squeezed by z / √(1 + (z / clip)²), which is z itself but for far outliers: the smooth
        clipping of Holzmüller et al. (2024), "Better by default", with a wider range, since long tails carry
        information.
        """
        if not parts:
            return torch.zeros((rows, 0), dtype=torch.float32, device=device)
        if len({part.dtype for part in parts}) > 1:
            parts = [part.to(torch.float64) for part in parts]
        values = _beside(parts)
        missing = ~(torch.abs(values) < torch.inf)
        scaled = (torch.where(missing, self.fill, values) - self.center) * self.scale
        if self.clip:
            scaled = scaled / torch.sqrt(1 + (scaled / self.clip) ** 2)
        scaled = scaled.to(torch.float32)
        if not self.indicators:
            return scaled
        return torch.cat([scaled, missing[:, self.indicators].to(torch.float32)], dim=1)


def _beside(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
