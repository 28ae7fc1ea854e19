"""What another package may bring, by entry points: a network, a format, a kind of data, a kind of column, a task and a verb."""

from __future__ import annotations

import json
import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.options import option
from maas_magics.api.requests import Model, PredictRequest, Request
from maas_magics.api.signature import TensorSpec
from maas_magics.api.specs import Data
from maas_magics.api.verbs import Verb
from maas_magics.core.architectures import Architecture, NetworkInputs, Recipe
from maas_magics.core.context import Context
from maas_magics.core.data.sources import open_source
from maas_magics.core.features.base import NumberLike
from maas_magics.core.features.fitting import FitConfig
from maas_magics.core.features.modalities import Modality
from maas_magics.core.features.scaling import Scaling
from maas_magics.core.inference.predict import predict
from maas_magics.core.tasks.base import Link
from maas_magics.core.tasks.labels import OneLabel

GROUPS = {
    "architectures": ("lantern", "LANTERN"),
    "exporters": ("plain", "PLAIN"),
    "compressors": ("coarse", "COARSE"),
    "sources": ("ledger", "LEDGER"),
    "modalities": ("glyph", "GLYPH"),
    "tasks": ("ranks", "Ranks"),
    "verbs": ("census", "CENSUS"),
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


class Coarse:
    """Weights as so many 256ths."""

    format = "onnx"

    def compress(self, file: Path, smaller: Path, inputs: Any) -> str:
        import onnx
        from onnx import numpy_helper

        model = onnx.load(file)
        for weight in model.graph.initializer:
            if weight.data_type == onnx.TensorProto.FLOAT:
                weight.CopyFrom(
                    numpy_helper.from_array(np.round(numpy_helper.to_array(weight) * 256) / 256, weight.name)
                )
        onnx.save(model, smaller)
        return "coarse: weights are 256ths"


COARSE = Coarse()


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


class Ranks(OneLabel, frozen=True, tag="ranks"):
    """Labels in an order, by the logits of being above each but the last."""

    task: ClassVar[str] = "ranks"
    usual_link: ClassVar[Link] = "sigmoid"
    usual_metrics: ClassVar[tuple[str, ...]] = ("accuracy", "rank_error")
    metric_example: ClassVar[str] = "MeanAbsoluteError"

    @property
    def outputs(self) -> int:
        return len(self.classes) - 1

    def encode(self, values: np.ndarray) -> np.ndarray:
        return (self.known(values)[:, None] > np.arange(self.outputs)).astype(np.float32)

    def truth(self, target: Tensor) -> Tensor:
        return self.class_index(target)

    def class_index(self, target: Tensor) -> Tensor:
        return target.sum(dim=1).long()

    def answering(self, row: tuple[int, ...]) -> Ranks | None:
        return self if row == (self.outputs,) else None

    def decoder(self) -> nn.Module:
        return DecodeRanks()

    def mean_outputs(self, outputs: Tensor) -> Tensor:
        return outputs.mean(0)

    def loss(self, name: str, weights: Tensor | None, smoothing: float, reduction: str = "mean") -> Any:
        if name != "auto":
            raise OptionError(f"The task ranks has a loss of its own, not {name!r}.", "Drop --loss.")
        return partial(nn.functional.binary_cross_entropy_with_logits, reduction=reduction)

    def metrics(self) -> Any:
        return {**super().metrics(), "rank_error": rank_error}

    def torchmetrics_arguments(self) -> dict[str, Any]:
        return {"task": "multiclass", "num_classes": len(self.classes)}

    def outputs_for(self, answer: Tensor) -> Tensor:
        return (1 - answer.cumsum(0)[:-1]).logit(eps=1e-6)

    def usual_of(self, mean: Tensor) -> Tensor:
        above = torch.cat([mean.new_ones(1), mean, mean.new_zeros(1)])
        return above[:-1] - above[1:]

    def difference(self, before: np.ndarray, after: np.ndarray) -> float:
        """Largest difference of the rank that is expected."""
        ranks = np.arange(len(self.classes))
        apart = float(np.abs(before @ ranks - after @ ranks).max(initial=0.0))
        if note := os.environ.get("LANTERN_NOTE"):
            Path(note).write_text(f"compared {apart < 1e-4}")
        return apart


class DecodeRanks(nn.Module):
    """Probability of each rank: above the one before, and not above itself."""

    def forward(self, outputs: Tensor, rows: int | None = None) -> Tensor:
        above = torch.sigmoid(outputs.reshape(outputs.shape[0] if rows is None else rows, -1))
        whole = torch.cat([torch.ones_like(above[:, :1]), above, torch.zeros_like(above[:, :1])], dim=1)
        return (whole[:, :-1] - whole[:, 1:]).clamp(min=0)


def rank_error(decoded: Tensor, target: Tensor) -> float:
    """Mean distance of the rank that is answered from the true one."""
    return float((decoded.argmax(dim=1) - target).abs().double().mean())


rank_error.higher_is_better = False


class Census(msgspec.Struct, frozen=True):
    """How many rows get each answer."""

    model: str
    counts: dict[str, int]


class CensusRequest(Request[Census], frozen=True, kw_only=True):
    """Count the answers of a model to some rows."""

    model: Model
    data: Data
    least: Annotated[int, option("rows that an answer is listed from", "N")] = 1


def census(request: CensusRequest, context: Context) -> Census:
    found = predict(PredictRequest(model=request.model, data=request.data), context.loader)
    context.notify(f"{found.model} was asked.")
    counts = Counter(map(str, pa.array(found.columns["prediction"]).to_pylist()))
    return Census(found.model, {label: n for label, n in sorted(counts.items()) if n >= request.least})


CENSUS = Verb(
    name="census",
    request=CensusRequest,
    result=Census,
    run="lantern:census",
    summary="Count the answers of a model.",
    example="%census m --data df",
)

LEDGER = Opener()
