"""Pairs of values of two columns: as rows of one column, which one network reads, two for each pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.specs import Specs
from maas_magics.core.batches.layout import by_ports
from maas_magics.core.batches.loaders import is_loader
from maas_magics.core.batches.refused import refuse_options
from maas_magics.core.batches.rows import Rows
from maas_magics.core.data.arrow import as_text, is_text
from maas_magics.core.data.interleave import interleaved
from maas_magics.core.features.declared import declared, has_ports
from maas_magics.core.tasks import tasks

TEXT = "text"
"""The modality of pairs that no other is recognised of."""


def of_pairs(specs: Specs) -> bool:
    """Whether a training is of pairs."""
    named = specs.task.task
    return bool(specs.data.pairs) or (isinstance(named, str) and named in tasks and tasks.get(named).of_pairs)


def with_pairs(specs: Specs) -> Specs:
    """The same, where two columns are named as pairs: the first as the only feature, the second as the target.

    Raises
    ------
    OptionError
        If a task of pairs has none, or something else is requested that is not for pairs.
    """
    if not of_pairs(specs):
        return specs
    data, named = specs.data, specs.task.task
    usual = next(name for name in tasks if tasks.get(name).of_pairs)
    if named is not None and not (isinstance(named, str) and tasks.get(named).of_pairs):
        raise OptionError(f"Pairs are learnt by the task {usual}, not {named}.", f"--task {usual}")
    if len(data.pairs) == 1 and data.pairs[0].count(",") == 1:  # as a line has them
        specs = specs.having("data", pairs=tuple(part.strip() for part in data.pairs[0].split(",")))
        data = specs.data
    if len(set(data.pairs)) != 2 or len(data.pairs) != 2:
        given = f"{len(data.pairs)} columns were" if len(data.pairs) != 1 else f"{data.pairs[0]!r} alone was"
        raise OptionError(
            f"The task {usual} learns from pairs of two columns; {given} given.", "--pairs question,answer"
        )
    asked = {
        "--target": data.target is not None,
        "--features": bool(data.features),
        "--weights": data.weights is not None,
        "--inputs": bool(data.inputs),
        "--stream": bool(data.stream),
        "--balance": data.balance,
    }
    refuse_options(asked, "is not for pairs: each is two columns, and all count alike.")
    model = specs.model.model
    if is_loader(data.data) or not by_ports(model.partition(":")[0] if isinstance(model, str) else model):
        raise OptionError(
            "Pairs are columns of a table, which a network over texts, pictures or sounds reads.",
            "--model auto, textcnn, transformer, or hf:FOLDER.",
        )
    first, second = data.pairs
    return specs.having("task", task=usual).having("data", features=(first,), target=second)


def paired(rows: Rows, first: str, second: str, notify: Callable[[str], None]) -> Rows:
    """Rows of one column named as the first: the two values of a pair one after the other.

    Parameters
    ----------
    rows : Rows
        The first value among the features, n rows, the second as the target.
    first, second : str
        Names of the columns.
    notify : callable
        Gets a sentence about pairs that are left out.

    Returns
    -------
    Rows
        Of 2n rows at most; the target, int64 (2n, 2), is the number of each value, alike for values that are, and the
        number of its pair.

    Raises
    ------
    DataError
        If they are not texts or paths, or none is left.
    """
    one = rows.table.column(first)
    other = pa.chunked_array([pa.array(rows.target.tolist())])
    for name, values in ((first, one), (second, other)):
        if not is_text(values.type):
            raise DataError(f"The column {name!r} holds {values.type}; texts, or paths of files, were expected.", "")
    values, numbers, left = interleaved(as_text(one), as_text(other))
    if left:
        notify(f"{left:,} of {len(rows):,} pairs lack a value and are left out.")
    if not len(numbers):
        raise DataError(f"No row has both {first!r} and {second!r}.", "Give rows of two values.")
    return Rows(pa.table({first: values}), numbers)


def declared_pairs(table: pa.Table, kinds: Mapping[str, str], notify: Callable[[str], None]) -> pa.Table:
    """The table of `paired`, its column declared: texts, where nothing else is requested or recognised."""
    (name,) = table.column_names
    kinds = {column: kind for column, kind in kinds.items() if column == name}
    found = declared(table, kinds, notify)
    return found if has_ports(found.schema) else declared(table, {name: TEXT}, notify)
