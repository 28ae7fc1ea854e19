"""Labels: what kind they are of, so that each comes back as it came."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from maas_magics.core.data.arrow import Array

Label = bool | int | float | str
"""A label as JSON holds it."""

TEXT, DECIMAL = "str", "decimal"
"""Kinds of labels beside the names of numpy's types."""


def is_decimal(values: Array) -> bool:
    """Whether these are Python's decimals."""
    return values.dtype == object and len(values) > 0 and isinstance(values.flat[0], Decimal)


def is_text(values: Array) -> bool:
    """Whether these are texts."""
    return values.dtype.kind in "OUS" and not is_decimal(values)


def kind_of(values: Array) -> str:
    """Kind of some labels: the name of their numpy type, `TEXT` or `DECIMAL`."""
    return DECIMAL if is_decimal(values) else TEXT if is_text(values) else values.dtype.name


def kind_of_holding(values: Array) -> str:
    """Kind of zeros and ones that say of several labels whether each holds: numbers, or empty for truth values."""
    return "" if values.dtype.kind in "bO" else values.dtype.name


def plain(label: Any, kind: str) -> Label:
    """A label as JSON holds it; `typed` is the way back."""
    return label if kind not in (TEXT, DECIMAL) else str(label)


def key(label: Any, kind: str) -> Any:
    """What a label has in common with those that are equal to it, though of another type: 0.1 is the float32 0.1."""
    if kind == TEXT:
        return str(label)
    if kind == DECIMAL:
        try:
            return Decimal(str(label))
        except InvalidOperation:
            return label
    if kind.startswith("float") and isinstance(label, (int, float, Decimal)):
        return float(np.dtype(kind).type(float(label)))
    return label


def names_of(labels: Array) -> tuple[str, ...]:
    """Labels as text; whole numbers that came as floats, as they do beside missing ones, without their ``.0``."""
    if labels.dtype.kind == "f" and (labels == np.floor(labels)).all() and (np.abs(labels) < 1e15).all():
        labels = labels.astype(np.int64)
    return tuple(str(label) for label in labels)


def typed(labels: Sequence[Label], kind: str) -> Array:
    """Labels as they came, as an array that a class index picks from; texts and decimals as objects.

    A model of before kinds were kept has none: its fractions are float32, as its exports say.
    """
    if kind in (TEXT, DECIMAL):
        found = np.empty(len(labels), dtype=object)
        found[:] = [Decimal(str(label)) if kind == DECIMAL else str(label) for label in labels]
        return found
    if kind:
        return np.array(labels, dtype=kind)
    if all(isinstance(label, bool) for label in labels):
        return np.array(labels, dtype=bool)
    if all(isinstance(label, int) for label in labels):
        return np.array(labels, dtype=np.int64)
    if all(isinstance(label, (int, float)) for label in labels):
        return np.array(labels, dtype=np.float32)
    return typed(labels, TEXT)
