"""Where rows come from. One file for each kind of source; a new file registers itself.

Every source yields `pyarrow.Table` chunks: plain columns for tables, fixed-shape-tensor
columns for arrays, and can put answers back into the library the rows came from.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError
from maas_magics.core.data.nested import is_listed, stacked, without_views
from maas_magics.core.data.vectors import listed
from maas_magics.core.registry import Registry

Answers = Mapping[str, Any]
"""numpy arrays and Arrow dictionary arrays by column."""

ARRAY = "x"
"""Column name of an unnamed array of features."""


class Source(Protocol):
    """Rows that can be read once as a whole or in chunks."""

    arrays: bool
    """Whether the rows are arrays, so that answers go back as arrays."""

    rows: int | None
    """How many, if that is known without reading."""

    def table(self) -> pa.Table:
        """All rows."""

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """All rows, in chunks.

        Parameters
        ----------
        rows : int
            Most rows of a chunk.
        """

    def restore(self, columns: Answers) -> Any:
        """Answers in the library that the rows came from.

        Parameters
        ----------
        columns : mapping of str to ndarray or pyarrow.DictionaryArray, shape (n, …)
            One entry a row; labels may be Arrow dictionaries.
        """


@runtime_checkable
class Rereadable(Source, Protocol):
    """A source outside memory, whose chunks may be read as often as one likes, in the same order."""

    def size(self) -> int:
        """Bytes that all rows take in memory, estimated without reading them."""


class Opener(Protocol):
    """A kind of source: what a module of this package registers; the one for files takes ``csv`` as well."""

    def accepts(self, data: Any) -> bool:
        """Whether it can read ``data``; must not import the library it is for.

        Parameters
        ----------
        data : Any
            What the user gave as data.
        """

    def open(self, data: Any) -> Source:
        """``data`` as a source.

        Parameters
        ----------
        data : Any
            Data that it accepts.
        """


sources: Registry[Opener] = Registry("data source", __name__, "maas_magics.sources")


def open_source(data: Any, csv: str | None = None) -> Source:
    """Source of ``data``; an open source is its own.

    Parameters
    ----------
    data : Any
        A table, arrays, a path or URL, a list of them, or a `Source`.
    csv : str, optional
        How CSV files are written: ``"sep=; decimal=, encoding=latin-1 missing=NA"``.

    Raises
    ------
    DataError
        If no registered source reads it.
    """
    if callable(getattr(data, "chunks", None)) and callable(getattr(data, "restore", None)):
        return data  # type: ignore[no-any-return]
    for name in sources:
        opener = sources.get(name)
        if opener.accepts(data):
            if csv is None:
                return opener.open(data)
            if name != "files":
                raise DataError(f"csv={csv!r} is about CSV files; this data is in memory.", "Leave it out.")
            return opener.open(data, csv)  # type: ignore[call-arg]
    refuse_sparse(data)
    raise DataError(
        f"Cannot read data of type {type(data).__module__}.{type(data).__qualname__}.",
        "Give a pandas, polars, pyarrow or duckdb table, a numpy or torch array, a dict of arrays, or a path.",
    )


def typed(source: Source, texts: Collection[str]) -> Source:
    """A source that reads the columns ``texts`` letter for letter, where its format leaves their type open.

    Parameters
    ----------
    source : Source
        Any source.
    texts : collection of str
        Names of columns that are text, such as ids with leading zeros.
    """
    method = getattr(source, "typed", None)
    return source if method is None else method(texts)


def notes_of(source: Source) -> tuple[str, ...]:
    """Notes on how a source is read, for the user.

    Parameters
    ----------
    source : Source
        Any source.
    """
    return tuple(getattr(source, "notes", ()))


def refuse_sparse(data: Any) -> None:
    """Raise `DataError` for a sparse matrix of scipy, which only its owner knows to fit into memory as an array.

    Parameters
    ----------
    data : Any
        What the user gave as data.
    """
    if not (comes_from(data, "scipy") and hasattr(data, "toarray")):
        return
    shape = " × ".join(f"{length:,}" for length in data.shape)
    size = math.prod(data.shape) * data.dtype.itemsize
    takes = f", which takes {size / 1e9:,.1f} GB" if size >= 1e8 else ""
    raise DataError(
        f"A sparse matrix ({type(data).__name__}, {shape}) is not an array of numbers, which was expected.",
        f"Give x.toarray(){takes}; or fewer columns: TruncatedSVD of scikit-learn.",
    )


def is_files(data: Any) -> bool:
    """Whether data is a path, a URL, or a list of them.

    Parameters
    ----------
    data : Any
        What the user gave as data.
    """
    return bool(sources.get("files").accepts(data))


def comes_from(data: Any, *packages: str) -> bool:
    """Whether the type of ``data``, or a base of it, is defined in one of ``packages``.

    Parameters
    ----------
    data : Any
        Any object.
    *packages : str
        Names of top-level packages.
    """
    return any(base.__module__.partition(".")[0] in packages for base in type(data).__mro__)


def plain(table: pa.Table, whole: bool = False) -> pa.Table:
    """A table of the layouts that Arrow's kernels take, and of arrays where its lists are as long in every row.

    Parameters
    ----------
    table : pyarrow.Table
        Rows as they were read.
    whole : bool
        Whether these are all rows, which alone show the length of lists whose type does not.
    """
    columns = [plain_column(column, whole) for column in table.columns]
    fields = [
        pa.field(field.name, column.type, metadata=_own(field.metadata))
        for field, column in zip(table.schema, columns, strict=True)
    ]
    return pa.table(columns, schema=pa.schema(fields))


def as_numpy(values: Any) -> np.ndarray[Any, Any]:
    """Answers as an array; labels of text as objects that are shared by the rows.

    Parameters
    ----------
    values : ndarray or pyarrow.DictionaryArray
        Answers, one entry a row.
    """
    if isinstance(values, pa.DictionaryArray):
        return np.asarray(np.array(values.dictionary.to_pylist(), dtype=object)[values.indices.to_numpy()])
    return np.asarray(values)


def as_arrow(columns: Answers) -> pa.Table:
    """Answers as an Arrow table.

    Parameters
    ----------
    columns : mapping of str to ndarray or pyarrow.DictionaryArray
        Answers, one entry a row.
    """
    return pa.table({name: _as_arrow(values) for name, values in columns.items()})


def _as_arrow(values: Any) -> Any:
    if isinstance(values, pa.DictionaryArray):
        return _undictionaried(values)
    return listed(values) if len(values) and getattr(values[0], "ndim", 0) > 1 else values


def _undictionaried(values: pa.DictionaryArray) -> pa.Array:
    return values.cast(pa.string()) if pa.types.is_large_string(values.type.value_type) else values.dictionary_decode()


def as_pandas(columns: Answers, index: Any = None) -> Any:
    """Answers as a pandas table, text as pandas' own kind where it has one.

    Parameters
    ----------
    columns : mapping of str to ndarray or pyarrow.DictionaryArray
        Answers, one entry a row.
    index : pandas.Index, optional
        Index of the table that the rows came from.
    """
    import pandas as pd

    text = pd.StringDtype(na_value=np.nan) if int(pd.__version__.partition(".")[0]) >= 3 else None
    found = {
        name: text.__from_arrow__(values.cast(pa.large_string()))
        if text is not None
        and isinstance(values, pa.DictionaryArray)
        and pa.types.is_large_string(values.type.value_type)
        else as_numpy(values)
        for name, values in columns.items()
    }
    return pd.DataFrame(found, index=index, copy=False)


def _own(metadata: Mapping[bytes, bytes] | None) -> dict[bytes, bytes] | None:
    """What we ourselves wrote about a column; what others did is of no use, and no part of its rows."""
    return {key: value for key, value in (metadata or {}).items() if key.startswith(b"maas_magics.")} or None


def plain_column(values: pa.ChunkedArray, whole: bool = False) -> pa.ChunkedArray:
    """A column as `plain` has it.

    Parameters
    ----------
    values : pyarrow.ChunkedArray
        A column as it was read.
    whole : bool
        Whether these are all rows, as in `plain`.
    """
    kind = values.type
    if pa.types.is_run_end_encoded(kind):
        decoded = pa.chunked_array([pc.run_end_decode(chunk) for chunk in values.chunks], kind.value_type)
        return plain_column(decoded, whole)
    known = without_views(kind)
    if known != kind:
        values = values.cast(known)
    return stacked(values, whole) if is_listed(known) else values
