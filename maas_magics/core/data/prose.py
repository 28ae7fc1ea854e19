"""Texts to learn a language from: of files, of a column, of two, or conversations; with the part that is learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError
from maas_magics.core.data.arrow import as_text, is_text
from maas_magics.core.data.media import OPENS
from maas_magics.core.data.sources import open_source

SUFFIXES = (".txt", ".md", ".text")
"""Of files that hold nothing but text."""

PIECE = 8_000
"""Letters from which on a file is parted at its next empty line, so that some of it can be held out."""

TEXT = "text"

USUAL = 256
"""Tokens of an answer to a row at most, where nothing is said."""


class Part(NamedTuple):
    """A part of a text.

    Attributes
    ----------
    text : str
    learnt : bool
        Whether a network learns to write it, and does not only read it.
    """

    text: str
    learnt: bool


def prose_table(data: Any, csv: str | None) -> pa.Table:
    """Rows with texts.

    Parameters
    ----------
    data : Any
        Files of text, texts in a list, or anything a source reads.
    csv : str or None
        How CSV files are written.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    files = _files(data)
    if files:
        return pa.table({TEXT: [piece for file in files for piece in _pieces(file)]})
    if isinstance(data, (list, tuple)) and data and all(isinstance(one, str) for one in data):
        return pa.table({TEXT: list(data)})
    return open_source(data, csv).table()


def _files(data: Any) -> list[Path]:
    """Files of text that are named, if it is such names."""
    each = data if isinstance(data, (list, tuple)) else [data]
    if not each or not all(isinstance(one, (str, Path)) for one in each):
        return []
    paths = [Path(one).expanduser() for one in each if len(str(one)) < 4_096 and "\n" not in str(one)]
    if len(paths) == len(each) == 1 and paths[0].is_dir():
        paths = sorted(path for path in paths[0].rglob("*") if path.suffix.lower() in SUFFIXES)
    elif len(paths) < len(each) or not all(path.suffix.lower() in SUFFIXES for path in paths):
        return []
    if not OPENS.get():
        raise DataError("The service opens no files by their paths.", "Send the texts.")
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None and len(each) == 1:
        raise DataError(f"There is no file {str(missing)!r}.", "Check the path.")
    return paths if missing is None else []


def _pieces(file: Path) -> Iterator[str]:
    """A file's text, parted at empty lines."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{str(file)!r} is not UTF-8: {error.reason} at byte {error.start:,}.", "Convert it.") from None
    start = 0
    while start < len(text):
        end = text.find("\n\n", start + PIECE)
        end = len(text) if end < 0 else end + 2
        yield text[start:end]
        start = end


def columns_of(table: pa.Table, features: Sequence[str], target: str | None) -> tuple[str, ...]:
    """Names of the columns that are texts: one, or a prompt and its answer.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    features : sequence of str
        Those that were named; none where none was.
    target : str or None
        The answer's, where it was named.

    Raises
    ------
    DataError
        If there is none, or several might be meant.
    """
    for name in (*features, *((target,) if target else ())):
        if name not in table.column_names:
            raise DataError(f"The data has no column {name!r}.", f"There is: {', '.join(table.column_names[:12])}.")
        if not holds_prose(table.column(name).type):
            kind = table.column(name).type
            raise DataError(f"The column {name!r} holds {kind}; texts or conversations were expected.", "")
    there = [name for name in table.column_names if holds_prose(table.column(name).type)]
    if target and not features and there == [target]:  # the only text is what is learnt, and not an answer to another
        return (target,)
    named = list(features) or [name for name in there if name != target]
    if not named:
        raise DataError("No column holds texts or conversations.", "A language is learnt from a column of texts.")
    if len(named) > 1:
        shown = ", ".join(map(repr, named[:5]))
        raise DataError(
            f"There are several columns of texts: {shown}.", f"--features {named[0]}, or --target ANSWER too"
        )
    return (named[0], target) if target else (named[0],)


def holds_prose(kind: pa.DataType) -> bool:
    """Whether a column holds texts, or conversations: lists of messages with a role and a content."""
    return is_text(kind) or is_conversation(kind)


def is_conversation(kind: pa.DataType) -> bool:
    """Whether a column holds lists of messages, each with its ``role`` and ``content``."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    one = kind.value_type
    return pa.types.is_struct(one) and {"role", "content"} <= {one.field(at).name for at in range(one.num_fields)}


def texts_of(values: pa.ChunkedArray) -> list[str]:
    """Texts of a column, empty for what is missing."""
    found: list[str] = pc.fill_null(as_text(values), "").to_pylist()
    return found


def prompts_of(table: pa.Table, known: str, asked: str | None) -> list[Any]:
    """Texts to continue, and the messages of conversations.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    known : str
        Column that the model learnt from: where it is there, it is meant; else the only one of texts.
    asked : str or None
        Column that was named.

    Raises
    ------
    DataError
        If no column holds prompts.
    """
    there = [name for name in table.column_names if holds_prose(table.column(name).type)]
    name = asked or (known if known in there else there[0] if len(there) == 1 else "")
    if name not in table.column_names:
        shown = ", ".join(map(repr, table.column_names[:8]))
        raise DataError(
            f"The data has no column {name!r} of prompts; there is {shown}."
            if name
            else f"No column is {known!r}, which the model continues; there is {shown}.",
            "--column NAME",
        )
    values = table.column(name)
    if name not in there and not pa.types.is_null(values.type):
        raise DataError(f"The column {name!r} holds {values.type}; texts were expected.", "--column NAME of texts")
    if is_conversation(values.type):
        return [messages or [] for messages in values.to_pylist()]
    return texts_of(values)


def before_answer(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A conversation up to what the assistant said last, where that is its end: it is what is to be written.

    Parameters
    ----------
    messages : list of dict
        Each with its ``role`` and ``content``.
    """
    end = len(messages)
    while end > 1 and messages[end - 1].get("role") == "assistant":
        end -= 1
    return messages[:end]


def held_out(rows: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from, and held-out ones: one of each at least where there are two."""
    order = np.random.default_rng(seed).permutation(rows)
    held = min(max(round(rows * share), int(share > 0)), max(rows - 1, 0))
    return np.sort(order[held:]), np.sort(order[:held])


def documents(
    table: pa.Table, names: Sequence[str], turns: Callable[[Sequence[Mapping[str, Any]]], list[Part]]
) -> list[list[Part]]:
    """Texts of some rows, in parts that are learnt and others that are read.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    names : sequence of str
        Of the columns: texts, or prompts and answers.
    turns : callable
        From the messages of a conversation to its parts.
    """
    if is_conversation(table.column(names[0]).type):
        return [turns(messages or []) for messages in table.column(names[0]).to_pylist()]
    first = texts_of(table.column(names[0]))
    if len(names) == 1:
        return [[Part(text, True)] for text in first]
    return [
        [Part(prompt, False), Part(answer, True)]
        for prompt, answer in zip(first, texts_of(table.column(names[1])), strict=True)
    ]
