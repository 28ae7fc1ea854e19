"""Which networks are tried on some rows where nobody names one, the cheapest first."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import pyarrow as pa

from maas_magics.api.errors import OptionError
from maas_magics.api.specs import DataSpec, Specs
from maas_magics.core.architectures import Architecture, architectures
from maas_magics.core.data.masked import holds_masks
from maas_magics.core.data.sources import Rereadable, is_files, open_source
from maas_magics.core.data.tagged import is_lists_of_text
from maas_magics.core.data.target import target_names
from maas_magics.core.features.declared import declared
from maas_magics.core.features.modalities import modality_of
from maas_magics.core.features.processor import Processor
from maas_magics.core.features.profile import image_like
from maas_magics.core.tasks.base import Task
from maas_magics.core.training.row_checks import check_learns

LOOKED_AT = 1_000
"""Rows of a file that are looked at."""

CONVOLVED = 8
"""Least height and width of arrays that are taken for pictures."""


def candidates_of(data: DataSpec) -> tuple[str, ...]:
    """Names of the architectures that take part.

    Parameters
    ----------
    data : DataSpec
        The rows; those of a file are looked at where they begin.

    Raises
    ------
    DataError
        If they cannot be read.
    """
    schema, masked = _schema(data)
    kinds = [modality_of(field) for field in schema]
    if masked:
        kind = "pixels"
    elif any(is_lists_of_text(field.type) for field in schema):
        kind = "words"
    elif any(kinds):
        kind = kinds[0] if len(kinds) == 1 else "mixed"
    else:
        kind = "pictures" if image_like(schema, CONVOLVED) else "table"
    return lined_up(kind) or lined_up("mixed")


def kind_of(processor: Processor, answers: Task, chosen: str) -> str:
    """Kind of rows, as `Architecture.suits` names it; empty where there is no choice.

    Parameters
    ----------
    processor : Processor
        Their columns.
    answers : Task
        What is learnt.
    chosen : str
        The architecture that they were laid out for.
    """
    if answers.of_pairs:
        return ""
    if answers.of_words:
        return "words"
    if architectures.get(chosen).of_pixels:
        return "pixels"
    if processor.layout != "ports":
        return {"image": "pictures", "tabular": "table"}.get(processor.layout, "")
    port = processor.features[0].port
    return "mixed" if port is None or len(processor.features) > 1 else port.kind


def lined_up(kind: str) -> tuple[str, ...]:
    """Names of the architectures that race over rows of a kind, the cheapest first."""
    each: dict[str, Architecture] = {}
    for name in architectures:
        with suppress(ImportError):  # of another package, which lacks something
            each[name] = architectures.get(name)
    found = [name for name, one in each.items() if kind in one.suits]
    found = [name for name in found if not each[name].requires or find_spec(each[name].requires) is not None]
    return tuple(sorted(found, key=lambda name: each[name].cost))


def why_not(name: str, specs: Specs) -> str:
    """Why a network cannot take part, since it does not take an option; empty where it can.

    Parameters
    ----------
    name : str
        Of an architecture.
    specs : Specs
        Of the request.
    """
    if not architectures.get(name).learns:
        return ""
    size = 1 if specs.budget.batch_size is None else 0
    try:
        check_learns(specs.having("model", model=name), size, 1, in_memory=not specs.data.stream)
    except OptionError as error:
        return error.message
    return ""


def _schema(data: DataSpec) -> tuple[pa.Schema, bool]:
    """Fields of the features, with the modality of those that are by themselves, and whether the target is of masks."""
    features: Any = data.data
    target = data.target
    if target is None and isinstance(features, tuple) and len(features) == 2:
        features = features[0]
    source = open_source(features, data.csv if is_files(features) else None)
    if isinstance(source, Rereadable):
        table = next(iter(source.chunks(LOOKED_AT)), pa.table({}))
    else:
        table = source.table().slice(0, LOOKED_AT)
    names = (*target_names(target, table.column_names, -1), *data.drop, *([data.weights] if data.weights else []))
    masked = getattr(target, "ndim", 1) == 3 or any(
        holds_masks(table.column(name))
        for name in target_names(target, table.column_names, -1)
        if name in table.column_names
    )
    left = [name for name in table.column_names if name not in names]
    if data.features:
        left = [name for name in left if name in data.features]
    table = table.select(left)
    kinds = {name: kind for name, kind in data.feature.items() if name in left}
    return declared(table, kinds, lambda text: None).schema, masked
