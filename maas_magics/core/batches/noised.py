"""Pictures with noise: what a network that draws pictures learns from, anew in each epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from maas_magics.core.batches.batches import Batch, Batches, InMemory, rows_at_once
from maas_magics.core.batches.prepare import Counts, Prepared
from maas_magics.core.features.noisy import Captioned


class Noised:
    """Captions and pictures, given out with noise.

    Parameters
    ----------
    rows : Captioned
    batch_size : int
        Rows of a step.
    """

    def __init__(self, rows: Captioned, batch_size: int) -> None:
        self._rows, self.batch_size = rows, batch_size
        self.rows = len(rows)
        self.steps = -(-self.rows // batch_size)

    def sized(self, batch_size: int) -> Noised:
        """The same rows in batches of another size."""
        return Noised(self._rows, batch_size)

    def epoch(self, generator: torch.Generator, start: int = 0) -> Iterator[Batch]:
        """Every row once, in an order drawn from ``generator``, with noise by the place in the epoch."""
        order = torch.randperm(self.rows, generator=generator)
        first = int(torch.randint(2**62, (), generator=generator))
        for place in range(start, self.steps):
            rows = order[place * self.batch_size : (place + 1) * self.batch_size]
            yield self._rows.noised(rows, first + place)

    def whole(self) -> Iterator[Batch]:
        """Every row once, in order, with the same noise each time."""
        for place, rows in enumerate(torch.split(torch.arange(self.rows), self.batch_size)):
            yield self._rows.noised(rows, place, dropped=0.0)


@dataclass(frozen=True)
class NoisedRows:
    """Rows of a training that draws pictures: as `maas_magics.core.batches.lazy.Lazy`."""

    train: Captioned

    why_one_process: ClassVar[str] = "Pictures with noise go to one process."
    why_in_order: ClassVar[str] = "Pictures with noise come in an order of their own."

    @contextmanager
    def written(
        self, prepared: Prepared, folder: Path, batch_size: int, device: torch.device, counting: Counts
    ) -> Iterator[tuple[Batches, Batches | None]]:
        """Batches of training and validation rows, for as long as the block lasts."""
        held = None
        if prepared.validation is not None:
            inputs = tuple(x.to(device) for x in prepared.validation[0])
            held = InMemory(inputs, prepared.validation[1].to(device), batch_size, measure=rows_at_once(inputs))
        yield Noised(self.train.to(device), batch_size), held
