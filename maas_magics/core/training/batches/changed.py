"""Rows that are prepared, as a module turns out to take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from maas_magics.core.data.arrow import tensors as column_tensors
from maas_magics.core.data.columns import Columns
from maas_magics.core.data.columns import Tensor as TensorColumn
from maas_magics.core.data.scaling import Scaling
from maas_magics.core.data.sources.arrays import column
from maas_magics.core.data.transform import Transform
from maas_magics.core.losses.check import recoded
from maas_magics.core.losses.heads import recoded_heads
from maas_magics.core.store.sample import TARGET
from maas_magics.core.tasks.base import Task
from maas_magics.core.tasks.heads import Heads
from maas_magics.core.training.batches.prepare import Prepared


def with_answers(prepared: Prepared, answers: Task) -> Prepared:
    """The same rows with the target as ``answers`` has it: of two labels as one label of several, or among more."""
    before, train, held, sample = prepared.answers, prepared.train, prepared.validation, prepared.sample
    if answers.same_encoding(before):
        return replace(prepared, answers=answers)
    place = sample.column_names.index(TARGET)
    kept = sample.column(place)
    values = column_tensors(kept) if isinstance(kept.type, pa.FixedShapeTensorType) else np.asarray(kept.to_numpy())
    index = _recoded(before, answers, torch.from_numpy(values.copy())).numpy()
    return replace(
        prepared,
        answers=answers,
        train=(train[0], _recoded(before, answers, train[1])),
        validation=None if held is None else (held[0], _recoded(before, answers, held[1])),
        sample=sample.set_column(place, TARGET, column(index, TARGET)),
    )


def _recoded(before: Task, after: Task, target: Tensor) -> Tensor:
    if isinstance(before, Heads) and isinstance(after, Heads):
        return recoded_heads(before, after, target)
    return recoded(before, after, target)


def in_order(prepared: Prepared, names: Sequence[str]) -> Prepared:
    """The same rows with the arrays in another order."""
    columns = prepared.preprocess.columns
    places = [[feature.name for feature in columns.columns].index(name) for name in names]
    if places == list(range(len(places))):
        return prepared
    other = Columns(tuple(columns.columns[place] for place in places))

    def moved(rows: tuple[tuple[Tensor, ...], Tensor]) -> tuple[tuple[Tensor, ...], Tensor]:
        return tuple(rows[0][place] for place in places), rows[1]

    return replace(
        _with_columns(prepared, other),
        train=moved(prepared.train),
        validation=None if prepared.validation is None else moved(prepared.validation),
    )


def as_given(prepared: Prepared, dtype: torch.dtype | None, line: bool) -> Prepared:
    """The same rows with floats of another kind, and with one number a row as (n,) where they are a ``line``."""
    layout, scaling = prepared.preprocess.layout, prepared.preprocess.scaling

    def changed(x: Tensor) -> Tensor:
        x = x.reshape(-1) if line else x
        return x if dtype is None or not x.is_floating_point() else x.to(dtype)

    def all_changed(rows: tuple[tuple[Tensor, ...], Tensor]) -> tuple[tuple[Tensor, ...], Tensor]:
        return tuple(map(changed, rows[0])), rows[1]

    word = str(dtype).removeprefix("torch.")
    if layout == "flat" and dtype is not None:
        scaling = msgspec.structs.replace(scaling, dtype=word)
    columns = tuple(
        msgspec.structs.replace(
            feature,
            shape=() if line else feature.shape,
            dtype=feature.dtype if dtype is None or not feature.dtype.startswith("float") else word,
        )
        if isinstance(feature, TensorColumn)
        else feature
        for feature in prepared.preprocess.columns.columns
    )
    return replace(
        _with_columns(prepared, Columns(columns), scaling),
        train=all_changed(prepared.train),
        validation=None if prepared.validation is None else all_changed(prepared.validation),
    )


def _with_columns(prepared: Prepared, columns: Columns, scaling: Scaling | None = None) -> Prepared:
    preprocess = msgspec.structs.replace(
        prepared.preprocess, columns=columns, scaling=scaling or prepared.preprocess.scaling
    )
    return replace(prepared, preprocess=preprocess, transform=Transform(columns, preprocess.layout, preprocess.scaling))
