"""Warnings about columns that tell a target by themselves, on the rows that train and those that are held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from maas_magics.core.batches.rows import Rows
from maas_magics.core.data.leaks import leak, leaks
from maas_magics.core.features.processor import Processor


def leaking(processor: Processor, names: Sequence[str], train: Rows, held: Rows | None) -> tuple[str, ...]:
    """Warnings about columns each of which alone tells a target of every row."""
    tables, targets = [train.table], [train.target]
    if held is not None and set(processor.names) <= set(held.table.column_names):
        tables.append(held.table)
        targets.append(held.target)
    try:
        table = pa.concat_tables([one.select(processor.names) for one in tables], promote_options="default")
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # a column of the other rows that is of another type
        table, targets = tables[0].select(processor.names), targets[:1]
    heads = train.target.dtype.names or ()
    columns = {name: [one[name] for one in targets] for name in heads} or {", ".join(names): targets}
    found = {name: leaks(table, np.concatenate(each)) for name, each in columns.items()}
    return tuple(leak(columns, name) for name, columns in found.items() if columns)
