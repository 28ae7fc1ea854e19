"""What is written down of a version of a model, and several of them side by side."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from maas_magics.api.results import ModelInfo, always
from maas_magics.api.tables import format_number, html_table, size, text_table

PLANNED = ("task", "architecture", "device")
"""Parts of a plan that a comparison shows elsewhere, or not at all."""

LOWER = {
    "mse", "rmse", "mae", "mape", "smape", "rmsle", "brier", "ece", "nll", "perplexity", "bits", "hamming", "wer",
    "cer",
}  # fmt: skip
"""Words in the names of metrics of which smaller values are better."""


def lower_is_better(name: str) -> bool:
    """Whether smaller values of a metric are better; a name without a hint is taken for a score.

    Parameters
    ----------
    name : str
        Name of the metric, such as ``"val_loss"`` or ``"rmse"``.
    """
    words = name.lower()
    return "loss" in words or "error" in words or not LOWER.isdisjoint(words.split("_"))


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All that is written down of a version.

    Attributes
    ----------
    info : ModelInfo
    plan : dict of str to str
        How it was trained: optimizer, batch size, device ….
    params : dict of str to Any
        Hyperparameters of its architecture that were given.
    history : dict of str to list of float
        As in `TrainedModel`; None stands for NaN and infinite values.
    best_epoch : int
    seconds : float
        Wall time of the training.
    bytes : int
        Size of all its files, exports included; of a variant that of its own.
    variant : str
        Name of an export that answers in its place, whose metrics then are those of the rows kept with the version;
        empty for the version itself.
    """

    info: ModelInfo
    plan: dict[str, str] = {}
    params: dict[str, Any] = {}
    history: dict[str, list[float | None]] = {}
    best_epoch: int = 0
    seconds: float = 0.0
    bytes: int = 0
    variant: str = ""

    @property
    def ref(self) -> str:
        """``NAME:VERSION``, or ``NAME:VERSION@variant``."""
        return f"{self.info.ref}@{self.variant}" if self.variant else self.info.ref

    @property
    def epochs(self) -> int:
        """Epochs that ran."""
        return len(self.history.get("loss", ()))


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Versions of models side by side.

    Attributes
    ----------
    records : tuple of ModelRecord
        In the order they were named.
    table : Any
        One row for each model as a pandas DataFrame, or an Arrow table where pandas is not installed.
    """

    records: tuple[ModelRecord, ...]
    table: Any

    def cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Head and rows of the table for display: one column for each model."""
        infos = [record.info for record in self.records]
        names = dict.fromkeys(name for info in infos for name in info.metrics)
        nan = float("nan")
        first = next((name for name in ("accuracy", "rmse") if any(name in info.baseline for info in infos)), "")
        plans = dict.fromkeys(name for record in self.records for name in record.plan if name not in PLANNED)
        rows = [
            ("task", *(info.task for info in infos)),
            ("architecture", *(info.architecture for info in infos)),
            ("parameters", *(f"{info.parameters:,}" for info in infos)),
            *(
                (f"validation {name}", *(format_number(info.metrics.get(name, nan)) for info in infos))
                for name in names
            ),
            *(
                [
                    (
                        f"{first}, {always({first: 0.0})}",
                        *(format_number(info.baseline.get(first, nan)) for info in infos),
                    )
                ]
                if first
                else []
            ),
            ("best epoch", *(f"{record.best_epoch} of {record.epochs}" for record in self.records)),
            *((name, *(record.plan.get(name, "–") for record in self.records)) for name in plans),
            ("size", *(size(record.bytes) for record in self.records)),
            ("seconds", *(format_number(record.seconds) for record in self.records)),
        ]
        return ("", *(record.ref for record in self.records)), rows

    def best(self) -> dict[int, set[int]]:
        """By row of `cells`, the columns with the best validation metric; none where all are equal."""
        infos = [record.info for record in self.records]
        found: dict[int, set[int]] = {}
        for row, cells in enumerate(self.cells()[1]):
            name = cells[0].removeprefix("validation ")
            values = [info.metrics.get(name, math.nan) for info in infos]
            sound = [value for value in values if not math.isnan(value)]
            # Values that look equal as they are written count as equal.
            if name == cells[0] or len(sound) < 2 or len(set(cells[1:])) == 1:
                continue
            best = format_number(min(sound) if lower_is_better(name) else max(sound))
            found[row] = {column for column, cell in enumerate(cells) if column and cell == best}
        return found

    def __repr__(self) -> str:
        head, rows = self.cells()
        best = self.best()
        marked = [
            tuple(f"{cell} ★" if column in best.get(row, ()) else cell for column, cell in enumerate(cells))
            for row, cells in enumerate(rows)
        ]
        return text_table(marked, head)

    def _repr_html_(self) -> str:
        head, rows = self.cells()
        strong = {(row, column) for row, columns in self.best().items() for column in columns}
        marked = [
            tuple(f"★ {cell}" if (row, column) in strong else cell for column, cell in enumerate(cells))
            for row, cells in enumerate(rows)
        ]
        same = [row for row, cells in enumerate(rows) if len(cells) > 2 and len(set(cells[1:])) == 1]
        return html_table(marked, head=head, ends=True, strong=strong, faint=same)
