"""How rows are laid out for a network: which architecture takes them, and as what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from maas_magics.core.architectures import architectures
from maas_magics.core.batches.rows import Rows
from maas_magics.core.data.arrow import is_number
from maas_magics.core.data.nested import is_listed
from maas_magics.core.data.sources.arrays import column
from maas_magics.core.features.declared import has_ports
from maas_magics.core.features.fitting import Layout
from maas_magics.core.features.profile import image_like
from maas_magics.core.losses.known import known
from maas_magics.core.networks.arguments import takes_by_name
from maas_magics.core.networks.modules import title_of

CONVOLVED = 6
"""Numbers on each side of a picture from which a convolution is worth it."""


def one_by_name(model: Any, data: Any, table: pa.Table) -> bool:
    """Whether the features are one number a row that has a name in a dict, or that a module says it takes.

    A module gets them as it gets an array: not scaled.
    """
    if isinstance(model, str) or table.num_columns != 1 or not is_number(table.schema.types[0]):
        return False
    data = data[0] if isinstance(data, tuple) and len(data) == 2 else data
    return isinstance(data, Mapping) or takes_by_name(model, table.column_names)


def as_array(rows: Rows) -> Rows:
    """The same rows, with the one number of each as an array has it."""
    name = rows.table.column_names[0]
    made = column(rows.table.column(0).to_numpy()[:, None], name)
    return replace(rows, table=pa.table({name: made}))


def by_ports(model: Any) -> bool:
    """Whether columns may reach a network by themselves: one by name that takes them, or one that is chosen."""
    return isinstance(model, str) and (model == "auto" or architectures.get(model).layout == "ports")


def layout_of(model: Any, table: pa.Table, arrays: bool) -> tuple[str, Layout]:
    """Name of the architecture for some features, or of the module's class, and what it takes.

    Columns that are arguments of a module go to them one by one, also those of a table, and so do lists of several
    lengths, which have no place beside numbers.
    """
    if isinstance(model, str):
        usual = "fusion" if has_ports(table.schema) else "cnn" if image_like(table.schema, CONVOLVED) else "tabm"
        chosen = usual if model == "auto" else model
        architecture = architectures.get(chosen)
        pictures = architecture.arrays if image_like(table.schema, 1) else None
        return chosen, pictures or architecture.layout
    uneven = any(is_listed(kind) for kind in table.schema.types)
    one_by_one = arrays or uneven or takes_by_name(model, table.column_names)
    return title_of(model), "raw" if one_by_one else "flat"


def standardises(loss: Any, named: bool, raw: bool) -> bool:
    """Whether quantities are learnt in units of their standard deviation.

    A module that gets its features as they are (``raw``) gets the target so too, and so does a loss of the user's own,
    or one that is not the same in other units.
    """
    if raw and not named:
        return False
    takes = known(loss) if callable(loss) else None
    if takes is None:
        return named or not callable(loss)
    return takes.in_any_units
