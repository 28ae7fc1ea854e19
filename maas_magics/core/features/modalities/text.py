"""Texts that are read: sentences, reviews, messages. A tokenizer makes ids of them, which a network reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import OptionError
from maas_magics.api.signature import TensorSpec
from maas_magics.core.data.arrow import Array, as_text, is_text
from maas_magics.core.features.base import Feature
from maas_magics.core.features.cleaning import normalizer, steps_of, with_cleaning
from maas_magics.core.features.fitting import FitConfig, Tell
from maas_magics.core.features.mismatch import mismatch
from maas_magics.core.features.modalities import Modality, modalities, options_of
from maas_magics.core.features.port import Port
from maas_magics.core.features.tokens import (
    PAD,
    raw_texts,
    token_counts,
    token_ids,
    tokenizer,
    train_tokenizer,
    window_ids,
)

LONGEST = 256
"""Tokens that a text is cut at."""

MOST_WINDOWS = 64
"""Windows that a text is read in."""

COUNTED = 2_000
"""Texts whose tokens are counted to say how many are cut."""

SENTENCES = 0.5
"""Share of the rows that must read like sentences, and differ, for a column to be text."""

FEWEST = 20
"""Different texts below which a column holds categories, however long they are."""

SENTENCE = r"(?:\b\p{Ll}+\b.*?){3}|[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]{8}"
"""Three words in lower case, or a run of letters of a script that puts no spaces between words."""


class TextFeature(Feature, frozen=True, kw_only=True, tag="text"):
    """Texts of any length. Those of a batch are padded to the longest of them.

    Attributes
    ----------
    tokenizer : str
        The JSON of `tokenizer.json`.
    size : int
        Different tokens.
    padding : int
        Id of the padding token.
    longest : int
        Tokens that a text is cut at, special ones included.
    clean : tuple of str
        Steps of cleaning that the tokenizer begins with; see `maas_magics.core.features.cleaning`.
    windows : int
        Windows of ``longest`` tokens that a longer text is read in, at most; the mean of their vectors is its vector.
    """

    tokenizer: str
    size: int
    padding: int = 0
    longest: int = LONGEST
    clean: tuple[str, ...] = ()
    windows: int = 1

    may_be_blank: ClassVar[bool] = True
    lazy: ClassVar[bool] = True
    ragged: ClassVar[bool] = True
    hosted: ClassVar[bool] = True

    @property
    def spec(self) -> TensorSpec:
        """Text, (n, 1)."""
        return TensorSpec(self.name, "BYTES", (-1, 1), "a text")

    @property
    def entry(self) -> TensorSpec:
        """Ids of its tokens, int64 (n, tokens); of several windows, (n, windows, tokens)."""
        told = f"ids by tokenizer.json, padded with {self.padding}"
        if self.windows == 1:
            return TensorSpec(self.name, "INT64", (-1, -1), told)
        told += f"; the first window and up to {self.windows - 1} that overflow"
        return TensorSpec(self.name, "INT64", (-1, -1, -1), told)

    @property
    def port(self) -> Port:
        """Ids of its tokens."""
        shape = (-1,) if self.windows == 1 else (-1, -1)
        return Port("text", shape, self.size, self.padding, tokenizer=self.tokenizer)

    @property
    def padded_with(self) -> float:
        """The padding token."""
        return self.padding

    def encode(self, values: pa.ChunkedArray) -> Array:
        """Texts, object (n, 1), empty for what is missing."""
        if not is_text(values.type) and not pa.types.is_null(values.type):
            raise mismatch(self.name, str(values.type), "text", "Give one text a row.")
        return np.array(_texts(values), dtype=object).reshape(-1, 1)

    def enter(self, raw: Array) -> Array:
        """Ids of the tokens of raw texts, int64 (n, tokens), padded."""
        return self._padded(self._ids(raw_texts(raw)))

    def ready(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """Ids of the tokens of each text, a list of int32 a row."""
        return pa.chunked_array([pa.array(self._ids(_texts(values)), pa.large_list(pa.int32()))])

    def entered(self, ready: pa.ChunkedArray) -> Array:
        """Ids of the tokens of some rows, int64 (n, tokens), padded."""
        return self._padded(ready.to_pylist())

    def lengths(self, ready: pa.ChunkedArray) -> Array:
        """Tokens of each row, int64 (n,)."""
        return np.asarray(pc.list_value_length(ready.combine_chunks()), dtype=np.int64)

    def sizes(self, raw: Array) -> Array:
        """Tokens of each text, of about four letters each, int64 (n,)."""
        most = self.windows * self.longest
        return np.array([min(most, 2 + len(text) // 4) for text in raw[:, 0]], dtype=np.int64)

    def entered_sizes(self, entered: Array) -> Array | None:
        """Tokens of each text, one at least, int64 (n,); of several windows, None."""
        if self.windows > 1:
            return None
        there = entered != self.padding
        return np.where(there.any(axis=1), entered.shape[1] - there[:, ::-1].argmax(axis=1), 1).astype(np.int64)

    @property
    def most_tokens(self) -> int:
        """Tokens that a row is cut at, special ones of one window included."""
        if self.windows == 1:
            return self.longest
        (special,) = token_counts(self.tokenizer, [""])
        return special + self.windows * (self.longest - special)

    def cut(self, raw: Array) -> int:
        """How many texts have more tokens than the network reads."""
        most = self.most_tokens
        long = [text for text in raw_texts(raw) if len(text) > most // 4]  # a letter has four bytes at most
        return sum(count > most for count in token_counts(self.tokenizer, long))

    def _ids(self, texts: list[str]) -> list[list[int]]:
        """Ids of the tokens of each text, those of all its windows one after the other."""
        if self.windows == 1:
            return token_ids(self.tokenizer, texts, self.longest)
        return window_ids(self.tokenizer, texts, self.longest, self.windows)

    def _padded(self, ids: list[list[int]]) -> Array:
        if self.windows > 1:
            return self._in_windows(ids)
        lengths = np.array([len(each) for each in ids], dtype=np.int64)
        found = np.full((len(ids), max(1, int(lengths.max(initial=0)))), self.padding, dtype=np.int64)
        found[np.arange(found.shape[1]) < lengths[:, None]] = [one for each in ids for one in each]
        return found

    def _in_windows(self, ids: list[list[int]]) -> Array:
        """The same by windows, int64 (n, windows, tokens)."""
        size = self.longest
        longest = max(1, *(len(each) for each in ids)) if ids else 1
        found = np.full((len(ids), -(-longest // size), min(size, longest)), self.padding, dtype=np.int64)
        for row, each in enumerate(ids):
            for place, start in enumerate(range(0, len(each), size)):
                part = each[start : start + size]
                found[row, place, : len(part)] = part
        return found

    def example(self, rows: int) -> Array:
        """Texts of a few tokens, or of several windows: one alone would be taken for a constant."""
        text = "a b c d e f" if self.windows == 1 else "a b c d e f " * self.longest
        return np.full((rows, 1), text, dtype=object)

    @property
    def files(self) -> Mapping[str, bytes]:
        """The tokenizer as the tokenizers library reads it; it cuts texts where the model does, and pads none."""
        return {"tokenizer.json": tokenizer(self.tokenizer, self.longest).to_str().encode()}

    @property
    def reader(self) -> str:
        """Tokens of texts, padded to the longest; of each window, where there are several."""
        if self.windows > 1:
            return (
                "def READ(texts):\n"
                "    found = []\n"
                '    for each in Tokenizer.from_file("tokenizer.json").encode_batch(texts):\n'
                f"        parts = (each, *each.overflowing[: {self.windows - 1}])\n"
                "        ids = [one for part in parts for one in part.ids]\n"
                f"        found.append([ids[at : at + {self.longest}] for at in range(0, len(ids), {self.longest})])\n"
                "    wide = max(1, max(len(part) for parts in found for part in parts))\n"
                f"    made = np.full((len(found), max(map(len, found)), wide), {self.padding}, dtype=np.int64)\n"
                "    for row, parts in zip(made, found):\n"
                "        for place, part in enumerate(parts):\n"
                "            row[place, : len(part)] = part\n"
                "    return made\n"
            )
        return (
            "def READ(texts):\n"
            '    ids = [each.ids for each in Tokenizer.from_file("tokenizer.json").encode_batch(texts)]\n'
            "    longest = max(1, max(map(len, ids)))\n"
            f"    return np.array([row + [{self.padding}] * (longest - len(row)) for row in ids], dtype=np.int64)\n"
        )

    @property
    def reader_imports(self) -> tuple[str, ...]:
        """The library of tokenizers."""
        return ("from tokenizers import Tokenizer",)

    def blank(self, raw: Array) -> Array:
        """Rows whose text is empty, bool (n,)."""
        return np.array([not text.strip() for text in raw[:, 0]], dtype=bool)

    def drawn(self, rows: int, random: np.random.Generator) -> Array:
        """Texts of a few tokens."""
        known = tokenizer(self.tokenizer, 0)
        ids = random.integers(0, self.size, (rows, 8))
        return np.array([known.decode(row.tolist()) for row in ids], dtype=object).reshape(-1, 1)


def _texts(values: pa.ChunkedArray) -> list[str]:
    found: list[str] = pc.fill_null(as_text(values), "").to_pylist()
    return found


class TextProfile:
    """Fits `TextFeature` to a column that was declared to be text.

    Parameters
    ----------
    field : pyarrow.Field
        Name, type and metadata of the column.
    fit : FitConfig
        May bring the tokenizer of a pretrained network.
    """

    def __init__(self, field: pa.Field, fit: FitConfig) -> None:
        self.name = field.name
        self._given: dict[str, Any] = dict(fit.given.get("text", {}))
        asked = options_of(field)
        self._clean = steps_of(asked["clean"]) if "clean" in asked else ()
        self._windows = _count(asked.get("windows", "1"))

    @classmethod
    def accepts(cls, field: pa.Field, fit: FitConfig) -> bool:
        """Only what was declared."""
        return False

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in some rows."""

    def merge(self, other: Self) -> None:
        """Take in what was found in other rows."""

    def finish(self, sample: pa.ChunkedArray, notify: Tell) -> TextFeature | None:
        """What the column is."""
        texts = _texts(sample)
        if not any(text.strip() for text in texts):
            notify(f"Column {self.name!r} is empty and is left out.")
            return None
        if not self._given and self._clean:
            clean = normalizer(self._clean)
            given = trained([clean.normalize_str(text) for text in texts])
        else:
            given = self._given or trained(texts)
        given |= {"tokenizer": with_cleaning(given["tokenizer"], self._clean)}
        found = TextFeature(self.name, **given, clean=self._clean, windows=self._windows)
        counts = np.array(token_counts(found.tokenizer, texts[:COUNTED]))
        most = found.most_tokens
        cut = int((counts > most).sum())
        if cut:
            notify(
                f"Column {self.name!r}: {cut / len(counts):.0%} of the texts are longer than {most} tokens, "
                f"and are cut there. --feature {self.name}=text(windows={2 * self._windows}) reads more of them."
            )
        return found


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= MOST_WINDOWS:
        raise OptionError(f"windows is {text!r}; 1 to {MOST_WINDOWS} were expected.", "text(windows=4)")
    return int(text)


def trained(texts: list[str], lowercase: bool = True) -> dict[str, Any]:
    """Arguments of a feature with a tokenizer that is trained on texts.

    Parameters
    ----------
    texts : list of str
        Training rows.
    lowercase : bool
        Whether upper and lower case are one.
    """
    made = train_tokenizer(texts, lowercase=lowercase)
    known = tokenizer(made, 0)
    return {"tokenizer": made, "size": known.get_vocab_size(), "padding": known.token_to_id(PAD)}


def recognise(values: pa.ChunkedArray) -> str:
    """Why a column is text: most of its values differ, and read like sentences; empty where it is not."""
    if not is_text(values.type):
        return ""
    texts = as_text(values.slice(0, COUNTED)).drop_null()
    if not len(texts) or pc.count_distinct(texts).as_py() < max(FEWEST, SENTENCES * len(texts)):
        return ""
    share = pc.mean(pc.match_substring_regex(texts, SENTENCE)).as_py()
    return "reads like sentences" if share >= SENTENCES else ""


modalities.register("text")(Modality(TextFeature, TextProfile, recognise, options=("clean", "windows")))
