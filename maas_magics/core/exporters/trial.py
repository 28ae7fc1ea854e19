"""What an export is compared on: rows that were kept with a version, and how the model itself answers them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maas_magics.core.data.arrow import Array
from maas_magics.core.exporters.examples import ask, drawn, padded_inputs
from maas_magics.core.exporters.text.trial import in_torch, texts_of_trial
from maas_magics.core.model import Model
from maas_magics.core.store.sample import read_sample


@dataclass(frozen=True)
class Trial:
    """Rows, and answers to them.

    Attributes
    ----------
    hosted : list of ndarray
        Inputs of an exported file, first axis: rows.
    target : ndarray
        Encoded target of the rows.
    kept : bool
        Whether they are held-out rows; others say nothing about how good a model is.
    run : callable
        The model in torch, from such inputs to decoded answers.
    padded : list of int
        Inputs whose second axis may have any length.
    """

    hosted: list[Array]
    target: Array
    kept: bool
    run: Callable[[Sequence[Array]], Array]
    padded: list[int]

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.hosted[0])

    def answers(self, run: Callable[[Sequence[Array]], Array] | None = None) -> Array:
        """Decoded answers to all rows, of the model where nothing else is given."""
        return ask(run or self.run, self.hosted, self.padded)


def trial_of(model: Model, version: Path) -> Trial:
    """The rows that were kept with a version, or others where there are none.

    Parameters
    ----------
    model : Model
        The version in torch.
    version : Path
        Folder of the model's own files.
    """
    if model.manifest.answers.runtime == "text":
        blocks, sizes = texts_of_trial(model, version)
        net: Any = model.net
        return Trial([blocks], sizes, True, in_torch(net.decoder), [])
    table, target = read_sample(version)
    raw = model.processor.encode(table) if len(table) else drawn(model)
    hosted = model.processor.hosted_raw(raw)
    return Trial(hosted, target, bool(len(table)), model.run_hosted, padded_inputs(model.processor))
