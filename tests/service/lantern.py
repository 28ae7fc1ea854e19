"""What another package may bring, by entry points: a network, a format, a kind of data and a kind of column."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from maas_magics.api.errors import DataError
from maas_magics.api.signature import TensorSpec
from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe
from maas_magics.core.data.sources import open_source
from maas_magics.core.features.base import FitConfig, NumberLike
from maas_magics.core.features.modalities import Modality
from maas_magics.core.features.scaling import Scaling

GROUPS = {
    "architectures": ("lantern", "LANTERN"),
    "exporters": ("plain", "PLAIN"),
    "sources": ("ledger", "LEDGER"),
    "modalities": ("glyph", "GLYPH"),
}


class Lantern(nn.Module):
    """A hidden layer of cosines."""

    def __init__(self, features: NetworkInputs, outputs: int, *, task: Any, width: int = 8) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(features.numeric, width), nn.Linear(width, outputs)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        return self.out(torch.cos(self.hidden(numeric)))


LANTERN = Architecture("tabular", Lantern, lambda rows, task: Recipe(lr=0.05, epochs=30, batch_size=16))


class Plain:
    """Weights as JSON."""

    file = "weights.json"
    isolated = True

    def export(self, model: Any, file: Path) -> Any:
        file.write_text(json.dumps({name: value.tolist() for name, value in model.net.state_dict().items()}))
        return model.manifest.info.signature

    def load(self, file: Path, version: Path, model: Any) -> Any:
        from maas_magics.core.model import load_model

        found = model or load_model(version)
        weights = {name: torch.tensor(value) for name, value in json.loads(file.read_text()).items()}
        found.net.load_state_dict(weights)
        return found.run


PLAIN = Plain()


class Ledger:
    """Rows that somebody wrote into a book."""

    def __init__(self, rows: list[tuple[float, float, str]]) -> None:
        self.rows = rows


class Opener:
    def accepts(self, data: Any) -> bool:
        return isinstance(data, Ledger)

    def open(self, data: Any) -> Any:
        a, b, y = zip(*data.rows, strict=True)
        return open_source(pa.table({"a": a, "b": b, "y": y}))


class Glyph(NumberLike, frozen=True, kw_only=True, tag="glyph"):
    """Pictures of ``#`` and ``.``, a line of them after another, which are dear to read."""

    size: int

    lazy: ClassVar[bool] = True

    @property
    def exact(self) -> bool:
        return False

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self.name, "FP32", (-1, self.size), "1 where there is ink")

    @property
    def names(self) -> list[str]:
        return [f"{self.name}[{place}]" for place in range(self.size)]

    def encode(self, values: pa.ChunkedArray) -> np.ndarray:
        if note := os.environ.get("LANTERN_NOTE"):
            with open(note, "a") as file:
                file.write(f"{os.getpid()} {len(values)}\n")
        rows = [[char == "#" for char in text.replace("/", "")] for text in values.to_pylist()]
        if any(len(row) != self.size for row in rows):
            raise DataError(f"Column {self.name!r} holds pictures of other sizes.", f"Give {self.size} cells each.")
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.size)

    def drawn(self, rows: int, random: np.random.Generator) -> np.ndarray:
        return random.integers(0, 2, (rows, self.size)).astype(np.float32)


class GlyphProfile:
    def __init__(self, field: pa.Field, fit: FitConfig) -> None:
        self.name, self.fit, self.size = field.name, fit, 0

    @classmethod
    def accepts(cls, field: pa.Field, fit: FitConfig) -> bool:
        return field.name.endswith("glyph")

    def add(self, values: pa.ChunkedArray) -> None:
        self.size = self.size or len(values[0].as_py().replace("/", ""))

    def merge(self, other: GlyphProfile) -> None:
        self.size = self.size or other.size

    def finish(self, sample: pa.ChunkedArray, notify: Any) -> Glyph:
        plain = (0.0,) * self.size
        return Glyph(self.name, size=self.size, scaling=Scaling(plain, plain, (1.0,) * self.size))


GLYPH = Modality(Glyph, GlyphProfile)

LEDGER = Opener()
