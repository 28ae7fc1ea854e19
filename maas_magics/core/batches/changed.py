"""Rows that are prepared, as a module turns out to take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from maas_magics.core.batches.prepare import Prepared
from maas_magics.core.data.arrow import tensors as column_tensors
from maas_magics.core.data.sources.arrays import column
from maas_magics.core.features.base import Feature
from maas_magics.core.features.module import Preprocessing
from maas_magics.core.store.sample import TARGET
from maas_magics.core.tasks.base import Task


def with_answers(prepared: Prepared, answers: Task) -> Prepared:
    """The same rows with the target as ``answers`` has it: of two labels as one label of several, or among more."""
    before, train, held, sample = prepared.answers, prepared.train, prepared.validation, prepared.sample
    if answers.same_encoding(before):
        return replace(prepared, answers=answers)
    place = sample.column_names.index(TARGET)
    kept = sample.column(place)
    values = column_tensors(kept) if isinstance(kept.type, pa.FixedShapeTensorType) else np.asarray(kept.to_numpy())
    index = before.recoded(torch.from_numpy(values.copy()), answers).numpy()
    return replace(
        prepared,
        answers=answers,
        train=(train[0], before.recoded(train[1], answers)),
        validation=None if held is None else (held[0], before.recoded(held[1], answers)),
        sample=sample.set_column(place, TARGET, column(index, TARGET)),
    )


def in_order(prepared: Prepared, names: Sequence[str]) -> Prepared:
    """The same rows with the arrays in another order."""
    features = prepared.processor.features
    places = [prepared.processor.names.index(name) for name in names]
    if places == list(range(len(places))):
        return prepared

    def moved(rows: tuple[tuple[Tensor, ...], Tensor]) -> tuple[tuple[Tensor, ...], Tensor]:
        return tuple(rows[0][place] for place in places), rows[1]

    return replace(
        _with(prepared, [features[place] for place in places]),
        train=moved(prepared.train),
        validation=None if prepared.validation is None else moved(prepared.validation),
    )


def as_given(prepared: Prepared, dtype: torch.dtype | None, line: bool) -> Prepared:
    """The same rows with floats of another kind, and with one number a row as (n,) where they are a ``line``."""

    def changed(x: Tensor) -> Tensor:
        x = x.reshape(-1) if line else x
        return x if dtype is None or not x.is_floating_point() else x.to(dtype)

    def all_changed(rows: tuple[tuple[Tensor, ...], Tensor]) -> tuple[tuple[Tensor, ...], Tensor]:
        return tuple(map(changed, rows[0])), rows[1]

    word = "" if dtype is None else str(dtype).removeprefix("torch.")
    features = [feature.having(word, line) for feature in prepared.processor.features]
    flat = prepared.processor.layout == "flat"
    return replace(
        _with(prepared, features, word if flat else ""),
        train=all_changed(prepared.train),
        validation=None if prepared.validation is None else all_changed(prepared.validation),
    )


def _with(prepared: Prepared, features: Sequence[Feature], dtype: str = "") -> Prepared:
    before = prepared.processor
    processor = msgspec.structs.replace(before, features=tuple(features), dtype=dtype or before.dtype)
    return replace(prepared, processor=processor, transform=Preprocessing(processor))
