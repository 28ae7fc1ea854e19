"""Sentences as lists of words, each of which has an answer. A tokenizer makes ids of their pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import DataError
from maas_magics.api.signature import TensorSpec
from maas_magics.core.data.arrow import Array
from maas_magics.core.data.nested import is_listed
from maas_magics.core.data.tagged import is_lists_of_text, list_lengths
from maas_magics.core.features.base import Feature
from maas_magics.core.features.fitting import FitConfig, Tell
from maas_magics.core.features.mismatch import mismatch
from maas_magics.core.features.modalities import Modality, modalities
from maas_magics.core.features.modalities.text import COUNTED, LONGEST, trained
from maas_magics.core.features.port import Port
from maas_magics.core.features.tokens import tokenizer, word_tokens

NO_WORD, UNSEEN = -1, -2
"""In the place of a word's first token: behind the end of a sentence; of a word that has no token, or none before the
sentence is cut."""

BLANK = " "
"""An empty word within a sentence, which no tokenizer makes a token of; behind a sentence empty texts are padding."""


MOST_WORDS = 10_000
"""Words of a row: each takes memory, also behind the cut."""


class WordsFeature(Feature, frozen=True, kw_only=True, tag="words"):
    """Lists of words of any length. Those of a batch are padded to the longest of them.

    Attributes
    ----------
    tokenizer : str
        The JSON of `tokenizer.json`.
    size : int
        Different tokens.
    padding : int
        Id of the padding token.
    longest : int
        Tokens that a sentence is cut at, special ones included.
    """

    tokenizer: str
    size: int
    padding: int = 0
    longest: int = LONGEST

    may_be_blank: ClassVar[bool] = True
    lazy: ClassVar[bool] = True
    ragged: ClassVar[bool] = True
    hosted: ClassVar[bool] = True
    answered: ClassVar[bool] = True

    @property
    def spec(self) -> TensorSpec:
        """Words, (n, words)."""
        return TensorSpec(self.name, "BYTES", (-1, -1), "words, padded with empty texts")

    @property
    def entry(self) -> TensorSpec:
        """Ids of tokens, and the place of each word's first one, int64 (n, 2, tokens)."""
        told = f"ids by tokenizer.json, padded with {self.padding}; place of each word's first token, padded with -1"
        return TensorSpec(self.name, "INT64", (-1, 2, -1), told)

    @property
    def port(self) -> Port:
        """Ids, and places of words."""
        return Port("words", (2, -1), self.size, self.padding, self.longest, self.tokenizer)

    @property
    def padded_with(self) -> float:
        """The padding token."""
        return self.padding

    def encode(self, values: pa.ChunkedArray) -> Array:
        """Words, object (n, words), padded with empty texts."""
        rows = _words(self.name, values)
        found = np.full((len(rows), max(1, max(map(len, rows), default=0))), "", dtype=object)
        for place, row in enumerate(rows):
            found[place, : len(row)] = row
        return found

    def enter(self, raw: Array) -> Array:
        """Ids, and places of words, of raw rows, int64 (n, 2, tokens), of as many places as there are words or more."""
        rows = []
        for row in raw:
            texts = [text.decode(errors="replace") if isinstance(text, bytes) else text for text in row]
            count = max((place for place, text in enumerate(texts, 1) if text), default=0)
            rows.append([text or BLANK for text in texts[:count]])
        return self._padded(self._entries(rows), raw.shape[1])

    def ready(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """Ids, and places of words behind them, a list of int32 a row."""
        entries = self._entries(_words(self.name, values))
        return pa.chunked_array([pa.array([entry.ravel() for entry in entries], pa.large_list(pa.int32()))])

    def entered(self, ready: pa.ChunkedArray) -> Array:
        """Ids, and places of words, of some rows, int64 (n, 2, tokens)."""
        return self._padded([np.reshape(row, (2, -1)) for row in ready.to_pylist()], 1)

    def lengths(self, ready: pa.ChunkedArray) -> Array:
        """Tokens or words of each row, of whichever there are more, int64 (n,)."""
        return np.asarray(pc.list_value_length(ready.combine_chunks()), dtype=np.int64) // 2

    def sizes(self, raw: Array) -> Array:
        """Words of each row, padding before the last included, int64 (n,)."""
        there = raw.astype(bool)
        return np.where(there.any(axis=1), raw.shape[1] - there[:, ::-1].argmax(axis=1), 1).astype(np.int64)

    @property
    def most_tokens(self) -> int:
        """Tokens that a row is cut at."""
        return self.longest

    def cut(self, raw: Array) -> int:
        """How many rows have more tokens than `longest`."""
        rows = [[str(word) for word in row if word] for row in raw]
        return self._cut([row for row in rows if sum(map(len, row)) > self.longest // 4])

    def _cut(self, rows: Sequence[list[str]]) -> int:
        return sum(len(ids) > self.longest for ids, _ in word_tokens(self.tokenizer, rows, 0))

    def _entries(self, rows: Sequence[list[str]]) -> list[Array]:
        """Ids and places of each row, int32 (2, tokens or words); raises `DataError` for one of too many words."""
        longest = max(map(len, rows), default=0)
        if longest > MOST_WORDS:
            raise DataError(
                f"A row of {self.name!r} has {longest:,} words; {MOST_WORDS:,} at most were expected.",
                "Split it into sentences.",
            )
        found = []
        for words, (ids, of) in zip(rows, word_tokens(self.tokenizer, rows, self.longest), strict=True):
            entry = np.empty((2, max(len(ids), len(words))), dtype=np.int32)
            entry[0], entry[1] = self.padding, NO_WORD
            entry[0, : len(ids)] = ids
            entry[1, : len(words)] = UNSEEN
            for place in range(len(of) - 1, -1, -1):
                word = of[place]
                if word is not None:
                    entry[1, word] = place
            found.append(entry)
        return found

    def _padded(self, entries: Sequence[Array], least: int) -> Array:
        width = max(least, max((entry.shape[1] for entry in entries), default=0))
        found = np.empty((len(entries), 2, width), dtype=np.int64)
        found[:, 0], found[:, 1] = self.padding, NO_WORD
        for place, entry in enumerate(entries):
            found[place, :, : entry.shape[1]] = entry
        return found

    def example(self, rows: int) -> Array:
        """Sentences of a few words."""
        return np.tile(np.array(["a", "b", "c", "d", "e", "f"], dtype=object), (rows, 1))

    @property
    def files(self) -> Mapping[str, bytes]:
        """The tokenizer, as the tokenizers library reads it."""
        return {"tokenizer.json": self.tokenizer.encode()}

    @property
    def reader(self) -> str:
        """Ids of tokens of words, and where each word has its first."""
        return "def READ(sentences):\n" + self._reading()

    def _reading(self) -> str:
        """Lines that make what enters the graph of ``sentences``, lists of words."""
        return (
            '    known = Tokenizer.from_file("tokenizer.json")\n'
            "    known.no_padding()\n"
            f"    known.enable_truncation({self.longest})\n"
            "    pairs = list(zip(sentences, known.encode_batch(sentences, is_pretokenized=True)))\n"
            "    wide = max(1, *(max(len(words), len(each.ids)) for words, each in pairs))\n"
            f"    found = np.full((len(pairs), 2, wide), {NO_WORD}, dtype=np.int64)\n"
            f"    found[:, 0] = {self.padding}\n"
            "    for row, (words, each) in zip(found, pairs):\n"
            "        row[0, : len(each.ids)] = each.ids\n"
            f"        row[1, : len(words)] = {UNSEEN}\n"
            "        for place, word in reversed(list(enumerate(each.word_ids))):\n"
            "            if word is not None:\n"
            "                row[1, word] = place\n"
            "    return found\n"
        )

    @property
    def reader_imports(self) -> tuple[str, ...]:
        """The library of tokenizers."""
        return ("from tokenizers import Tokenizer",)

    def blank(self, raw: Array) -> Array:
        """Rows without a word, bool (n,)."""
        return np.array([not any(text.strip() for text in row) for row in raw], dtype=bool)

    def drawn(self, rows: int, random: np.random.Generator) -> Array:
        """Sentences of a few tokens."""
        known = tokenizer(self.tokenizer, 0)
        ids = random.integers(0, self.size, (rows, 8))
        return np.array([[known.decode([one]) or BLANK for one in row] for row in ids.tolist()], dtype=object)


def _words(name: str, values: pa.ChunkedArray) -> list[list[str]]:
    """Words of each row; a missing row has none."""
    kind = values.type
    empty = pa.types.is_null(kind) or (is_listed(kind) and not list_lengths(values).any())
    if not empty and not is_lists_of_text(kind):
        raise mismatch(name, str(kind), "lists of words", "Give a list of words a row: [['Ada', 'lives', 'here']]")
    return [[word or BLANK for word in row or ()] for row in values.to_pylist()]


class WordsProfile:
    """Fits `WordsFeature` to a column that was declared to hold words.

    Parameters
    ----------
    field : pyarrow.Field
        Name, type and metadata of the column.
    fit : FitConfig
        May bring the tokenizer of a pretrained network.
    """

    def __init__(self, field: pa.Field, fit: FitConfig) -> None:
        self.name = field.name
        self._given: dict[str, Any] = dict(fit.given.get("words", {}))

    @classmethod
    def accepts(cls, field: pa.Field, fit: FitConfig) -> bool:
        """Only what was declared."""
        return False

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in some rows."""

    def merge(self, other: Self) -> None:
        """Take in what was found in other rows."""

    def finish(self, sample: pa.ChunkedArray, notify: Tell) -> WordsFeature | None:
        """What the column is."""
        rows = _words(self.name, sample)
        if not any(word.strip() for row in rows for word in row):
            notify(f"Column {self.name!r} is empty and is left out.")
            return None
        found = WordsFeature(self.name, **(self._given or trained([" ".join(row) for row in rows], lowercase=False)))
        counted = rows[:COUNTED]
        cut = sum(len(ids) > found.longest for ids, _ in word_tokens(found.tokenizer, counted, 0))
        if cut:
            notify(
                f"Column {self.name!r}: {cut / len(counted):.0%} of the sentences are longer than {found.longest} "
                "tokens, and are cut there: words behind have the tag 'O'."
            )
        return found


def recognise(values: pa.ChunkedArray) -> str:
    """Lists of texts are words where the target has as many tags: that is found out where the target is known."""
    return ""


modalities.register("words")(Modality(WordsFeature, WordsProfile, recognise))
