"""Rows whose files cannot be read: named, counted, and left out up to a share of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from maas_magics.api import share
from maas_magics.api.errors import DataError
from maas_magics.core.data import media
from maas_magics.core.data.arrow import Array
from maas_magics.core.features.base import Feature
from maas_magics.core.features.declared import declared
from maas_magics.core.features.modalities import modalities, modality_of

SHOWN = 3
"""Files that are named."""

Check = Callable[[bytes], None]
"""Raises `DataError` for a file that cannot be decoded."""


def share_of(asked: float | str) -> float:
    """The share of rows that may be left out.

    Parameters
    ----------
    asked : float or str
        ``0.01`` or ``"1%"``.

    Raises
    ------
    OptionError
        If it is not a share below 1.
    """
    return share.share_of(asked, "--max-bad")


def checks_of(table: pa.Table, kinds: Mapping[str, str]) -> dict[str, Check]:
    """What checks the files of each column that holds some.

    Parameters
    ----------
    table : pyarrow.Table
        Rows before they are split.
    kinds : mapping of str to str
        Modalities that were requested, by column; the others are recognised.
    """
    there = {name: kind for name, kind in kinds.items() if name in table.column_names}
    found = {field.name: modality_of(field) for field in declared(table, there, lambda text: None).schema}
    return _checks(found)


def checks_for(features: tuple[Feature, ...]) -> dict[str, Check]:
    """What checks the files of each fitted column that holds some."""
    return _checks({feature.name: str(type(feature).__struct_config__.tag) for feature in features})


def _checks(kinds: Mapping[str, str]) -> dict[str, Check]:
    each = {name: modalities.get(kind).check for name, kind in kinds.items() if kind in modalities}
    return {name: check for name, check in each.items() if check is not None}


def readable(table: pa.Table, checks: Mapping[str, Check], asked: float | str) -> tuple[Array | None, str]:
    """Rows whose files can all be read, bool (n,), and a sentence about the others; None and "" where all can.

    Parameters
    ----------
    table : pyarrow.Table
        Rows.
    checks : mapping of str to callable
        What checks the files of a column.
    asked : float or str
        Share of the rows that may be left out; see `share_of`.

    Raises
    ------
    DataError
        If there are more.
    """
    share, bad = share_of(asked), dict[int, str]()
    for name, check in checks.items():
        if name not in table.column_names:
            continue
        for row, value in enumerate(table.column(name).to_pylist()):
            if row in bad:
                continue
            try:
                data = media.file_bytes(value, name, row)
            except DataError as error:
                bad[row] = error.message
                continue
            try:
                if data:
                    check(data)
            except DataError as error:
                bad[row] = f"{media.path_of(value) or f'row {row}'}: {error.message.rstrip('.')}."
    if not bad:
        return None, ""
    rows, shown = table.num_rows, " ".join(list(bad.values())[:SHOWN])
    more = f" And {len(bad) - SHOWN:,} more." if len(bad) > SHOWN else ""
    if len(bad) > share * rows:
        raise DataError(
            f"{len(bad):,} of {rows:,} rows have files that cannot be read, more than {share:.3g}: {shown}{more}",
            f"--max-bad {_per_cent(len(bad), rows)} leaves them out.",
        )
    kept = np.ones(rows, dtype=bool)
    kept[list(bad)] = False
    are = "row is" if len(bad) == 1 else "rows are"
    return kept, f"{len(bad):,} of {rows:,} {are} left out, for files that cannot be read: {shown}{more}"


def _per_cent(bad: int, rows: int) -> str:
    """A share of rows that so many are within, in per cent."""
    return f"{np.ceil(1000 * bad / rows) / 10:g}%"
