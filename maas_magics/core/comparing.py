"""Versions of models side by side, from what is written down of them; no model is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maas_magics.api.backend import ModelStore
from maas_magics.api.errors import OptionError
from maas_magics.api.records import Comparison, ModelRecord
from maas_magics.core.data.frame import frame_of


def compare(refs: Sequence[str], models: ModelStore) -> Comparison:
    """Compare versions that a backend keeps.

    Parameters
    ----------
    refs : sequence of str
        ``NAME``, ``NAME:3``, ``NAME@alias`` or ``NAME@int8``; at least one.
    models : ModelStore

    Raises
    ------
    OptionError
        If none is named, or one is named twice.
    ModelNotFound
    """
    if not refs:
        raise OptionError("No model was named.", "%maas compare NAME OTHER:2")
    records = tuple(models.record(ref) for ref in refs)
    named = [record.ref for record in records]
    twice = next((ref for index, ref in enumerate(named) if ref in named[:index]), None)
    if twice is not None:
        raise OptionError(f"{twice} was named twice.", "Name each version once.")
    return Comparison(records=records, table=frame_of(_columns(records)))


def _columns(records: Sequence[ModelRecord]) -> dict[str, list[Any]]:
    metrics = dict.fromkeys(name for record in records for name in record.info.metrics)
    columns: dict[str, list[Any]] = {
        "model": [record.ref for record in records],
        "task": [record.info.task for record in records],
        "architecture": [record.info.architecture for record in records],
        "parameters": [record.info.parameters for record in records],
    }
    columns |= {f"val_{name}": [record.info.metrics.get(name) for record in records] for name in metrics}
    return columns | {
        "best_epoch": [record.best_epoch for record in records],
        "epochs": [record.epochs for record in records],
        "bytes": [record.bytes for record in records],
        "seconds": [record.seconds for record in records],
    }
