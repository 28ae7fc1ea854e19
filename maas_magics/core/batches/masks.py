"""Rows whose target is a mask of a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from maas_magics.api.errors import DataError, OptionError
from maas_magics.api.specs import DataSpec
from maas_magics.core.batches.rows import Rows
from maas_magics.core.features.base import Feature
from maas_magics.core.features.declared import declared, has_ports
from maas_magics.core.features.fitting import FitConfig
from maas_magics.core.features.masked import as_masks, void_of
from maas_magics.core.features.modalities import modality_of
from maas_magics.core.features.profile import TableProfile


def has_pictures(rows: Rows, data: DataSpec) -> bool:
    """Whether some column holds files that reach a network by themselves."""
    return has_ports(declared(rows.table, data.feature, lambda text: None).schema)


@dataclass(frozen=True)
class MaskLayout:
    """How masks lie on the pictures that they are of.

    Attributes
    ----------
    column : str
        Of the pictures.
    feature : Feature
        That column, as the network sees it.
    name : str
        Of the target.
    """

    column: str
    feature: Feature
    name: str

    def __call__(self, rows: Rows, first: int = 0) -> Rows:
        """The column of pictures alone, with class numbers of each pixel as the target.

        Parameters
        ----------
        rows : Rows
        first : int
            Place of the first, for errors.

        Raises
        ------
        DataError
            If a mask cannot be read, or the rows have no such column.
        """
        if self.column not in rows.table.column_names:
            raise DataError(f"The validation data has no column {self.column!r}.", "--validation 0.2")
        found = as_masks(self.feature, rows.table.column(self.column), rows.target, self.name, first)
        return replace(rows, table=rows.table.select([self.column]), target=found)

    def tell(self, notify: Callable[[str], None]) -> None:
        """Say how large the masks are that are answered."""
        height, width = self.feature.shape[1:]
        notify(
            f"Masks are answered at {height} × {width} pixels, as pictures are seen: "
            f"--feature {self.column}=image(size=128)."
        )


def mask_layout(data: DataSpec, model: Any, table: pa.Table, name: str, notify: Callable[[str], None]) -> MaskLayout:
    """How masks lie on the pictures of some rows.

    Parameters
    ----------
    data : DataSpec
    model : Any
        As requested.
    table : pyarrow.Table
        Rows without their target.
    name : str
        Of the target.
    notify : callable
        Gets a sentence about columns that are left out.

    Raises
    ------
    DataError
        If no column holds pictures.
    OptionError
        If several do, or a module of the user's is to be trained.
    """
    if not isinstance(model, str):
        raise OptionError("Masks in files are learnt by an architecture by name.", "--model unet, or give arrays.")
    table = declared(table, data.feature, lambda text: None)
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
    fitted = TableProfile(table.select(columns).schema, FitConfig("ports"))
    return MaskLayout(column, fitted.finish(table.select(columns), lambda text: None, {}).features[0], name)


def not_of_pixels(chosen: str) -> OptionError:
    """The error for an architecture that has one answer a row."""
    return OptionError(f"{chosen} answers a row, and not each pixel of a picture.", "--model unet")


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
        If a mask cannot be read; and as `mask_layout`.
    """
    laid = mask_layout(data, model, train.table, name, notify)
    train = laid(train)
    laid.tell(notify)
    return train, None if held is None else laid(held), void_of(np.unique(train.target))
