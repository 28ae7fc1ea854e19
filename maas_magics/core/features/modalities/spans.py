"""Texts whose entities are spans of letters: each word of a text has an answer, by where it stands in it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.signature import TensorSpec
from maas_magics.core.data.arrow import Array, as_text, is_text
from maas_magics.core.features.fitting import Tell
from maas_magics.core.features.mismatch import mismatch
from maas_magics.core.features.modalities import Modality, modalities
from maas_magics.core.features.modalities.words import MOST_WORDS, WordsFeature, WordsProfile, recognise
from maas_magics.core.features.tokens import ALONE, raw_texts, words_of


class SpansFeature(WordsFeature, frozen=True, kw_only=True, tag="spans"):
    """Texts of any length, read word by word."""

    answered: ClassVar[bool] = False
    spanned: ClassVar[bool] = True

    @property
    def spec(self) -> TensorSpec:
        """Text, (n, 1)."""
        return TensorSpec(self.name, "BYTES", (-1, 1), "a text")

    @property
    def entry(self) -> TensorSpec:
        """Ids of tokens, and the place of each word's first one, int64 (n, 2, tokens)."""
        entry = super().entry
        told = f"{entry.meaning}; words by the library's BertPreTokenizer, and letters of Chinese, Japanese and Thai"
        return TensorSpec(self.name, entry.datatype, entry.shape, told)

    @property
    def answer(self) -> TensorSpec:
        """What a model of it answers to each text."""
        return TensorSpec("prediction", "BYTES", (-1, 1), "JSON: start, end, label and score of each span")

    def encode(self, values: pa.ChunkedArray) -> Array:
        """Texts, object (n, 1), empty for what is missing."""
        return np.array(_texts(self.name, values), dtype=object).reshape(-1, 1)

    def enter(self, raw: Array) -> Array:
        """Ids, and places of words, of raw texts, int64 (n, 2, tokens)."""
        return self._padded(self._entries([_split(text) for text in raw_texts(raw)]), 1)

    def ready(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """Ids, and places of words behind them, a list of int32 a row."""
        entries = self._entries([_split(text) for text in _texts(self.name, values)])
        return pa.chunked_array([pa.array([entry.ravel() for entry in entries], pa.large_list(pa.int32()))])

    def cut(self, raw: Array) -> int:
        """How many texts have more tokens than `longest`."""
        return self._cut([_split(text) for text in raw_texts(raw) if len(text) > self.longest // 4])

    def sizes(self, raw: Array) -> Array:
        """Words of each text, of about four letters each, int64 (n,)."""
        return np.array([2 + len(text) // 4 for text in raw[:, 0]], dtype=np.int64)

    @property
    def reader(self) -> str:
        """The same of the words of texts; each word gets a tag: B- begins a span, I- is within."""
        return (
            f"ALONE = pre_tokenizers.Split(Regex({ALONE!r}), 'isolated')\n"
            "SPLIT = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), ALONE])\n"
            "\n"
            "\n"
            "def READ(texts):  # the answer is a tag for each word: B- begins a span, I- is within one\n"
            "    sentences = [[word for word, _ in SPLIT.pre_tokenize_str(text)] for text in texts]\n" + self._reading()
        )

    @property
    def reader_imports(self) -> tuple[str, ...]:
        """The library of tokenizers."""
        return ("from tokenizers import Regex, Tokenizer, pre_tokenizers",)

    def blank(self, raw: Array) -> Array:
        """Rows whose text is empty, bool (n,)."""
        return np.array([not text.strip() for text in raw[:, 0]], dtype=bool)

    def example(self, rows: int) -> Array:
        """Texts of a few words."""
        return np.full((rows, 1), "a b c d e f", dtype=object)

    def drawn(self, rows: int, random: np.random.Generator) -> Array:
        """Texts of a few tokens."""
        words = super().drawn(rows, random)
        return np.array([" ".join(row) for row in words], dtype=object).reshape(-1, 1)


class SpansProfile(WordsProfile):  # numpydoc ignore=PR01
    """Fits `SpansFeature` to a column of texts whose spans are learnt."""

    def finish(self, sample: pa.ChunkedArray, notify: Tell) -> SpansFeature | None:
        """What the column is."""
        rows = [_split(text) for text in _texts(self.name, sample)]
        found = super().finish(pa.chunked_array([pa.array(rows, pa.list_(pa.string()))]), notify)
        if found is None:
            return None
        return SpansFeature(**{name: getattr(found, name) for name in found.__struct_fields__})


def _split(text: str) -> list[str]:
    return [word for word, _, _ in words_of(text)[:MOST_WORDS]]


def _texts(name: str, values: pa.ChunkedArray) -> list[str]:
    if not is_text(values.type) and not pa.types.is_null(values.type):
        raise mismatch(name, str(values.type), "text", "Give one text a row.")
    found: list[str] = pc.fill_null(as_text(values), "").to_pylist()
    return found


modalities.register("spans")(Modality(SpansFeature, SpansProfile, recognise))
