"""What an export is compared on: rows that were kept with a version, and how the model itself answers them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maas_magics.core.data.arrow import Array
from maas_magics.core.exporters.examples import ask, drawn, padded_inputs
from maas_magics.core.exporters.text.trial import in_torch, texts_of_trial
from maas_magics.core.graph_model import GraphModel
from maas_magics.core.model import Model
from maas_magics.core.store.sample import read_sample

KEPT_BYTES = 16 * 2**20
"""Bytes of answers that a model keeps at most."""


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
    model : Model or None
        The model in torch, where these are all rows that were kept with it: it keeps what it answers to them.
    """

    hosted: list[Array]
    target: Array
    kept: bool
    run: Callable[[Sequence[Array]], Array]
    padded: list[int]
    model: Model | None = None

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.hosted[0])

    def answers(self, run: Callable[[Sequence[Array]], Array] | None = None) -> Array:
        """Decoded answers to all rows, of the model where nothing else is given."""
        if run is not None or self.model is None:
            return ask(run or self.run, self.hosted, self.padded)
        mark, known = self.model.mark(), self.model.answered
        if known is not None and known[0] == mark:
            return known[1]
        found = ask(self.run, self.hosted, self.padded)
        if found.nbytes <= KEPT_BYTES:
            self.model.answered = mark, found
        return found


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
    kept = None if isinstance(model, GraphModel) else model
    return Trial(hosted, target, bool(len(table)), model.run_hosted, padded_inputs(model.processor), kept)
