"""What another package may bring, by entry points: a network, a format and a kind of data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from maas_magics.core.architectures import Architecture, Features, Recipe
from maas_magics.core.data.sources import open_source

GROUPS = {"architectures": ("lantern", "LANTERN"), "exporters": ("plain", "PLAIN"), "sources": ("ledger", "LEDGER")}


class Lantern(nn.Module):
    """A hidden layer of cosines."""

    def __init__(self, features: Features, outputs: int, *, task: Any, width: int = 8) -> None:
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


LEDGER = Opener()
