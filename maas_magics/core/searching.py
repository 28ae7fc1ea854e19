"""Search: the rows of a table whose vectors are nearest to that of a text, by the cosine."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError, OptionError, did_you_mean
from maas_magics.api.results import ModelInfo
from maas_magics.api.search import SearchRequest, SearchResult
from maas_magics.core.data.arrow import Array, as_text, is_text
from maas_magics.core.data.sources import as_numpy, is_files, open_source
from maas_magics.core.store.sample import digest

KEPT = 256 * 2**20
"""Bytes of vectors that are kept for later searches."""

BLOCK = 2**24
"""Scores that are computed at once."""

Ask = Callable[[pa.Table], Any]
"""From texts, as the one column that a model takes, to its answers, (n, d)."""


class Vectors:
    """Vectors of tables that were searched, by model and digest, the newest within a bound.

    Parameters
    ----------
    most : int
        Bytes that are kept.
    """

    def __init__(self, most: int = KEPT) -> None:
        self._most, self._kept = most, OrderedDict[tuple[str, str], Array]()

    def of(self, model: str, texts: pa.Array, ask: Callable[[pa.Array], Array]) -> Array:
        """Vectors of texts, of length 1, float32 (n, d), asked for where they are not there.

        Parameters
        ----------
        model : str
            ``name:version``.
        texts : pyarrow.Array
            Different texts, n.
        ask : callable
            Makes them.
        """
        key = model, digest(pa.table({"": texts}))
        found = self._kept.get(key)
        if found is None:
            found = ask(texts)
            if found.nbytes <= self._most:
                self._kept[key] = found
        if key in self._kept:
            self._kept.move_to_end(key)
        while sum(each.nbytes for each in self._kept.values()) > self._most:
            self._kept.popitem(last=False)
        return found


def search(request: SearchRequest, info: ModelInfo, ask: Ask, kept: Vectors) -> SearchResult:
    """The rows of a table that are most like each query.

    Parameters
    ----------
    request : SearchRequest
        Query and table.
    info : ModelInfo
        The model, which takes one text and answers vectors.
    ask : callable
        Asks it.
    kept : Vectors
        Of tables before.

    Raises
    ------
    OptionError
        If the model answers no vectors, or ``k`` is below 1.
    DataError
        If the table has no such column, or no text, or a query is empty.
    """
    inputs = info.signature.inputs
    if len(inputs) != 1 or inputs[0].datatype != "BYTES" or not _makes_vectors(info):
        raise OptionError(
            f"{info.ref} does not make vectors of texts, which a search compares.",
            "%train NAME --task embedding --pairs question,answer",
        )
    if request.k < 1:
        raise OptionError(f"k is {request.k}; at least 1 was expected.", "-k 10")
    queries = _queries(request.query)
    table = _table(request.data, request.csv)
    column = _column(table, request.column, (*reversed(info.target), inputs[0].name))
    texts = pc.fill_null(as_text(table.column(column)).cast(pa.large_string()), "")
    coded = texts.combine_chunks().dictionary_encode()
    there = np.flatnonzero(np.asarray(pc.not_equal(pc.utf8_trim_whitespace(texts), "")))
    if not len(there):
        raise DataError(f"The column {column!r} holds no text.", "--column NAME")

    def asked(of: pa.Array) -> Array:
        return normalised(as_numpy(ask(pa.table({inputs[0].name: of}))))

    vectors = kept.of(info.ref, coded.dictionary, asked)
    rows, scores = nearest(
        asked(pa.array(queries, pa.large_string())), vectors, coded.indices.to_numpy()[there], request.k
    )
    found = table.take(pa.array(there[rows.ravel()]))
    several = [("query", pa.array(np.repeat(np.array(queries, dtype=object), rows.shape[1])))]
    lead = [*(several if len(queries) > 1 else []), ("row", pa.array(there[rows.ravel()]))]
    columns = [*lead, ("score", pa.array(scores.ravel().astype(np.float64)))]
    columns += [(name, found.column(name)) for name in table.column_names]
    names = _names([name for name, _ in columns], len(columns) - table.num_columns)
    return SearchResult(
        model=info.ref,
        column=names[len(columns) - table.num_columns + table.column_names.index(column)],
        queries=tuple(queries),
        table=pa.Table.from_arrays([values for _, values in columns], names=names),
    )


def nearest(queries: Array, vectors: Array, codes: Array, k: int) -> tuple[Array, Array]:
    """Places of the rows nearest to each query, and their cosines, the largest first, of equal ones the first.

    Parameters
    ----------
    queries : ndarray, shape (q, d)
        Vectors of length 1.
    vectors : ndarray, shape (m, d)
        The same, of the different values of the rows.
    codes : ndarray, shape (n,)
        Which of them each row has.
    k : int
        Rows for each query, at most n.

    Returns
    -------
    rows : ndarray, shape (q, k)
        Of type int64.
    scores : ndarray, shape (q, k)
        Of type float32.
    """
    k = min(k, len(codes))
    rows, scores = np.empty((len(queries), k), dtype=np.int64), np.empty((len(queries), k), dtype=np.float32)
    size = max(1, BLOCK // len(codes))
    for start in range(0, len(queries), size):
        every = (queries[start : start + size] @ vectors.T)[:, codes]
        for place, found in enumerate(every, start):
            least = np.partition(found, len(found) - k)[len(found) - k]
            among = np.flatnonzero(found >= least)
            order = among[np.argsort(-found[among], kind="stable")][:k]
            rows[place], scores[place] = order, found[order]
    return rows, scores


def normalised(vectors: Array) -> Array:
    """Vectors (n, d) of length 1, float32; those of zeros stay so.

    Raises
    ------
    DataError
        If they are none.
    """
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise DataError(f"The model answers {vectors.dtype} of shape {vectors.shape}; vectors were expected.", "")
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), dtype=np.float32)


def _makes_vectors(info: ModelInfo) -> bool:
    """Whether a model answers vectors: it says so, or is one of another server that answers one array of numbers."""
    outputs = info.signature.outputs
    plain = not info.target and not info.classes and len(outputs) == 1
    return info.vector or (plain and outputs[0].datatype.startswith("FP") and len(outputs[0].shape) == 2)


def _queries(query: Any) -> list[str]:
    found = [query] if isinstance(query, str) else list(query) if hasattr(query, "__iter__") else [query]
    if not found or not all(isinstance(text, str) and text.strip() for text in found):
        raise DataError("A query is empty, or is not a text.", '%maas search NAME "a text" --data table')
    return [str(text) for text in found]


def _table(data: Any, csv: str | None) -> pa.Table:
    """Rows of a table, or of one text each."""
    shape = getattr(data, "shape", ())
    texts = isinstance(data, (list, tuple)) or (len(shape) == 1 and not hasattr(data, "columns"))
    if texts and not is_files(data):
        called = getattr(data, "name", None)
        data = {called if isinstance(called, str) and called else "text": np.array(list(data), dtype=object)}
    table = open_source(data, csv).table()
    if not table.num_rows:
        raise DataError("The table has no rows.", "Give at least one row to search.")
    return table


def _column(table: pa.Table, wanted: str | None, usual: Sequence[str]) -> str:
    names = [field.name for field in table.schema if is_text(field.type) or pa.types.is_dictionary(field.type)]
    if wanted is not None and wanted not in table.column_names:
        raise DataError(f"There is no column {wanted!r}.", did_you_mean(wanted, table.column_names))
    if wanted is not None and wanted not in names:
        raise DataError(f"The column {wanted!r} holds {table.schema.field(wanted).type}, not texts.", "--column NAME")
    found = wanted or next((name for name in usual if name in names), names[0] if len(names) == 1 else None)
    if found is None:
        raise DataError(f"The table has {len(names)} columns of texts: {', '.join(names[:8])}.", "--column NAME")
    return found


def _names(names: list[str], lead: int) -> list[str]:
    """Names of columns, those of the table's that are called as ours with a mark behind."""
    ours = set(names[:lead])
    return [*names[:lead], *(f"{name}_" if name in ours else name for name in names[lead:])]
