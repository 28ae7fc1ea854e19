"""Rows whose files cannot be read: named, counted, and left out up to a share of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from maas_magics.api import share
from maas_magics.api.errors import DataError
from maas_magics.core.data import media
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.masked import is_masked
from maas_magics.core.features.base import Feature
from maas_magics.core.features.declared import declared
from maas_magics.core.features.modalities import modalities, modality_of

SHOWN = 3
"""Files that are named."""

Check = Callable[[bytes], None]
"""Raises `DataError` for a file that cannot be decoded."""


class Checks(NamedTuple):
    """What checks the files of rows.

    Attributes
    ----------
    files : dict of str to callable
        What checks the files of each column that holds some.
    masked : str
        The column whose files masks are of; empty where there is none.
    mask : callable or None
        Raises `DataError` for a mask that is not one of a file.
    """

    files: dict[str, Check]
    masked: str = ""
    mask: Callable[[bytes, Any], None] | None = None


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


def checks_of(table: pa.Table, kinds: Mapping[str, str]) -> Checks:
    """What checks the files of rows.

    Parameters
    ----------
    table : pyarrow.Table
        Rows before they are split.
    kinds : mapping of str to str
        Modalities that were requested, by column; the others are recognised.
    """
    there = {name: kind for name, kind in kinds.items() if name in table.column_names}
    return checks_of_schema(declared(table, there, lambda text: None).schema)


def checks_of_schema(schema: pa.Schema) -> Checks:
    """What checks the files of columns that were declared to hold some."""
    return _checks({field.name: modality_of(field) for field in schema})


def checks_for(features: tuple[Feature, ...]) -> Checks:
    """What checks the files of fitted columns."""
    return _checks({feature.name: str(type(feature).__struct_config__.tag) for feature in features})


def _checks(kinds: Mapping[str, str]) -> Checks:
    known = {name: modalities.get(kind) for name, kind in kinds.items() if kind in modalities}
    files = {name: one.check for name, one in known.items() if one.check is not None}
    masked = next((name for name, one in known.items() if one.check_mask is not None), "")
    return Checks(files, masked, known[masked].check_mask if masked else None)


class UnreadableRows:
    """Which rows have files that cannot be read, of rows that are read a part at a time, as often as one likes.

    Parameters
    ----------
    checks : Checks
        What checks their files.
    asked : float or str
        Share of the rows that may be left out; see `share_of`.
    """

    def __init__(self, checks: Checks, asked: float | str) -> None:
        self._checks, self._share = checks, share_of(asked)
        self._bad: dict[int, str] = {}
        self._checked = 0

    def kept(self, table: pa.Table, target: Array, start: int = 0) -> Array | None:
        """Rows whose files can all be read, bool (n,); None where all can.

        Parameters
        ----------
        table : pyarrow.Table
            Rows.
        target : ndarray, shape (n, …)
            Of the rows; masks are checked as well.
        start : int
            Place of the first; those of before are not looked at again.
        """
        for row in range(max(0, self._checked - start), table.num_rows):
            if why := self._why(table, target, row, start + row):
                self._bad[start + row] = why
        self._checked = max(self._checked, start + table.num_rows)
        left = [row for row in range(table.num_rows) if start + row in self._bad] if self._bad else []
        if not left:
            return None
        kept = np.ones(table.num_rows, dtype=bool)
        kept[left] = False
        return kept

    def _why(self, table: pa.Table, target: Array, row: int, place: int) -> str:
        """Why some file of a row cannot be read; "" where all can."""
        for name, check in self._checks.files.items():
            if name in table.column_names and (why := _why_unread(table.column(name)[row].as_py(), name, place, check)):
                return why
        column, check_mask = self._checks.masked, self._checks.mask
        if check_mask is None or column not in table.column_names or not is_masked(target):
            return ""
        picture = media.file_bytes(table.column(column)[row].as_py(), column, place)
        value = target[row].value
        if isinstance(value, (list, np.ndarray)):
            return _told_by(lambda: check_mask(picture, value), f"row {place}")
        return _why_unread(value, "mask", place, partial(check_mask, picture))

    @property
    def told(self) -> str:
        """A sentence about the rows that are left out; "" where none is.

        Raises
        ------
        DataError
            If they are more than the share.
        """
        bad, rows = self._bad, self._checked
        if not bad:
            return ""
        shown = " ".join(list(bad.values())[:SHOWN])
        more = f" And {len(bad) - SHOWN:,} more." if len(bad) > SHOWN else ""
        if len(bad) > self._share * rows:
            raise DataError(
                f"{len(bad):,} of {rows:,} rows have files that cannot be read, more than {self._share:.3g}: "
                f"{shown}{more}",
                f"--max-bad {_per_cent(len(bad), rows)} leaves them out.",
            )
        are = "row is" if len(bad) == 1 else "rows are"
        return f"{len(bad):,} of {rows:,} {are} left out, for files that cannot be read: {shown}{more}"


def _why_unread(value: object, name: str, row: int, check: Check) -> str:
    """Why a file cannot be read; "" where it can, or there is none."""
    try:
        data = media.file_bytes(value, name, row)
    except DataError as error:
        return error.message
    return _told_by(lambda: check(data), media.path_of(value) or f"row {row}") if data else ""


def _told_by(check: Callable[[], None], where: str) -> str:
    try:
        check()
    except DataError as error:
        return f"{where}: {error.message.rstrip('.')}."
    return ""


def readable(table: pa.Table, target: Array, checks: Checks, asked: float | str) -> tuple[Array | None, str]:
    """Rows whose files can all be read, bool (n,), and a sentence about the others; None and "" where all can.

    Parameters
    ----------
    table : pyarrow.Table
        Rows.
    target : ndarray, shape (n, …)
        Of the rows; masks are checked as well.
    checks : Checks
        What checks their files.
    asked : float or str
        Share of the rows that may be left out; see `share_of`.

    Raises
    ------
    DataError
        If there are more.
    """
    unreadable = UnreadableRows(checks, asked)
    return unreadable.kept(table, target), unreadable.told


def _per_cent(bad: int, rows: int) -> str:
    """A share of rows that so many are within, in per cent."""
    return f"{np.ceil(1000 * bad / rows) / 10:g}%"
