"""Texts that are continued: what a model reads, and then writes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maas_magics.api.errors import OptionError
from maas_magics.api.signature import TensorSpec
from maas_magics.core.data.arrow import Array, as_text, is_text
from maas_magics.core.data.prose import Part
from maas_magics.core.features.base import Feature
from maas_magics.core.features.chat import opening, rendered, turns
from maas_magics.core.features.fitting import FitConfig, Tell
from maas_magics.core.features.mismatch import mismatch
from maas_magics.core.features.modalities import Modality, modalities
from maas_magics.core.features.port import Port
from maas_magics.core.features.tokens import tokenizer


class ProseFeature(Feature, frozen=True, kw_only=True, tag="prose"):
    """Texts of any length, as ids of tokens from which they can be written again.

    Attributes
    ----------
    tokenizer : str
        The JSON of `tokenizer.json`.
    size : int
        Different tokens that the network knows.
    begin : int or None
        Id of the token that stands before a text; None where there is none.
    ends : tuple of int
        Ids of tokens that end a text; the first of them stands behind one.
    block : int
        Tokens that the network reads at most.
    template : str
        Jinja template of a conversation, as in ``tokenizer_config.json``; empty where it was trained on none.
    """

    tokenizer: str
    size: int
    begin: int | None
    ends: tuple[int, ...]
    block: int
    template: str = ""

    hosted: ClassVar[bool] = True

    @property
    def spec(self) -> TensorSpec:
        """Text, (n, 1)."""
        return TensorSpec(self.name, "BYTES", (-1, 1), "a text to continue")

    @property
    def entry(self) -> TensorSpec:
        """Ids of tokens, and their places, int32 (n, 2, tokens)."""
        return TensorSpec(self.name, "INT32", (-1, 2, -1), "ids by tokenizer.json, and the place of each in its text")

    @property
    def port(self) -> Port:
        """Ids of tokens, and their places."""
        return Port("prose", (2, -1), self.size, longest=self.block)

    def encode(self, values: pa.ChunkedArray) -> Array:
        """Texts, object (n, 1), empty for what is missing."""
        if not is_text(values.type) and not pa.types.is_null(values.type):
            raise mismatch(self.name, str(values.type), "text", "Give one text a row.")
        return np.array(pc.fill_null(as_text(values), "").to_pylist(), dtype=object).reshape(-1, 1)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of the tokens of some texts, none before them or behind.

        Parameters
        ----------
        texts : sequence of str
            Any texts.
        """
        made = tokenizer(self.tokenizer, 0).encode_batch_fast(list(texts), add_special_tokens=False)
        return [each.ids for each in made]

    def prompt(self, text: str) -> list[int]:
        """Ids of a text that is to be continued.

        Parameters
        ----------
        text : str
            Any text.
        """
        (ids,) = self.ids([text])
        return ids if self.begin is None or ids[:1] == [self.begin] else [self.begin, *ids]

    def conversation(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = (), calls: bool = False
    ) -> str:
        """The text of a conversation, up to where an answer begins.

        Parameters
        ----------
        messages : sequence of mapping
            Each with its ``role`` and ``content``.
        tools : sequence of mapping
            Functions that may be called, as OpenAI's API describes them.
        calls : bool
            Whether the answer is to be a call of one of them.

        Raises
        ------
        DataError
            If they are not a conversation, or the template refuses them or knows no tools.
        """
        text = rendered(self.template, messages, True, self._names, tools)
        return text + opening(self.template) if calls else text

    def turns(self, messages: Sequence[Mapping[str, Any]]) -> list[Part]:
        """A conversation in parts, of which a network learns what the assistant says.

        Parameters
        ----------
        messages : sequence of mapping
            Each with its ``role`` and ``content``.
        """
        return turns(self.template, messages, self._names)

    @property
    def _names(self) -> dict[str, str]:
        """What a template may name."""
        known = tokenizer(self.tokenizer, 0)
        return {
            "bos_token": "" if self.begin is None else known.id_to_token(self.begin),
            "eos_token": known.id_to_token(self.ends[0]) if self.ends else "",
        }

    def enter(self, raw: Array) -> Array:
        """Ids of tokens and their places, int32 (n, 2, tokens), the last ones of long texts, padded with the end."""
        rows = [self.prompt(text)[-self.block :] for text in raw[:, 0]]
        found = np.zeros((len(rows), 2, max([1, *map(len, rows)])), dtype=np.int32)
        for made, ids in zip(found, rows, strict=True):
            made[0, : len(ids)], made[1] = ids, np.arange(made.shape[1])
        return found

    @property
    def files(self) -> Mapping[str, bytes]:
        """The tokenizer, as the tokenizers library reads it."""
        return {"tokenizer.json": self.tokenizer.encode()}

    def blank(self, raw: Array) -> Array:
        """No row: an empty text can be continued as well."""
        return np.zeros(len(raw), dtype=bool)

    def drawn(self, rows: int, random: np.random.Generator) -> Array:
        """Texts of a few tokens."""
        known = tokenizer(self.tokenizer, 0)
        ids = random.integers(0, self.size, (rows, 8))
        return np.array([known.decode(row.tolist()) for row in ids], dtype=object).reshape(-1, 1)


class ProseProfile:
    """Refuses a column that was declared to be of this kind: a task says what is continued.

    Parameters
    ----------
    field : pyarrow.Field
        Name, type and metadata of the column.
    fit : FitConfig
        What it is fitted for.
    """

    def __init__(self, field: pa.Field, fit: FitConfig) -> None:
        raise OptionError(f"--feature {field.name}=prose is what --task language makes of a text.", "--task language")

    @classmethod
    def accepts(cls, field: pa.Field, fit: FitConfig) -> bool:
        """No column."""
        return False

    def add(self, values: pa.ChunkedArray) -> None:
        """Take in some rows."""

    def merge(self, other: Self) -> None:
        """Take in what was found in other rows."""

    def finish(self, sample: pa.ChunkedArray, notify: Tell) -> ProseFeature | None:
        """Nothing."""


modalities.register("prose")(Modality(ProseFeature, ProseProfile))
