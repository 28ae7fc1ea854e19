"""Rows whose target is a mask of a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.specs import DataSpec
from maas_magics.core.batches.prepare import Rows
from maas_magics.core.features.base import Feature
from maas_magics.core.features.declared import declared, has_ports
from maas_magics.core.features.fitting import FitConfig
from maas_magics.core.features.masked import as_masks, void_of
from maas_magics.core.features.modalities import modality_of
from maas_magics.core.features.profile import TableProfile


def has_pictures(rows: Rows, data: DataSpec) -> bool:
    """Whether some column holds files that reach a network by themselves."""
    return has_ports(declared(rows.table, data.feature, lambda text: None).schema)


def with_masks(
    data: DataSpec,
    model: Any,
    train: Rows,
    held: Rows | None,
    name: str,
    notify: Callable[[str], None],
) -> tuple[Rows, Rows | None, int | None]:
    """The column of pictures alone, with masks as arrays as their target; and the label that is ignored.

    Parameters
    ----------
    data : DataSpec
    model : Any
        As requested.
    train, held : Rows
    name : str
        Of the target.
    notify : callable
        Gets a sentence about columns that are left out.

    Raises
    ------
    DataError
        If no column holds pictures, or a mask cannot be read.
    OptionError
        If several do, or a module of the user's is to be trained.
    """
    if not isinstance(model, str):
        raise OptionError("Masks in files are learnt by an architecture by name.", "--model unet, or give arrays.")
    table = declared(train.table, data.feature, lambda text: None)
    columns = [field.name for field in table.schema if modality_of(field) == "image"]
    if len(columns) != 1:
        raise DataError(
            f"The target {name!r} holds masks; one column of pictures was expected, "
            + (f"and {', '.join(map(repr, columns))} hold some." if columns else "and no column holds any."),
            f"--features {columns[0]}" if columns else "--feature COLUMN=image",
        )
    column = columns[0]
    left = [other for other in table.column_names if other != column]
    if left:
        notify(f"Masks are made of pictures alone; left out: {', '.join(map(repr, left))}.")
    schema = table.select(columns).schema
    fitted = TableProfile(schema, FitConfig("ports"))
    feature: Feature = fitted.finish(table.select(columns), lambda text: None, {}).features[0]

    def laid(rows: Rows) -> Rows:
        if column not in rows.table.column_names:
            raise DataError(f"The validation data has no column {column!r}.", "--validation 0.2")
        pictures = rows.table.column(column)
        return replace(rows, table=rows.table.select(columns), target=as_masks(feature, pictures, rows.target, name))

    train = laid(train)
    height, width = train.target.shape[1:]
    notify(
        f"Masks are answered at {height} × {width} pixels, as pictures are seen: --feature {column}=image(size=128)."
    )
    return train, None if held is None else laid(held), void_of(train.target)
