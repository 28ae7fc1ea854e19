"""What a search asks, and what it finds."""

# No annotations from the future: as texts they would take twice as long to read.
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from maas_magics.api.options import option
from maas_magics.api.requests import Model
from maas_magics.api.specs import Csv, Data
from maas_magics.api.tables import html_table, text_table

SHOWN = 80
"""Letters of a text that are shown."""

BESIDE = 4
"""Other columns that are shown."""


class SearchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a table that are most like a text.

    Attributes
    ----------
    model : str
        ``NAME``, ``NAME:3`` or ``NAME@alias`` of a model that answers vectors.
    query : Any
        A text, or several.
    data : Any
        A table, a list of texts, or a path or URL.
    k : int
        Rows for each query, at least 1.
    column : str or None
        Column of the table that is searched; when None the second of the pairs that the model was trained on, else the
        first of them, else the only column.
    csv : str or None
        As in `maas_magics.api.requests.TrainRequest`.
    """

    model: Model
    query: Annotated[Any, option("a text in quotes, or a variable with one or several", "QUERY", "query", reads="rows")]
    data: Data
    k: Annotated[int, option("rows for each query", "K", "--k", "-k")] = 10
    column: Annotated[str | None, option("column that is searched", "COLUMN", offer="columns_only")] = None
    csv: Csv = None


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that a search found, the most alike first.

    Attributes
    ----------
    model : str
        ``name:version``.
    column : str
        Column that was searched.
    queries : tuple of str
        Texts that rows were looked for.
    table : Any
        Arrow table of the rows that were found, those of each query one after the other: ``query``, the text, where
        there are several; ``row``, the place in the table that was searched; ``score``, the cosine, from -1 to 1; and
        its columns.
    """

    model: str
    column: str
    queries: tuple[str, ...]
    table: Any

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.table.to_pylist())

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame."""
        return self.table.to_pandas()

    def _cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Head and rows for display."""
        lead = [name for name in ("query", "row", "score") if name in self.table.column_names[:3]]
        others = [name for name in self.table.column_names[len(lead) :] if name != self.column]
        names = [*lead, self.column, *others[:BESIDE]]
        rows = [tuple(_shown(row[name]) for name in names) for row in self.table.to_pylist()]
        return tuple(names), rows

    def __repr__(self) -> str:
        head, rows = self._cells()
        what = f"{self.queries[0]!r}" if len(self.queries) == 1 else f"{len(self.queries):,} queries"
        return f"<SearchResult {self.model} · {what}>\n{text_table(rows, head)}"

    def _repr_html_(self) -> str:
        head, rows = self._cells()
        what = f": {_shown(self.queries[0])}" if len(self.queries) == 1 else f", {len(self.queries):,} queries"
        return html_table(rows, f"{self.model}{what}", head)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = " ".join(str("" if value is None else value).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
